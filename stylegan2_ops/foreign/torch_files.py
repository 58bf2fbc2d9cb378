"""Read weights files, recognised by content: torch's archives, old streams and plain pickles.

Nothing here calls `torch.load` or Python's unpickler; see `stylegan2_ops.foreign.unpickle`.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan2_ops.foreign.inert import STORAGES, BadCheckpoint, Name, Storage, first_line, shown
from stylegan2_ops.foreign.unpickle import Budget, Unpickler

MAX_FILE = 16 << 30
MAX_ENTRIES = 50_000
MAX_PICKLE = 256 << 20  # largest pickle in an archive, which stores its numbers elsewhere
LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
LEGACY_VERSION = 1001
GZIP, ZIP, PICKLE = b"\x1f\x8b", b"PK\x03\x04", b"\x80"


def sniff(path: Path) -> str:
    """The kind of a file by its content, not its name; nothing in it is run.

    Returns:
        "safetensors", "torch archive", "torch stream" (before torch 1.6), "pickle",
        "TorchScript archive", "zip", "tar", "gzip", "web page", "empty" or "unknown".

    Raises:
        BadCheckpoint: `path` does not exist, or is a folder or a pipe.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe could block for ever
            raise BadCheckpoint(f"{path}: no regular file; give the path of a file")
        with open(path, "rb") as file:
            start = file.read(1024)
            length = path.stat().st_size
    except OSError as error:
        raise BadCheckpoint(f"{path}: cannot be read ({error.strerror})") from None
    if not start:
        return "empty"
    if start.startswith(ZIP):
        return _sniff_zip(path)
    if start.startswith(GZIP):
        return "gzip"
    if start[257:262] == b"ustar":
        return "tar"
    if start.startswith(PICKLE):
        return "torch stream" if LEGACY_MAGIC in start[:16] else "pickle"
    if start.lstrip()[:1] == b"<":
        return "web page"
    header = int.from_bytes(start[:8], "little")
    if len(start) > 8 and header <= length - 8 and start[8:9] == b"{":
        return "safetensors"
    return "unknown"


def _sniff_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # a damaged archive is reported when it is read
        return "zip"
    if any(name.endswith("/constants.pkl") for name in names):
        return "TorchScript archive"
    return "torch archive" if any(name.endswith("/data.pkl") for name in names) else "zip"


def read_weights(path: Path) -> Any:
    """The content of a weights file: containers, tensors, and records of foreign objects.

    Args:
        path: a torch archive, a torch stream or a pickle; the name does not matter.

    Raises:
        BadCheckpoint: the file is damaged, hostile or of another kind; one line that begins with
            `path`.
    """
    kind = sniff(path)
    try:
        if kind == "torch archive":
            return _read_archive(path)
        if kind == "torch stream":
            return read_stream(_mapped(path))
        if kind == "pickle":
            return _read_pickle(_mapped(path))
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{path}: {error}") from None
    except Exception as error:  # a hostile file can cause any error
        raise BadCheckpoint(f"{path}: damaged {kind}: {first_line(error)}") from None
    advice = {
        "web page": "the download returned a page instead of the file; download the file itself",
        "gzip": "unpack it first",
        "tar": "torch's format before 2017; load it with an old torch and save it again",
        "TorchScript archive": "it holds a program, not weights; get the checkpoint instead",
        "safetensors": "it needs no conversion; load it with safetensors",
    }.get(kind, "wanted a PyTorch checkpoint or a pickle of a StyleGAN2 network")
    raise BadCheckpoint(f"{path}: {kind}: {advice}")


def _read_pickle(data: memoryview) -> Any:
    budget = Budget.of(len(data))
    machine = Unpickler(data, load_bytes=lambda raw: read_stream(raw, budget), budget=budget)
    value = machine.load()
    if machine.position != len(data):
        raise BadCheckpoint(f"damaged: {len(data) - machine.position:,} extra bytes after its end")
    return value


def _mapped(path: Path) -> memoryview:
    size = path.stat().st_size
    if size > MAX_FILE:
        raise BadCheckpoint(f"has {size:,} bytes; wanted at most {MAX_FILE:,}")
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _storage(raw: bytes | bytearray | memoryview, dtype: torch.dtype) -> Storage:
    if sys.byteorder != "little":
        raise BadCheckpoint("cannot be read on a big-endian machine; use a little-endian one")
    if len(raw) % dtype.itemsize:
        raise BadCheckpoint(
            f"damaged: a storage has {len(raw):,} bytes; wanted a multiple of {dtype.itemsize}"
        )
    if not len(raw):
        return Storage(torch.empty(0, dtype=dtype))
    return Storage(torch.frombuffer(bytearray(raw), dtype=dtype))


def _identity(value: Any) -> tuple[str, torch.dtype, int]:
    """Key, dtype and number of elements in the persistent id of a storage."""
    if not isinstance(value, tuple) or len(value) not in (5, 6) or value[0] != "storage":
        raise BadCheckpoint("refers to something that is not a storage")
    _, kind, key, _, count = value[:5]
    if len(value) == 6 and value[5] is not None:
        raise BadCheckpoint(
            "has a view of a storage, torch's format before 0.4; save it again with a newer torch"
        )
    dtype = STORAGES.get(kind.name) if isinstance(kind, Name) and kind.module == "torch" else None
    if dtype is None or not isinstance(key, str) or type(count) is not int or count < 0:
        raise BadCheckpoint("has a storage of an unknown kind")
    return key, dtype, count


