"""Weights as safetensors files whose header says what they are; by default those of the pack.

The header holds the file's kind, its architecture as JSON, and where it came from. So no number
has to be guessed, and nothing has to be unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sfhq.errors import IntegrityError, UsageError
from sfhq.images import write_atomic
from sfhq.weights.header import MAX_HEADER, PACK, sorted_header
from stylegan2_ops.generator import Generator, GeneratorConfig

MOST_SIZE = 8192  # of a width or a side; published networks have up to 1024
MOST_BASE = 2**20  # `channel_base`; published generators have up to 65536
MOST_TOKENS = 2**20  # `vocabulary`; published ones have up to 262,144
COUNTS = ("mapping_layers", "num_ws", "depths", "depth")  # numbers of layers
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """A weights file, read.

    Attributes:
        path: the file.
        kind: what it is, such as "generator" or "e4e".
        architecture: numbers that build the network.
        state: float32 tensors by name.
        digest: sha256 of the file.
        notes: other header entries.
    """

    path: Path
    kind: str
    architecture: dict[str, Any]
    state: dict[str, Tensor]
    digest: str
    notes: dict[str, str]


def pack_path(kind: str) -> Path:
    """The embedded pack's file of a kind."""
    return PACK / f"{kind}.safetensors"


@lru_cache(maxsize=16)
def _digest(path: Path, _size: int, _mtime: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file, remembered while its size and time stay the same."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


def save_checkpoint(
    path: Path,
    kind: str,
    architecture: Mapping[str, Any],
    state: Mapping[str, Tensor],
    notes: Mapping[str, str] | None = None,
    half: bool = False,
) -> None:
    """Write a network as safetensors, atomically.

    Args:
        path: the file to write.
        kind: what it is.
        architecture: numbers that build the network.
        state: its tensors.
        notes: other facts for the header.
        half: store floats of more than one dimension as float16, half the size.
    """
    from safetensors.torch import save

    tensors = {}
    for name, value in state.items():
        tensor = value.detach().cpu()
        if half and tensor.is_floating_point() and tensor.ndim > 1:
            tensor = tensor.half()
        tensors[name] = tensor.contiguous().clone()
    header = {
        "kind": kind,
        "architecture": json.dumps(dict(architecture), sort_keys=True),
        **(notes or {}),
    }
    write_atomic(path, sorted_header(save(tensors, metadata=header)))


def _refuse_foreign(path: Path, kind: str) -> None:
    """Refuse a file whose content is not safetensors, and say how to convert it."""
    if not path.is_file():
        advice = "leave the option out for the embedded pack"
        if path.parent == PACK:
            advice = f"this installation has no embedded pack; give --{kind} FILE"
        raise UsageError(f"{path}: no such weights file; {advice}")
    with open(path, "rb") as file:
        start = file.read(8)
    if int.from_bytes(start, "little") <= min(MAX_HEADER, path.stat().st_size) and len(start) == 8:
        return
    if start.startswith((b"PK\x03\x04", b"\x80")):
        what = "a PyTorch checkpoint" if start.startswith(b"PK") else "a pickle"
        raise IntegrityError(
            f"{path}: {what}, which may run code when it is read; convert it once with: "
            f"sfhq models convert {path} {path.with_suffix('.safetensors').name}"
        )
    raise IntegrityError(
        f"{path}: not a safetensors file; wanted one written by sfhq train or sfhq models convert"
    )


def read_header(path: Path, kind: str) -> dict[str, str]:
    """The header of a file that `save_checkpoint` wrote, without its tensors.

    Raises:
        UsageError, IntegrityError: as `read_checkpoint`.
    """
    from safetensors import safe_open

    _refuse_foreign(path, kind)
    try:
        with safe_open(path, framework="pt") as opened:
            return dict(opened.metadata() or {})
    except Exception as error:
        raise IntegrityError(f"{path}: damaged weights file ({type(error).__name__})") from None


def read_checkpoint(path: Path, kind: str) -> Checkpoint:
    """Read a file that `save_checkpoint` wrote.

    Raises:
        UsageError: there is no such file.
        IntegrityError: it is no safetensors file, of another kind, or holds numbers that are not
            finite.
    """
    from safetensors import safe_open

    _refuse_foreign(path, kind)
    try:
        with safe_open(path, framework="pt") as opened:
            header = dict(opened.metadata() or {})
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except Exception as error:
        raise IntegrityError(f"{path}: damaged weights file ({type(error).__name__})") from None
    if header.get("kind") != kind or "architecture" not in header:
        raise IntegrityError(
            f"{path}: holds {header.get('kind', 'an unknown network')!r}; wanted {kind!r}"
        )
    for name, value in state.items():
        # A sum in float64 is finite only where all numbers are, and takes no further memory.
        if value.is_floating_point() and not value.sum(dtype=torch.float64).isfinite():
            raise IntegrityError(
                f"{path}: {name} has numbers that are not finite; fetch or train these weights "
                "again"
            )
    floats = {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}
    try:
        architecture = json.loads(header.pop("architecture"))
        if not isinstance(architecture, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise IntegrityError(
            f"{path}: its header's architecture is no JSON table; wanted one written by sfhq train"
        ) from None
    return Checkpoint(path, header.pop("kind"), architecture, floats, file_digest(path), header)


def save_generator(
    path: Path, generator: Generator, notes: Mapping[str, str] | None = None, half: bool = False
) -> None:
    """Write a generator with its configuration."""
    save_checkpoint(
        path, "generator", generator.config.to_dict(), generator.state_dict(), notes, half
    )


def require_fit(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose names or shapes are not a network's.

    Args:
        network: may be on the meta device, where it takes no memory.
        state: tensors by name.
    """
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise IntegrityError(
                f"{name}: shape {given.get(name, 'none')}; wanted {wanted.get(name, 'none')}"
            )


def load_generator(path: Path | None = None) -> tuple[Generator, str]:
    """A generator in eval mode and the sha256 of its file.

    Args:
        path: a safetensors file; None for the embedded pack.
    """
    checkpoint = read_checkpoint(path or pack_path("generator"), "generator")
    generator = build_network(checkpoint, lambda sizes: Generator(GeneratorConfig(**sizes)))
    return generator, checkpoint.digest


def build_network(
    checkpoint: Checkpoint,
    network_of: Callable[[dict[str, Any]], Network],
    state: Mapping[str, Tensor] | None = None,
) -> Network:
    """The network that a checkpoint holds, in eval mode and without gradients.

    Sizes are checked, and tensors compared with an outline that takes no memory, before anything is
    built.

    Args:
        checkpoint: the file, read.
        network_of: builds the network of an architecture.
        state: its tensors; None for all of the checkpoint.

    Raises:
        IntegrityError: the tensors are not those of the architecture.
    """
    tensors = checkpoint.state if state is None else state
    try:
        check_sizes(checkpoint.architecture, len(tensors))
        with torch.device("meta"):
            outline = network_of(checkpoint.architecture)
        require_fit(outline, tensors)
        network = network_of(checkpoint.architecture)
        network.load_state_dict(dict(tensors))
    except (
        *(RuntimeError, TypeError, ValueError, LookupError),
        *(OverflowError, AttributeError, IntegrityError),
    ) as error:
        raise IntegrityError(
            f"{checkpoint.path}: damaged: tensors and architecture disagree: "
            f"{str(error).splitlines()[-1]}"
        ) from None
    return network.eval().requires_grad_(False)


def check_sizes(architecture: Mapping[str, Any], tensors: int) -> None:
    """Refuse numbers of an architecture that no network has, before anything is built of them.

    Args:
        architecture: numbers by name; of tables and lists each number counts.
        tensors: how many the file holds; a network has no more layers than that.

    Raises:
        ValueError: names the first number.
    """
    for name, value in _numbers(architecture):
        most = {"channel_base": MOST_BASE, "vocabulary": MOST_TOKENS}.get(name, MOST_SIZE)
        if name in COUNTS:
            most = max(tensors, 1)
        if not (math.isfinite(value) if isinstance(value, float) else 0 <= value <= most):
            raise ValueError(f"{name} is {value!s:.40}; wanted a number up to {most}")


def _numbers(architecture: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    waiting: list[tuple[str, Any]] = list(architecture.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.items())
        elif isinstance(value, list):
            waiting.extend((name, v) for v in value)
        elif isinstance(value, int | float):
            yield name, value
