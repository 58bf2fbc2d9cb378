"""Measure how fast parts are exported, against a plain tar of the same bytes, and the memory.

    python benchmarks/export.py --photos 1000 --size 256
    python benchmarks/export.py --memory 5000,50000

The first command makes a part of photos of noise on gradients, with masks, points and captions. It
exports it in turn as WebDataset, as Parquet, and as a tar that Python's `tarfile` packs from files
on disk that hold the same bytes. Nothing is encoded again, and all three are brought to the disk.
The second command exports parts of small photos, each in a process of its own, and prints the peak
memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from timing import measure

from sfhq.export.formats.table import format_of
from sfhq.export.job import About
from sfhq.export.splits import Shares
from sfhq.export.whole import export_as
from sfhq.parts.lineage import fingerprint
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Pixels

TOGETHER = 256  # photos in a shard of records


def photo(index: int, size: int) -> Pixels:
    """A gradient with noise that no other photo has; compresses as a photo of its size does."""
    rng = np.random.default_rng(index)
    ramp = np.linspace(0, 200, size)[:, None, None] + rng.uniform(0, 40, (1, 1, 3))
    noisy = ramp + rng.normal(0, 4, (size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def faces(count: int, size: int) -> Iterator[FaceRecord]:
    """Records of photos with masks and points."""
    mask = np.zeros((size, size), np.uint8)
    mask[size // 4 : -size // 4, size // 4 : -size // 4] = 1
    points = np.random.default_rng(0).uniform(0, size, (110, 3)).astype(np.float32)
    points[:, 2] = 2
    for i in range(count):
        yield (
            FaceRecord(
                f"face{i:08d}",
                source_sha256=f"{i:064x}",
                licence="CC0-1.0",
                seed=i,
                params={
                    "text": f"a face, number {i}",
                    "details": {f"d{j}": i / 7 for j in range(40)},
                },
            )
            .with_image("renders", photo(i, size))
            .with_image("segmentations", mask)
            .with_array("render_landmarks", points)
        )


def make(root: Path, count: int, size: int) -> Part:
    """A part as `render` leaves it."""
    part = Part.create(root)
    waiting: list[FaceRecord] = []
    shard = 0
    for number, record in enumerate(faces(count, size), 1):
        waiting.append(record)
        if len(waiting) == TOGETHER or number == count:
            part.write_shard("render", shard, waiting)
            waiting.clear()
            shard += 1
    part.write_stage_info(
        "render",
        {
            "kind": "source",
            "settings": {},
            "inputs": {},
            "selected_by": {},
            "writes": ["render_landmarks", "renders", "segmentations"],
            "complete": True,
            "shards": shard,
            "rows": count,
            "counts": {"entered": count, "alive": count, "rejected": {}},
        },
    )
    assert fingerprint(part, "render")
    return part


def export(form: str, part: Part, target: Path) -> None:
    """Export anew."""
    shutil.rmtree(target, ignore_errors=True)
    about = About(title="Benchmark", id="me/benchmark", licence="CC0-1.0", date="2026-01-01")
    export_as(format_of(form), [part], target, name="B", shares=Shares((1, 0, 0)), about=about)


def plain_tar(folder: Path, target: Path) -> None:
    """Pack the files of a folder, in the order of their names."""
    with open(target, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for path in sorted(folder.iterdir()):
                tar.add(path, path.name, recursive=False)
        file.flush()
        os.fsync(file.fileno())


def speed(count: int, size: int, runs: int) -> None:
    """Print photos a second, and the ratio of times."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        part = make(top / "part", count, size)
        export("webdataset", part, top / "tars")
        (top / "files").mkdir()
        for shard in sorted((top / "tars").glob("*.tar")):
            with tarfile.open(shard) as tar:
                tar.extractall(top / "files", filter="data")
        total = sum(p.stat().st_size for p in (top / "files").iterdir())
        print(f"{count} photos of {size} pixels, {total / count / 1000:.1f} kB each with labels")
        seconds = measure(
            {
                "plain tar": lambda: plain_tar(top / "files", top / "plain.tar"),
                "webdataset": lambda: export("webdataset", part, top / "w"),
                "parquet": lambda: export("parquet", part, top / "p"),
            },
            runs,
        )
        base = statistics.median(seconds["plain tar"])
        for name, values in seconds.items():
            took = statistics.median(values)
            print(f"{name:<12} {count / took:8.0f} photos/s   {took / base:6.2f} of the plain tar")
        print("load", " ".join(f"{v:.2f}" for v in os.getloadavg()))


def memory(counts: list[int], form: str) -> None:
    """Print the peak memory of exports, each in a process of its own."""
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / "part", count, 32)
            command = [sys.executable, __file__, "--one", folder, "--format", form]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"{form:<12} {count:>8} photos   {done.stdout.strip()} MB")


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", help="numbers of photos, separated by commas")
    parser.add_argument("--format", default="webdataset")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        export(given.format, Part.open(Path(given.one) / "part"), Path(given.one) / "out")
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f}")
    elif given.memory:
        memory([int(n) for n in given.memory.split(",")], given.format)
    else:
        speed(given.photos, given.size, given.runs)


if __name__ == "__main__":
    main()
