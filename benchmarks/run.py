"""Measure a whole `sfhq run`, from art to captioned photos: seconds of each stage, photos a second.

    python benchmarks/run.py portraits --limit 30
    python benchmarks/run.py portraits --limit 30 --workers 2

Each run is a process of its own on a new part, as the command is; loading networks counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def once(source: Path, limit: int | None, workers: int) -> None:
    """Run all stages once and print a row for each."""
    import sfhq
    from sfhq.pipeline.run import Ended
    from stylegan2_ops.memory import keep_freed_memory

    keep_freed_memory()
    began = last = time.perf_counter()

    def told(ended: Ended) -> None:
        nonlocal last
        now = time.perf_counter()
        counts = ended.counts
        print(f"{ended.stage:<11} {counts.entered:>5} {counts.alive:>5} {now - last:8.1f}")
        last = now

    recipe = sfhq.load_recipe(None, {"ingest.source": str(source), "ingest.limit": limit})
    pipeline = sfhq.Pipeline.from_recipe(recipe)
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'stage':<11} {'in':>5} {'out':>5} {'seconds':>8}")
        ended = pipeline.run(Path(folder) / "part", workers=workers, on_end=told)
        kept, taken = ended[-1].counts.alive, time.perf_counter() - began
        print(f"{kept} photos kept in {taken:.1f} s: {kept / taken:.2f} a second", flush=True)


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("source", type=Path, help="what sfhq run takes: a folder of art")
    parser.add_argument("--limit", type=int, help="take at most this many files")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        once(given.source, given.limit, given.workers)
        return
    print(f"{os.cpu_count()} cores, {given.workers} workers")
    for _ in range(given.runs):
        subprocess.run([sys.executable, *sys.argv, "--here"], check=True)


if __name__ == "__main__":
    main()
