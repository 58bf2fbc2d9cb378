"""Weights files that are hostile or broken, each by name; some would write a canary if run."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from foreign import (
    Network,
    Persistent,
    foreign_modules,
    write_nvlabs,
    write_rosinality,
    write_tensorflow,
    zip_of,
)
from tiny import tiny_generator


class Call:
    """An object that pickles as a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments, state)

    def __reduce__(self) -> Any:
        function, arguments, state = self.parts
        return (function, arguments) if state is None else (function, arguments, state)


def touch(canary: Path) -> Call:
    """A call that writes the canary."""
    return Call(os.mkdir, str(canary))


def text(value: str) -> bytes:
    """The instruction that pushes text."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def blob(value: bytes) -> bytes:
    """The instruction that pushes bytes."""
    return b"B" + struct.pack("<I", len(value)) + value


def program(*parts: bytes) -> bytes:
    """A pickle of protocol 4 without frames."""
    return b"\x80\x04" + b"".join(parts) + b"."


def line(module: str, name: str) -> bytes:
    """The instruction that names a global, in its text form."""
    return f"c{module}\n{name}\n".encode()


def run_by(module: str, name: str, *arguments: bytes) -> bytes:
    """A pickle that calls a function of two names with pushed arguments."""
    return program(line(module, name), b"(", *arguments, b"tR")


def nested(data: bytes) -> bytes:
    """A pickle whose storage is a stream of its own."""
    return run_by("torch.storage", "_load_from_bytes", blob(data))


def stream(value: bytes, keys: bytes = b"]", after: bytes = b"") -> bytes:
    """torch's old stream around an object's pickle."""
    parts = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join(parts) + value + program(keys) + after


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    """The instructions that push a storage."""
    return b"".join(
        [b"(", text("storage"), line("torch", kind), text(key), text("cpu"), number(count), b"tQ"]
    )


def number(value: int) -> bytes:
    """The instruction that pushes a whole number."""
    raw = value.to_bytes(16, "little", signed=True)
    return b"\x8a\x10" + raw


def tensor(count: int, offset: int, sizes: list[int], steps: list[int]) -> bytes:
    """The instructions that push a tensor of a storage."""
    shape = b"(" + b"".join(number(n) for n in sizes) + b"t"
    strides = b"(" + b"".join(number(n) for n in steps) + b"t"
    rest = number(offset) + shape + strides + b"\x89}"
    return line("torch._utils", "_rebuild_tensor_v2") + b"(" + storage("0", count) + rest + b"tR"


def archive(data: bytes, more: dict[str, bytes] | None = None, folder: str = "archive") -> bytes:
    """torch's archive around a pickle, with a storage of four numbers."""
    files = {f"{folder}/data.pkl": data, f"{folder}/version": b"3\n"}
    return zip_of(files | {f"{folder}/data/0": struct.pack("<4f", 1, 2, 3, 4)} | (more or {}))


def view(count: int, offset: int, sizes: list[int], steps: list[int]) -> bytes:
    """An archive of one tensor."""
    return archive(program(b"}", text("a"), tensor(count, offset, sizes, steps), b"s"))


