"""How fast labels are, and how much memory they take.

    python benchmarks/label_speed.py one               # everything for one face, and batches
    python benchmarks/label_speed.py bisenet           # BiSeNet of random numbers, 512 px
    python benchmarks/label_speed.py memory --count 5000

Beside the time on the clock stands the processor's own time, which a busy machine lengthens less.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from annotate.bisenet.network import BiSeNet
from annotate.bisenet.reader import BisenetReader
from annotate.labeller import Labeller
from annotate.labels.frame import whole_frame
from annotate.labels.masks import read_map
from annotate.network import reader as reading
from sfhq.parts.records import Pixels
from stylegan2_ops.memory import keep_freed_memory

TIMES = 9
BATCH = 16  # faces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("what", choices=("one", "bisenet", "memory"))
    parser.add_argument("--photo", type=Path, help="an aligned photo; default: noise")
    parser.add_argument("--side", type=int, default=1024, help="of the photo")
    parser.add_argument("--count", type=int, default=5000, help="images for memory")
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    keep_freed_memory()  # as commands do
    photo = picture(given.photo, given.side)
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    if given.what == "one":
        one(photo)
    elif given.what == "bisenet":
        bisenet(photo)
    else:
        memory(photo, given.count)


def picture(path: Path | None, side: int) -> Pixels:
    if path is None:
        return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    size = (side, side)
    return np.array(Image.open(path).convert("RGB").resize(size, Image.Resampling.LANCZOS))


def timed(work: Callable[[], object], times: int = TIMES) -> tuple[float, float]:
    """Median seconds on the clock and of the processor."""
    clock, own = [], []
    for _ in range(times):
        reading._LAST.clear()  # a crop that was read last is not read again
        start, mine = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - start)
        own.append(time.process_time() - mine)
    return float(np.median(clock)), float(np.median(own))


def one(photo: Pixels) -> None:
    labeller = Labeller.load()
    start, mine = time.perf_counter(), time.process_time()
    labeller(photo, aligned=True)
    first = time.perf_counter() - start, time.process_time() - mine
    side = labeller.reader.size
    crop = np.array(Image.fromarray(photo).resize((side, side)))
    rows = {
        "the network alone, with the mirror image": timed(lambda: labeller.reader.read(crop[None])),
        f"everything for one face of {len(photo)} px": timed(lambda: labeller(photo, aligned=True)),
    }
    for name, (clock, own) in rows.items():
        print(f"{name}: {1000 * clock:.0f} ms, {1000 * own:.0f} of the processor")
    print(f"the first face: {1000 * first[0]:.0f} ms, {1000 * first[1]:.0f} of the processor")
    crops = np.stack([np.roll(crop, i, 1) for i in range(BATCH)])
    clock, own = timed(lambda: labeller.reader.read(crops), 3)
    print(f"{BATCH} crops: {BATCH / clock:.1f} faces/s, {BATCH / own:.1f} by the processor")


def bisenet(photo: Pixels) -> None:
    torch.manual_seed(0)
    network = BiSeNet().eval().to(memory_format=torch.channels_last)
    reader = BisenetReader(network, "")
    size = reader.size
    crop = np.array(Image.fromarray(photo).resize((size, size)))[None]
    clock, own = timed(lambda: reader.soft(crop), 5)
    print(f"both mirror images: {1 / clock:.2f} images/s, {1 / own:.2f} by the processor")
    planes = reader.soft(crop)[0][0]
    frame = whole_frame(len(photo), len(photo), size)
    clock, own = timed(lambda: read_map(planes, frame, sided=False), 5)
    print(f"the map at {len(photo)} px: {1000 * clock:.0f} ms, {1000 * own:.0f} of the processor")


def memory(photo: Pixels, count: int) -> None:
    labeller, process = Labeller.load(), psutil.Process()
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for i in range(count + 1):
        if i % max(count // 10, 1) == 0:
            took = time.perf_counter() - start
            print(
                f"{i} images: {process.memory_info().rss / 2**20:.0f} MiB, {took:.0f} s", flush=True
            )
        moved = np.roll(photo, tuple(rng.integers(-20, 21, 2).tolist()), (0, 1))
        labeller(np.ascontiguousarray(moved), aligned=True)


if __name__ == "__main__":
    main()
