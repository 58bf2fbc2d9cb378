"""WebDataset: tar shards in which the files of a photo share their key.

<key>.png|jpg         the photo
<key>.json            every column of the part's table, with the split and the label
<key>.txt             the caption, where there is one
<key>.seg.png         ids of the classes as greys, where there is a map
<key>.landmarks.npy   (N, 2) float32 pixels, where there are points
<key>.visibility.npy  (110,) uint8 beside 110 points

Members carry no time and no owner, so the same photos give the same bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import ClassVar

import msgspec
import numpy as np

from sfhq.export.card import write_card
from sfhq.export.files import Hashed, Written, writing
from sfhq.export.item import Item
from sfhq.export.job import Entry, Format, Job, Piece
from sfhq.export.rows import nested
from sfhq.parts.records import Array

MOST = 10_000  # photos in a shard
PAD = bytes(512)
# The head of a member: what stands before its size, its time, and what stands after its sum.
FRONT, TIME, KIND = b"0000644\0" + b"0000000\0" * 2, b"00000000000\0", b"0"
BACK = bytes(100) + b"ustar\x0000" + bytes(64 + 16 + 155 + 12)
COMMON_SUM = sum(FRONT) + sum(TIME) + sum(KIND) + sum(BACK) + 8 * ord(" ")
_JSON = msgspec.json.Encoder(order="sorted")


class WebDataset(Format):
    """See the module."""

    name: ClassVar[str] = "webdataset"
    summary: ClassVar[str] = "WebDataset tar shards"

    def piece(self, job: Job, split: str, number: int, items: Iterator[Item]) -> Piece:
        """One shard: photos until it is full."""
        path = f"{split}-{number:05d}.tar"
        entries = []
        with writing(job.folder / path) as file:
            for item in items:
                entries.append(_write(file, path, item, job))
                if file.size >= job.shard or len(entries) == MOST:
                    break
            file.write(PAD * 2)
            file.write(bytes(-file.size % tarfile.RECORDSIZE))
        return Piece(split, number, tuple(entries), {path: file.written()})

    def finish(self, job: Job, sums: Mapping[str, Written]) -> dict[str, Written]:
        """The list of shards with their sizes that readers of the kind "wids" take, and a card."""
        shards = [
            {"url": path, "nsamples": len(piece.entries), "filesize": written.size}
            | {"sha256": written.sha256}
            for split in job.choice.names()
            for piece in job.pieces()
            if piece.split == split
            for path, written in piece.files.items()
        ]
        index = {
            "__kind__": "wids-shard-index-v1",
            "wids_version": 1,
            "name": job.choice.name,
            "shardlist": shards,
        }
        with writing(job.folder / "index.json") as file:
            file.text(json.dumps(index, indent=1) + "\n")
        files = {name: f"{name}-*.tar" for name in job.choice.names()}
        return {"index.json": file.written()} | write_card(job, "webdataset", files)


def _write(file: Hashed, path: str, item: Item, job: Job) -> Entry:
    data, suffix, digest = item.photo
    key = item.face.key
    width, height = item.size
    _member(file, f"{key}.{suffix}", data)
    row = nested(item.face, job.choice) | {"image_width": width, "image_height": height}
    _member(file, f"{key}.json", _JSON.encode(row))
    if item.caption:
        _member(file, f"{key}.txt", item.caption.encode())
    mask = item.mask
    if mask is not None:
        _member(file, f"{key}.seg.png", mask)
    for name, values in item.landmarks.items():
        _member(file, f"{key}.{name}.npy", _npy(values))
    return Entry(key, path, len(data), digest, width, height)


def _npy(values: Array) -> bytes:
    plain = np.ascontiguousarray(values)
    return _head(plain.dtype.str, plain.shape) + plain.tobytes()


@lru_cache(maxsize=64)
def _head(kind: str, shape: tuple[int, ...]) -> bytes:
    """How the .npy of an array begins; photos of one set have arrays of one shape."""
    buffer = io.BytesIO()
    about = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, about)
    return buffer.getvalue()


def _member(file: Hashed, name: str, data: bytes) -> None:
    file.write(header(name.encode(), len(data)))
    file.write(data)
    if len(data) % 512:
        file.write(PAD[: -len(data) % 512])


def header(name: bytes, size: int) -> bytes:
    """The head of a member in the format of POSIX 1988, mode 644, without time and owner.

    `tarfile` makes the same in ten times as long, which a shard of small photos feels.

    Args:
        name: at most 100 bytes; names of exports are shorter.
        size: bytes.
    """
    octal = b"%011o" % size
    total = COMMON_SUM + sum(name) + sum(octal)
    return b"".join(
        (name.ljust(100, b"\0"), FRONT, octal, b"\0", TIME, b"%06o\0 " % total, KIND, BACK)
    )