def tar_of(*entries: tuple[str, bytes, bytes]) -> bytes:
    """A tar archive of (name, type, link)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, link in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link.decode()
            tar.addfile(info)
    return buffer.getvalue()


def persistent(canary: Path, **change: Any) -> bytes:
    """A persistent object whose source would write the canary, with a part of it changed."""
    thing = Persistent("Generator", {"_parameters": {}, "_buffers": {}, "_modules": {}}, canary)
    thing.meta.update(change)
    with foreign_modules():
        return pickle.dumps({"G_ema": thing})


def snapshot(canary: Path) -> bytes:
    """A sound snapshot, to be broken."""
    path = canary.with_suffix(".sound")
    return write_nvlabs(path, tiny_generator(), canary).read_bytes()


def sound_archive(canary: Path) -> bytes:
    """A sound archive, to be broken."""
    return write_rosinality(canary.with_suffix(".sound"), tiny_generator()).read_bytes()


def sound_stream(canary: Path) -> bytes:
    """A sound old stream, to be broken."""
    path = canary.with_suffix(".sound")
    return write_rosinality(path, tiny_generator(), archive=False).read_bytes()


def networks(canary: Path, state: Any) -> bytes:
    """A TensorFlow tuple with some state."""
    with foreign_modules():
        return pickle.dumps((Network(state), Network(state), Network(state)), 3)


def endless() -> bytes:
    """Modules that hold themselves."""
    inner = (
        line("torch_utils.persistence", "_reconstruct_persistent_obj")
        + b"("
        + b"}q\x01"
        + text("type")
        + text("class")
        + b"s"
        + text("class_name")
        + text("Generator")
        + b"s"
        + text("state")
        + b"}q\x02"
        + text("_modules")
        + b"}q\x03s"
        + b"s"
        + b"tRq\x04"
    )
    loop = b"h\x03" + text("again") + b"h\x04s0"
    return program(b"}", text("G_ema"), inner, b"s", loop)


def calls(canary: Path) -> dict[str, bytes]:
    """Pickles that Python's own unpickler would run to the canary."""
    here = str(canary)
    command = f"mkdir {here}"
    code = f"__import__('os').mkdir({here!r})"
    plain = {
        "os.system": run_by("os", "system", text(command)),
        "posix.system": run_by("posix", "system", text(command)),
        "os.mkdir": pickle.dumps(touch(canary)),
        "builtins.eval": run_by("builtins", "eval", text(code)),
        "builtins.exec": run_by("builtins", "exec", text(code)),
        "__builtin__.eval in protocol 2": b"\x80\x02c__builtin__\neval\n(" + text(code) + b"tR.",
        "subprocess.call": run_by("subprocess", "call", b"(", text("mkdir"), text(here), b"l"),
        "runpy": run_by("runpy", "_run_code", text(code), b"}"),
        "timeit": run_by("timeit", "timeit", text(code)),
        "a name put together": program(
            text("posix"), text("system"), b"\x93", text(command), b"\x85R"
        ),
        "a name from the memo": program(
            text("posix"), b"\x940", text("system"), b"\x940h\x00h\x01\x93", text(command), b"\x85R"
        ),
        "a dotted name": program(text("os"), text("path.os.mkdir"), b"\x93", text(here), b"\x85R"),
        "map, and list to draw from it": program(
            line("builtins", "list"),
            b"(",
            line("builtins", "map"),
            b"(",
            line("os", "mkdir"),
            b"(",
            text(here),
            b"ltR",
            b"tR",
        ),
        "functools.partial": program(
            line("functools", "partial"), b"(", line("os", "mkdir"), text(here), b"tR", b")R"
        ),
        "getattr of a module": program(
            line("builtins", "getattr"),
            b"(",
            line("builtins", "__import__"),
            text("os"),
            b"\x85R",
            text("mkdir"),
            b"tR",
            text(here),
            b"\x85R",
        ),
        "operator.methodcaller": program(
            line("operator", "methodcaller"),
            b"(",
            text("mkdir"),
            text(here),
            b"tR",
            line("builtins", "__import__"),
            text("os"),
            b"\x85R",
            b"\x85R",
        ),
        "INST": b"(S'" + command.encode() + b"'\niposix\nsystem\n.",
        "OBJ": b"(cposix\nsystem\nS'" + command.encode() + b"'\no.",
        "BUILD that sets a hook": program(
            line("types", "SimpleNamespace"),
            b")R",
            b"}",
            text("x"),
            run_by("os", "mkdir", text(here))[2:-1],
            b"sb",
        ),
        "a call among the keys": program(b"}", run_by("os", "mkdir", text(here))[2:-1], b"Ns"),
        "a call behind a sound value": program(b"}0", run_by("os", "mkdir", text(here))[2:-1]),
    }
    return plain


