"""Inert replacements for the names in a pickle of weights: numbers, containers and records.

`CALLS` lists every function that a pickle may call. Each is our own replacement, and none does
more than return a result. `stylegan2_ops.foreign.unpickle` refuses every other name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

MAX_DIMS = 8
MAX_KEY = 2**60  # larger integers can be chosen so that all have the same hash
ENTRY = 64  # approximate bytes per entry of a container


class BadCheckpoint(ValueError):
    """A weights file is damaged, hostile or of an unsupported kind; the message is one line.

    Args:
        message: may quote the file. Characters that cannot be printed become question marks, so
            that a name in the file can neither break the line nor control the terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else "?" for c in message))


def first_line(error: Exception) -> str:
    """The first line of an error's message, at most 120 characters."""
    return (str(error).splitlines() or [""])[0][:120]


@dataclass(frozen=True)
class Name:
    """A global name in a pickle."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class Record:
    """Stands for an object of a foreign class: the name of the class and its state."""

    name: str
    state: Any = None


@dataclass(frozen=True)
class Storage:
    """A flat array of numbers, the memory of tensors."""

    values: Tensor


@dataclass
class Dtype:
    """A numpy dtype: kind and size, such as "f4", and byte order."""

    code: str
    order: str = "="

    def numpy(self) -> np.dtype[Any]:
        """The same as a numpy dtype."""
        order = {"|": "=", "": "="}.get(self.order, self.order)
        return np.dtype(order + self.code)


@dataclass
class Array:
    """An array under construction; the pickle's instruction BUILD fills it in."""

    value: np.ndarray[Any, np.dtype[Any]] | None = None


# The classes of the published networks. A pickle holds the source code of each; it is never read.
NETWORK_CLASSES = frozenset(
    {
        "Generator",
        "MappingNetwork",
        "SynthesisNetwork",
        "SynthesisBlock",
        "SynthesisLayer",
        "ToRGBLayer",
        "FullyConnectedLayer",
        "Conv2dLayer",
        "Discriminator",
        "DiscriminatorBlock",
        "DiscriminatorEpilogue",
        "MinibatchStdLayer",
        "AugmentPipe",
        "SynthesisInput",  # StyleGAN3's, so that the error can name StyleGAN3
    }
)
NUMPY_CODES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})
STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
KEYS = (str, int, float, bytes, type(None))


class Machine(Protocol):
    """The part of the stack machine that the functions in `CALLS` use."""

    def spend(self, size: int) -> None:
        """Count bytes that a call allocates, because a pickle can repeat a call without end."""

    @property
    def load_bytes(self) -> Callable[[bytes], Any]:
        """Function that reads the stream in a pickled torch storage."""


def shown(value: Any, length: int = 20) -> str:
    """A value as text for a message; a container only by its type, since it may be endless."""
    if isinstance(value, str):
        return value[:length]
    if isinstance(value, int) and abs(value) >= MAX_KEY:
        return "a huge number"
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    return f"a {type(value).__name__}"


def _is_key(value: Any) -> bool:
    return isinstance(value, KEYS) and not (isinstance(value, int) and abs(value) >= MAX_KEY)


