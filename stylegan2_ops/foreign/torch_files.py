"""Read weights files by their content: torch's archives and old streams, and plain pickles.

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

from stylegan2_ops.foreign.inert import STORAGES, BadCheckpoint, Name, Storage, shown
from stylegan2_ops.foreign.unpickle import Budget, Unpickler

MAX_FILE = 16 << 30
MAX_ENTRIES = 50_000
MAX_PICKLE = 256 << 20  # of an archive, whose pickle holds no numbers
LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
LEGACY_VERSION = 1001
GZIP, ZIP, PICKLE = b"\x1f\x8b", b"PK\x03\x04", b"\x80"


def sniff(path: Path) -> str:
    """What a file is by its first bytes, whatever its name; nothing in it runs.

    Returns:
        "safetensors", "torch archive", "torch stream" (before torch 1.6), "pickle",
        "TorchScript archive", "zip", "tar", "gzip", "web page", "empty" or "unknown".

    Raises:
        BadCheckpoint: no such file, or a folder or a pipe.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would wait for ever
            raise BadCheckpoint(f"{path}: no file; wanted one")
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
    """What a file of weights holds: containers, tensors, and records of foreign objects.

    Args:
        path: a torch archive, a torch stream or a pickle, by content.

    Raises:
        BadCheckpoint: damaged, hostile or of another kind; one line that begins with `path`.
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
    except Exception as error:  # whatever is wrong with it, it is the file's fault
        said = (str(error).splitlines() or [""])[0]
        raise BadCheckpoint(f"{path}: damaged {kind}: {said[:120]}") from None
    advice = {
        "web page": "the download gave a page; get the file itself",
        "gzip": "unpack it first",
        "tar": "torch's format before 2017; load it once with an old torch and save it again",
        "TorchScript archive": "a compiled program, not weights; wanted the checkpoint",
        "safetensors": "read by its own loader",
    }.get(kind, "wanted a PyTorch checkpoint or a pickle of a StyleGAN2 network")
    raise BadCheckpoint(f"{path}: {kind}: {advice}")


def _read_pickle(data: memoryview) -> Any:
    budget = Budget.of(len(data))
    machine = Unpickler(data, load_bytes=lambda raw: read_stream(raw, budget), budget=budget)
    value = machine.load()
    if machine.position != len(data):
        raise BadCheckpoint(f"damaged: {len(data) - machine.position:,} bytes after its end")
    return value


def _mapped(path: Path) -> memoryview:
    size = path.stat().st_size
    if size > MAX_FILE:
        raise BadCheckpoint(f"{size:,} bytes; wanted at most {MAX_FILE:,}")
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _storage(raw: bytes | bytearray | memoryview, dtype: torch.dtype) -> Storage:
    if sys.byteorder != "little":
        raise BadCheckpoint("this machine is big-endian, which is not supported")
    if len(raw) % dtype.itemsize:
        raise BadCheckpoint(f"a storage of {len(raw):,} bytes for numbers of {dtype.itemsize}")
    if not len(raw):
        return Storage(torch.empty(0, dtype=dtype))
    return Storage(torch.frombuffer(bytearray(raw), dtype=dtype))


def _identity(value: Any) -> tuple[str, torch.dtype, int]:
    """Key, dtype and count of a storage's persistent id."""
    if not isinstance(value, tuple) or len(value) not in (5, 6) or value[0] != "storage":
        raise BadCheckpoint("refers to something that is no storage")
    _, kind, key, _, count = value[:5]
    if len(value) == 6 and value[5] is not None:
        raise BadCheckpoint("a view of a storage, torch's format before 0.4")
    dtype = STORAGES.get(kind.name) if isinstance(kind, Name) and kind.module == "torch" else None
    if dtype is None or not isinstance(key, str) or type(count) is not int or count < 0:
        raise BadCheckpoint("a storage of an unknown kind")
    return key, dtype, count