def hostile(canary: Path) -> dict[str, bytes]:
    """Every file by name."""
    call = pickle.dumps(touch(canary), 2)
    found = {f"call: {name}": data for name, data in calls(canary).items()}
    sound, packed, old = snapshot(canary), sound_archive(canary), sound_stream(canary)
    found |= {
        "storage: a pickle within": nested(call),
        "storage: an old stream that calls": nested(stream(call)),
        "storage: an archive that calls": nested(archive(call)),
        "storage: a stream in a stream": nested(stream(nested(stream(call)))),
        "storage: no bytes": run_by("torch.storage", "_load_from_bytes", b"]"),
        "storage: an old stream, magic number wrong": nested(pickle.dumps(1) + call),
        "archive: data.pkl calls": archive(call),
        "archive: two data.pkl": archive(program(b"}"), {"other/data.pkl": call}),
        "archive: data.pkl deeper": zip_of({"a/b/data.pkl": call}),
        "archive: a path that climbs": archive(program(b"}"), {"archive/../../evil": b"x"}),
        "archive: an absolute path": archive(program(b"}"), {"/etc/evil": b"x"}),
        "archive: compressed": zip_of({"archive/data.pkl": call}, zipfile.ZIP_DEFLATED),
        "archive: a bomb": zip_of(
            {"archive/data.pkl": program(b"}"), "archive/data/0": bytes(50_000_000)},
            zipfile.ZIP_DEFLATED,
        ),
        "archive: TorchScript": archive(program(b"}"), {"archive/constants.pkl": call}),
        "archive: no data.pkl": zip_of({"readme.txt": b"hello"}),
        "archive: a storage of another length": view(7, 0, [7], [1]),
        "archive: a missing storage": archive(
            program(b"}", text("a"), tensor(4, 0, [4], [1]).replace(text("0"), text("9")), b"s")
        ),
        "archive: a storage by a path": archive(
            program(b"}", text("a"), tensor(4, 0, [4], [1]).replace(text("0"), text("../x")), b"s")
        ),
        "archive: big-endian": archive(program(b"}"), {"archive/byteorder": b"big"}),
        "archive: a persistent id of another kind": archive(program(text("mkdir"), b"Q")),
        "tensor: huge shape": view(4, 0, [2**40, 2**40], [1, 1]),
        "tensor: huge by stride 0": view(4, 0, [100_000, 100_000], [0, 0]),
        "tensor: beyond its storage": view(4, 2, [4], [1]),
        "tensor: negative offset": view(4, -1, [2], [1]),
        "tensor: negative stride": view(4, 3, [2], [-1]),
        "tensor: negative size": view(4, 0, [-4], [1]),
        "tensor: size that overflows": view(4, 0, [2**63], [1]),
        "tensor: too many dimensions": view(4, 0, [1] * 70, [1] * 70),
        "tensor: strides for other dimensions": view(4, 0, [2, 2], [1]),
        "tensor: without a storage": archive(
            program(line("torch._utils", "_rebuild_tensor_v2"), b"(N", b"tR")
        ),
        "stream: object calls": stream(call),
        "stream: version of another time": pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + pickle.dumps(7, 2),
        "stream: promises more than it has": stream(
            program(tensor(2**33, 0, [4], [1])), b"(" + text("0") + b"l"
        ),
        "stream: keys call": stream(program(b"}"), run_by("os", "mkdir", text(str(canary)))[2:-1]),
        "stream: cut in the numbers": old[:-20],
        "stream: cut in the object": old[: len(old) // 8],
        "snapshot: an unknown class": persistent(canary, class_name="Exploit"),
        "snapshot: a class name that is code": persistent(canary, class_name="Generator;exec"),
        "snapshot: a class name that is no text": persistent(canary, class_name=["Generator"]),
        "snapshot: a function": persistent(canary, type="func"),
        "snapshot: a state that calls": persistent(canary, state={"_modules": touch(canary)}),
        "snapshot: a source that calls": persistent(canary, module_src=touch(canary)),
        "snapshot: no modules": persistent(canary, state=None),
        "snapshot: modules that hold themselves": endless(),
        "snapshot: parameters that are text": persistent(
            canary, state={"_parameters": {"w": "text"}, "_buffers": {}, "_modules": {}}
        ),
        "snapshot: cut": sound[: len(sound) // 2],
        "snapshot: cut at its end": sound[:-1],
        "tensorflow: a source to build from, no variables": networks(
            canary, {"version": 4, "build_module_src": f"import os; os.mkdir({str(canary)!r})"}
        ),
        "tensorflow: variables of objects": networks(
            canary, {"version": 4, "variables": [("w", object())]}
        ),
        "tensorflow: no state": networks(canary, 5),
        "names: NEWOBJ of a class": program(line("subprocess", "Popen"), b")\x81"),
        "names: NEWOBJ_EX": program(line("subprocess", "Popen"), b")}\x92"),
        "names: EXT": program(b"\x82\x01"),
        "names: persistent id in text": program(b"Pmkdir\n"),
        "names: persistent id": program(text("mkdir"), b"Q"),
        "names: a class of ours": run_by("sfhq.parts.part", "Part", text("/")),
        "names: a submodule that is not on the list": run_by("torch._utils", "_rebuild", b"N"),
        "names: torch.load": run_by("torch", "load", text("/etc/passwd")),
        "names: numpy.load": run_by("numpy", "load", text("/etc/passwd")),
        "names: codecs with another codec": run_by("_codecs", "encode", text("x"), text("zlib")),
        "names: codecs.decode": run_by("_codecs", "decode", blob(b"x"), text("zlib")),
        "names: storage as a function": run_by("torch", "FloatStorage", number(2**40)),
        "names: no name": program(b"N", b"N", b"\x93"),
        "numpy: an array of objects": pickle.dumps(_objects()),
        "numpy: a dtype of objects": run_by("numpy", "dtype", text("O8")),
        "numpy: a structure": run_by("numpy", "dtype", text("V8")),
        "numpy: a dtype by a list": run_by("numpy", "dtype", b"]"),
        "numpy: more shape than bytes": _array((1_000_000, 1_000_000), b"1234"),
        "numpy: another class of array": run_by(
            "numpy.core.multiarray", "_reconstruct", line("numpy", "dtype"), b")", blob(b"b")
        ),
        "machine: nothing on the stack": program(b"0"),
        "machine: no mark": program(b"t"),
        "machine: a mark as a value": program(b"("),
        "machine: an empty memo": program(b"h\x07"),
        "machine: items of a number": program(b"K\x01K\x02a"),
        "machine: keys that are lists": program(b"}]Ns"),
        "machine: keys nested without end": program(b"}", b")" + b"\x85" * 200_000, b"Ns"),
        "machine: a set of tuples": program(b"\x8f(", b")\x85", b"\x90"),
        "machine: too many instructions": program(b"N0" * 600_000, b"N"),
        "machine: a length beyond the file": b"\x80\x04B\xff\xff\xff\x7fabc",
        "machine: a length of 2^63": b"\x80\x04\x8e" + struct.pack("<Q", 2**63) + b"abc",
        "machine: an instruction that is none": b"\x80\x04\xff.",
        "machine: a number of endless digits": b"\x80\x02L" + b"9" * 100_000 + b"L\n.",
        "machine: a call of a number": program(b"K\x01)R"),
        "machine: state of a list": program(b"]}b"),
        "machine: billion laughs": program(
            b"]", b"".join(b"q%c](" % i + b"h%c" % i * 10 + b"e" for i in range(1, 30))
        ),
        "machine: nested without end": program(b"]" * 400_000 + b"a" * 399_999),
        "file: empty": b"",
        "file: one byte": b"\x80",
        "file: a page": b"<!DOCTYPE html>\n<html>Quota exceeded</html>",
        "file: compressed": gzip.compress(call),
        "file: tar with a link": tar_of(("pickle", tarfile.SYMTYPE, b"/etc/passwd")),
        "file: tar with a device": tar_of(("storages", tarfile.CHRTYPE, b"")),
        "file: text": b"weights go here\n" * 20,
        "file: zeros": bytes(4096),
        "file: half an archive": packed[: len(packed) // 2],
        "file: an archive without its end": packed[:-30],
        "file: safetensors that lie": struct.pack("<Q", 40) + b'{"a":{"dtype":"F32"}}' + bytes(99),
    }
    path = canary.with_suffix(".sound")
    tf = write_tensorflow(path, tiny_generator()).read_bytes()
    found |= {f"tensorflow: cut at {part}/7": tf[: len(tf) * part // 7] for part in range(1, 7)}
    found |= {
        f"archive: cut at {part}/7": packed[: len(packed) * part // 7] for part in range(1, 7)
    }
    path.unlink()
    return found


def _objects() -> Any:
    import numpy as np

    return np.array([{}, None], dtype=object)


def _array(shape: tuple[int, ...], raw: bytes) -> bytes:
    sizes = b"(" + b"".join(number(n) for n in shape) + b"t"
    dtype = line("numpy", "dtype") + b"(" + text("f4") + b"\x89\x88tR"
    make = line("numpy.core.multiarray", "_reconstruct") + b"(" + line("numpy", "ndarray")
    make += b"(K\x00t" + blob(b"b") + b"tR"
    return program(make, b"(", number(1), sizes, dtype, b"\x89", blob(raw), b"tb")