def _read_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if len(infos) > MAX_ENTRIES or len(set(names)) != len(names):
            raise BadCheckpoint(
                f"is an archive with more than {MAX_ENTRIES:,} files, or two of the same name"
            )
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].count("/") != 1:
            raise BadCheckpoint(
                f"is an archive with {len(pickles)} data.pkl; wanted one, in a folder at the top"
            )
        folder = pickles[0].removesuffix("data.pkl")
        size = path.stat().st_size
        for info in infos:
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise BadCheckpoint(f"is an archive with a compressed file, {info.filename[:80]!r}")
            if not info.filename.startswith(folder) or ".." in info.filename.split("/"):
                raise BadCheckpoint(
                    f"is an archive with a file outside {folder[:80]!r}: {info.filename[:80]!r}"
                )
        if sum(info.file_size for info in infos) > size:
            raise BadCheckpoint("is an archive whose files overlap")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise BadCheckpoint("was written on a big-endian machine; wanted little-endian numbers")
        if archive.getinfo(pickles[0]).file_size > MAX_PICKLE:
            raise BadCheckpoint(
                f"is an archive whose data.pkl is too long; wanted at most {MAX_PICKLE:,} bytes"
            )
        known: dict[str, Storage] = {}

        def load_storage(value: Any) -> Storage:
            key, dtype, count = _identity(value)
            if not key.isdecimal():
                raise BadCheckpoint("has a storage of an unknown kind")
            if key not in known:
                raw = archive.read(f"{folder}data/{key}")
                known[key] = _storage(raw, dtype)
            held = known[key].values
            if held.dtype != dtype or held.numel() != count:
                raise BadCheckpoint(
                    f"damaged: storage {key} has {held.numel():,} numbers of {held.dtype}; wanted "
                    f"{count:,} of {dtype}"
                )
            return known[key]

        return Unpickler(archive.read(pickles[0]), load_storage).load()


def read_stream(data: bytes | memoryview, budget: Budget | None = None) -> Any:
    """The content of a torch stream, the format before torch 1.6 and of storages in a pickle.

    Args:
        data: the whole stream. It has a magic number, a version, the machine, the object, the
            keys of its storages, and last the numbers of each storage.
        budget: what is left of the budget of the file that contains the stream; None for a new
            budget.

    Raises:
        BadCheckpoint: the stream is damaged, hostile or of another kind.
    """
    view = memoryview(data)
    waiting: dict[str, tuple[torch.dtype, int]] = {}
    storages: dict[str, Storage] = {}
    promised = 0

    def promise(value: Any) -> Storage:
        nonlocal promised
        key, dtype, count = _identity(value)
        if waiting.setdefault(key, (dtype, count)) != (dtype, count):
            raise BadCheckpoint("damaged: a storage is used with two dtypes or lengths")
        if key not in storages:
            promised += count * dtype.itemsize
            if promised > len(view):
                raise BadCheckpoint(
                    f"damaged: its storages need {promised:,} bytes, but it has {len(view):,}"
                )
            storages[key] = Storage(torch.empty(count, dtype=dtype))
        return storages[key]

    machine = Unpickler(view, promise, budget=budget)
    magic = machine.load()
    if magic != int.from_bytes(LEGACY_MAGIC, "little"):
        raise BadCheckpoint("does not start with torch's magic number")
    version = machine.load()
    if version != LEGACY_VERSION:
        raise BadCheckpoint(f"has torch's format {shown(version)}; wanted {LEGACY_VERSION}")
    system = machine.load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise BadCheckpoint("was written on a big-endian machine; wanted little-endian numbers")
    value = machine.load()
    keys = machine.load()
    position = machine.position
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise BadCheckpoint("damaged: the list of storages is missing")
    for key in keys:
        if key not in waiting:  # unknown, or listed twice
            raise BadCheckpoint("damaged: has a storage that nothing refers to, or has it twice")
        dtype, count = waiting.pop(key)
        (held,) = struct.unpack_from("<q", view, position)
        start = position + 8
        position = start + count * dtype.itemsize
        if held != count or position > len(view):
            raise BadCheckpoint(
                f"truncated: storage {key[:20]} has fewer than its {count:,} numbers; get the "
                "file again"
            )
        storages[key].values.copy_(_storage(view[start:position], dtype).values)
    if waiting:
        raise BadCheckpoint(f"truncated: {len(waiting)} storages are missing; get the file again")
    if position != len(view):
        raise BadCheckpoint(f"damaged: {len(view) - position:,} extra bytes after its end")
    return value


def tensors_in(value: Any) -> dict[str, Tensor]:
    """The tensors of a flat dictionary by name, without its other entries.

    Raises:
        BadCheckpoint: `value` is not a dictionary.
    """
    if not isinstance(value, dict):
        raise BadCheckpoint(f"holds a {type(value).__name__}; wanted a dictionary of tensors")
    return {str(name): held for name, held in value.items() if isinstance(held, Tensor)}
