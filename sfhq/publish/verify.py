"""Which marks of synthetic media an image file carries, and which of them hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sfhq.errors import MissingExtra, UsageError
from sfhq.formats import suffixes
from sfhq.images import BadImage, read_marked
from sfhq.marks.signature import Manifest, read_manifest
from sfhq.marks.watermark import Found, detect
from sfhq.marks.xmp import SYNTHETIC, Origin, read_packet
from sfhq.parts.files import read_file, why

Verdict = Literal["marked", "unmarked", "broken", "unreadable"]
LAYERS = ("xmp", "watermark", "c2pa")
MOST_FILE = 256 * 2**20  # bytes
UNCHECKED = "not checked"  # a manifest without c2pa-python to check it


@dataclass(frozen=True)
class Checked:
    """What one file carries.

    Attributes:
        path: the file.
        origin: what its XMP packet states; None where it states no origin.
        watermark: what the detector says; None where the file cannot be read.
        manifest: its signed manifest; None where it has none, or where it was not checked.
        unchecked: it seems to have a manifest, and c2pa-python is not installed.
        problem: why the file cannot be read; empty where it can.
    """

    path: Path
    origin: Origin | None = None
    watermark: Found | None = None
    manifest: Manifest | None = None
    unchecked: bool = False
    problem: str = ""

    @property
    def layers(self) -> tuple[str, ...]:
        """The marks that hold, of `LAYERS`."""
        holds = (
            self.origin is not None and self.origin.source_type in SYNTHETIC,
            self.watermark is not None and self.watermark.there,
            self.manifest is not None
            and self.manifest.state != "invalid"
            and self.manifest.source_type in SYNTHETIC,
        )
        return tuple(name for name, there in zip(LAYERS, holds, strict=True) if there)

    def verdict(self, required: Sequence[str] = ()) -> Verdict:
        """The file in a word.

        Args:
            required: marks that must hold; with none of them any one will do.

        Returns:
            "broken" where the file is not as it was signed, whatever else it carries.
        """
        if self.problem:
            return "unreadable"
        if self.manifest is not None and self.manifest.state == "invalid":
            return "broken"
        if required:
            return "marked" if {*required} <= {*self.layers} else "unmarked"
        return "marked" if self.layers else "unmarked"

    def to_dict(self, required: Sequence[str] = ()) -> dict[str, Any]:
        """As JSON can hold it."""
        found = self.watermark
        mark = None
        if found is not None:
            mark = {
                "found": found.there,
                "deviations": round(found.deviations, 2),
                "chance": found.chance,
                "payload": None if found.payload is None else f"{found.payload:08x}",
                "mirrored": found.mirrored,
            }
        return {
            "file": str(self.path),
            "verdict": self.verdict(required),
            "holds": list(self.layers),
            "xmp": None if self.origin is None else asdict(self.origin),
            "watermark": mark,
            "c2pa": UNCHECKED if self.unchecked else _manifest(self.manifest),
            "problem": self.problem,
        }


def _manifest(manifest: Manifest | None) -> dict[str, Any] | None:
    if manifest is None:
        return None
    return {**asdict(manifest), "problems": list(manifest.problems)}


def verify_bytes(data: bytes, path: Path = Path(), trust: str = "") -> Checked:
    """Look for all marks in the bytes of an image file; never raises for what is in them.

    Args:
        data: of the file, from anybody.
        path: to name it by.
        trust: PEM of those who may vouch for signers.
    """
    try:
        decoded = read_marked(data)
    except BadImage as error:
        return Checked(path, problem=f"{error.reason}: {error.detail}")
    manifest, unchecked = None, False
    try:
        manifest = read_manifest(data, decoded.file_format, trust)
    except MissingExtra:
        unchecked = True
    return Checked(
        path,
        read_packet(decoded.packet) if decoded.packet else None,
        detect(np.asarray(decoded.image)),
        manifest,
        unchecked,
    )


def verify_file(path: Path, trust: str = "") -> Checked:
    """Look for all marks in a file."""
    try:
        data = read_file(path, MOST_FILE)
    except OSError as error:
        return Checked(path, problem=why(error))
    return verify_bytes(data, path, trust)


def image_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files themselves, and of folders all images below them, sorted; links are not followed.

    Raises:
        UsageError: one of the paths is not there.
    """
    known = suffixes()
    for path in paths:
        if path.is_dir():
            for folder, inner, names in os.walk(path):
                inner.sort()
                for name in sorted(names):
                    if name.lower().endswith(known):
                        yield Path(folder) / name
        elif os.path.lexists(path):
            yield path
        else:
            raise UsageError(f"{path}: no such file or folder; give images or folders of them")


def verify_files(paths: Iterable[Path], trust: str = "", workers: int = 1) -> Iterator[Checked]:
    """Look for all marks in files, in their order, holding few images at a time.

    Args:
        paths: of files.
        trust: PEM of those who may vouch for signers.
        workers: how many files at a time.
    """
    waiting = iter(paths)
    with ThreadPoolExecutor(workers) as pool:
        while some := list(islice(waiting, 8 * workers)):
            yield from pool.map(lambda path: verify_file(path, trust), some)