def _read_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if len(infos) > MAX_ENTRIES or len(set(names)) != len(names):
            raise BadCheckpoint("an archive with too many files, or two of one name")
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].count("/") != 1:
            raise BadCheckpoint(f"an archive with {len(pickles)} data.pkl; wanted one, one deep")
        folder = pickles[0].removesuffix("data.pkl")
        size = path.stat().st_size
        for info in infos:
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise BadCheckpoint(f"an archive with a compressed file, {info.filename[:80]!r}")
            if not info.filename.startswith(folder) or ".." in info.filename.split("/"):
                raise BadCheckpoint(f"an archive with a file elsewhere, {info.filename[:80]!r}")
        if sum(info.file_size for info in infos) > size:
            raise BadCheckpoint("an archive whose files overlap")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise BadCheckpoint("numbers of a big-endian machine")
        if archive.getinfo(pickles[0]).file_size > MAX_PICKLE:
            raise BadCheckpoint("an archive whose data.pkl is far too long")
        known: dict[str, Storage] = {}

        def load_storage(value: Any) -> Storage:
            key, dtype, count = _identity(value)
            if not key.isdecimal():
                raise BadCheckpoint("a storage of an unknown kind")
            if key not in known:
                raw = archive.read(f"{folder}data/{key}")
                known[key] = _storage(raw, dtype)
            held = known[key].values
            if held.dtype != dtype or held.numel() != count:
                raise BadCheckpoint(
                    f"storage {key} has {held.numel():,} numbers of {held.dtype}; its record says "
                    f"{count:,} of {dtype}"
                )
            return known[key]

        return Unpickler(archive.read(pickles[0]), load_storage).load()


def read_stream(data: bytes | memoryview, budget: Budget | None = None) -> Any:
    """What a stream of torch before 1.6 holds; storages inside a pickle are still written so.

    Args:
        data: the whole stream: magic number, version, machine, object, keys, and then the
            numbers of each storage, after the object that refers to them.
        budget: of the file that it lies in.

    Raises:
        BadCheckpoint: damaged, hostile or of another kind.
    """
    view = memoryview(data)
    waiting: dict[str, tuple[torch.dtype, int]] = {}
    storages: dict[str, Storage] = {}
    promised = 0

    def promise(value: Any) -> Storage:
        nonlocal promised
        key, dtype, count = _identity(value)
        if waiting.setdefault(key, (dtype, count)) != (dtype, count):
            raise BadCheckpoint("a storage of two kinds")
        if key not in storages:
            promised += count * dtype.itemsize
            if promised > len(view):
                raise BadCheckpoint(f"storages of {promised:,} bytes in {len(view):,}")
            storages[key] = Storage(torch.empty(count, dtype=dtype))
        return storages[key]

    machine = Unpickler(view, promise, budget=budget)
    magic = machine.load()
    if magic != int.from_bytes(LEGACY_MAGIC, "little"):
        raise BadCheckpoint("no magic number of torch")
    version = machine.load()
    if version != LEGACY_VERSION:
        raise BadCheckpoint(f"torch format {shown(version)}; wanted {LEGACY_VERSION}")
    system = machine.load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise BadCheckpoint("numbers of a big-endian machine")
    value = machine.load()
    keys = machine.load()
    position = machine.position
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise BadCheckpoint("damaged: no list of storages")
    for key in keys:
        if key not in waiting:  # or came before
            raise BadCheckpoint("a storage that nothing refers to")
        dtype, count = waiting.pop(key)
        (held,) = struct.unpack_from("<q", view, position)
        start = position + 8
        position = start + count * dtype.itemsize
        if held != count or position > len(view):
            raise BadCheckpoint(f"truncated: storage {key[:20]} of {count:,} numbers ends early")
        storages[key].values.copy_(_storage(view[start:position], dtype).values)
    if waiting:
        raise BadCheckpoint(f"truncated: {len(waiting)} storages are missing")
    if position != len(view):
        raise BadCheckpoint(f"damaged: {len(view) - position:,} bytes after its end")
    return value


def tensors_in(value: Any) -> dict[str, Tensor]:
    """The tensors of a flat dictionary by name; other entries are left out."""
    if not isinstance(value, dict):
        raise BadCheckpoint(f"a {type(value).__name__}; wanted a dictionary of tensors")
    return {str(name): held for name, held in value.items() if isinstance(held, Tensor)}