def set_items(target: Any, items: list[Any]) -> None:
    """Put items, which are keys and values in turn, into a dictionary.

    Raises:
        BadCheckpoint: `target` is not a dictionary, or a key is neither text, bytes, None nor a
            number of usual size.
    """
    if not isinstance(target, dict) or len(items) % 2:
        raise BadCheckpoint("damaged: puts entries into something that is not a dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not _is_key(key):
            raise BadCheckpoint(
                f"has a dictionary with keys such as {shown(key)!r}; wanted text or small numbers"
            )
        target[key] = value


def members(values: Any) -> list[Any]:
    """The members of a set.

    Raises:
        BadCheckpoint: a member is neither text, bytes, None nor a number of usual size.
    """
    found = list(values) if isinstance(values, list | tuple | set | frozenset) else [values]
    if not all(_is_key(value) for value in found):
        raise BadCheckpoint("has a set of objects; wanted text or small numbers")
    return found


def as_tensor(value: Any) -> Tensor:
    """Turn a value from a pickle into a tensor.

    Args:
        value: a tensor, an array or a number. The tensor of an array shares its memory.

    Raises:
        BadCheckpoint: `value` is something else.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Array) and value.value is not None:
        return torch.from_numpy(value.value)
    if isinstance(value, int | float):
        return torch.tensor(float(value))
    raise BadCheckpoint(f"has a {type(value).__name__}; wanted a tensor")


def make_array(
    machine: Machine, raw: Any, dtype: Any, shape: Any, order: str
) -> np.ndarray[Any, np.dtype[Any]]:
    """Make an array from bytes, in this machine's byte order.

    Args:
        machine: counts the bytes.
        raw: the bytes, or the same as Latin-1 text.
        dtype: a `Dtype`.
        shape: sizes, at most 8.
        order: "C" or "F".

    Raises:
        BadCheckpoint: the number of bytes does not match the shape, or an argument is no such.
    """
    if isinstance(raw, str | bytes | bytearray):
        machine.spend(len(raw))
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    if not isinstance(dtype, Dtype) or not isinstance(raw, bytes | bytearray):
        raise BadCheckpoint("has an array of objects; wanted numbers")
    sizes = _sizes(shape)
    needed = _count(sizes) * dtype.numpy().itemsize
    if needed != len(raw):
        raise BadCheckpoint(
            f"damaged: an array of shape {sizes} has {len(raw):,} bytes; wanted {needed:,}"
        )
    flat = np.frombuffer(bytearray(raw), dtype.numpy())
    flat = flat.astype(flat.dtype.newbyteorder("="), copy=False)
    return flat.reshape(sizes, order="F" if order == "F" else "C")


def _sizes(shape: Any) -> tuple[int, ...]:
    whole = isinstance(shape, tuple | list) and len(shape) <= MAX_DIMS
    if not whole or not all(type(size) is int and 0 <= size < 2**40 for size in shape):
        raise BadCheckpoint(
            f"damaged: a tensor has an impossible shape; wanted at most {MAX_DIMS} sizes"
        )
    return tuple(shape)


def _count(sizes: tuple[int, ...]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _call_rebuild(
    machine: Machine, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
) -> Tensor:
    """`torch._utils._rebuild_tensor_v2`: a view of a storage, checked to lie inside it."""
    if not isinstance(storage, Storage):
        raise BadCheckpoint("damaged: a tensor has no storage")
    sizes, steps = _sizes(shape), _sizes(strides)
    held = storage.values.numel()
    if type(offset) is not int or offset < 0 or len(sizes) != len(steps):
        raise BadCheckpoint("damaged: a tensor has an impossible layout")
    last = offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if _count(sizes) > held or (_count(sizes) and last >= held):
        raise BadCheckpoint(
            f"damaged: a tensor of shape {sizes} does not fit its storage of {held:,} numbers"
        )
    return storage.values.as_strided(sizes, steps, offset)


def _call_parameter(machine: Machine, data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise BadCheckpoint("damaged: a parameter has no tensor")
    return data


def _call_load_bytes(machine: Machine, data: Any) -> Any:
    if not isinstance(data, bytes | bytearray):
        raise BadCheckpoint("damaged: a storage does not consist of bytes")
    machine.spend(len(data))
    return machine.load_bytes(bytes(data))


def _call_persistent_class(machine: Machine, meta: Any) -> Record:
    """An object of NVlabs' persistence format: its source code is dropped, its state is kept."""
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise BadCheckpoint("has a persistent object of an unknown kind; wanted a class")
    name = meta.get("class_name")
    if not isinstance(name, str) or name not in NETWORK_CLASSES:
        raise BadCheckpoint(
            f"has a persistent object of class {shown(name, 80)!r}; wanted a class of StyleGAN2"
        )
    return Record(name, meta.get("state"))


def _call_dict(machine: Machine, items: Any = (), *_: Any) -> dict[Any, Any]:
    if not isinstance(items, dict | list | tuple):
        raise BadCheckpoint("damaged: makes a dictionary from something that is not a list")
    machine.spend(ENTRY * len(items))
    made: dict[Any, Any] = {}
    for item in items.items() if isinstance(items, dict) else items:
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise BadCheckpoint("damaged: a dictionary's entry is not a pair")
        set_items(made, list(item))
    return made


def _call_set(machine: Machine, values: Any = ()) -> set[Any]:
    if isinstance(values, list | tuple | set | frozenset):
        machine.spend(ENTRY * len(values))
    return set(members(values))


def _call_bytes(machine: Machine) -> bytes:
    return b""  # protocol 2 writes empty bytes as this call


def _call_encode(machine: Machine, text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise BadCheckpoint("has text of an unknown encoding; wanted latin1")
    machine.spend(len(text))
    return text.encode("latin1")


def _call_dtype(machine: Machine, code: Any, *_: Any) -> Dtype:
    code = "b1" if code == "?" else code
    if not isinstance(code, str) or code.lstrip("<>=|") not in NUMPY_CODES:
        raise BadCheckpoint(
            f"has an array of dtype {shown(code)!r}; wanted numbers of 1 to 8 bytes"
        )
    return Dtype(code.lstrip("<>=|"))


def _call_scalar(machine: Machine, dtype: Any, raw: Any) -> float:
    return float(make_array(machine, raw, dtype, (), "C"))


def _call_reconstruct(machine: Machine, kind: Any, *_: Any) -> Array:
    if not isinstance(kind, Name) or str(kind) != "numpy.ndarray":
        raise BadCheckpoint("has an array of a foreign class; wanted numpy.ndarray")
    return Array()


def _call_from_buffer(
    machine: Machine, raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None
) -> Array:
    if order == "K" and axes is not None:  # since numpy 2.3: axes sorted by their strides
        if sorted(_sizes(axes)) != list(range(len(_sizes(shape)))):
            raise BadCheckpoint("damaged: an array has an impossible layout")
        return Array(make_array(machine, raw, dtype, shape, "C").transpose(axes))
    return Array(make_array(machine, raw, dtype, shape, "F" if order == "F" else "C"))


def _call_device(machine: Machine, *_: Any) -> Record:
    return Record("torch.device")  # ignored: all tensors are read to the CPU


CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _call_rebuild,
    "torch._utils._rebuild_parameter": _call_parameter,
    "torch.storage._load_from_bytes": _call_load_bytes,
    "torch_utils.persistence._reconstruct_persistent_obj": _call_persistent_class,
    "collections.OrderedDict": _call_dict,
    "dnnlib.util.EasyDict": _call_dict,
    "builtins.set": _call_set,
    "__builtin__.set": _call_set,
    "builtins.frozenset": _call_set,
    "__builtin__.frozenset": _call_set,
    "builtins.bytes": _call_bytes,
    "__builtin__.bytes": _call_bytes,
    "_codecs.encode": _call_encode,
    "numpy.dtype": _call_dtype,
    "torch.device": _call_device,
    "torch.Size": lambda machine, sizes=(): _sizes(sizes),
}
for _module in ("numpy.core", "numpy._core"):
    CALLS[f"{_module}.multiarray.scalar"] = _call_scalar
    CALLS[f"{_module}.multiarray._reconstruct"] = _call_reconstruct
    CALLS[f"{_module}.numeric._frombuffer"] = _call_from_buffer
DICTS = frozenset({"dnnlib.util.EasyDict", "collections.OrderedDict"})
RECORDS = frozenset({"dnnlib.tflib.network.Network", "argparse.Namespace"})
ALLOWED = frozenset(CALLS) | DICTS | RECORDS | {"numpy.ndarray"}
ALLOWED |= {f"torch.{name}" for name in STORAGES}
