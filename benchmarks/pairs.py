"""Measure the search for all pairs above a cosine: ours, float32 tiles, faiss, and float64.

python benchmarks/pairs.py --count 100000            # three searches and the float64 reference
python benchmarks/pairs.py --greedy 425000           # a complete de-duplication: time and memory
python benchmarks/pairs.py --tiles 100000            # the same in one piece and by tiles
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curation.pairs.manifest import TileSearch
from curation.pairs.packed import pack
from curation.pairs.search import BLOCK, all_pairs, greedy_best_first
from curation.pairs.tiles import side_for, tiles_of
from curation.pairs.walk import walk
from sfhq.pipeline.workers import Local

Vectors = npt.NDArray[np.float32]
Found = set[tuple[int, int]]
THRESHOLD = 0.92


def clustered(count: int, width: int, decay: float, seed: int = 0) -> Vectors:
    """Random unit vectors (count, width) float32 like those of an image encoder.

    They have a common direction (mean cosine about 0.6), clusters of about a hundred, variances
    that fall as i^-decay, and 10 % near-duplicates at cosines of 0.93 to 0.99.
    """
    rng = np.random.default_rng(seed)
    spectrum = (np.arange(1, width + 1) ** (-decay / 2)).astype(np.float32)
    centres = rng.standard_normal((max(count // 100, 1), width), dtype=np.float32) * spectrum
    common = rng.standard_normal(width).astype(np.float32)
    common *= np.sqrt(0.6) / np.linalg.norm(common)
    x = np.empty((count, width), dtype=np.float32)
    for start in range(0, count, 50_000):
        n = min(50_000, count - start)
        some = centres[rng.integers(len(centres), size=n)]
        some = some + 0.8 * rng.standard_normal((n, width), dtype=np.float32) * spectrum
        some *= np.sqrt(0.4) / np.linalg.norm(some, axis=1, keepdims=True)
        x[start : start + n] = some + common
    copies = rng.permutation(count)[: count // 10]
    originals = rng.integers(count, size=len(copies))
    noise = rng.standard_normal((len(copies), width), dtype=np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    size = rng.uniform(0.14, 0.38, (len(copies), 1)).astype(np.float32)
    x[copies] = x[originals] + size * noise
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def tiles_float32(x: Vectors, tile: int = 2048) -> Found:
    """The pairs by torch's float32 matrix products, in tiles of one triangle."""
    import torch

    t = torch.from_numpy(x)
    found: Found = set()
    for i in range(0, len(x), tile):
        for j in range(0, i + 1, tile):
            products = t[i : i + tile] @ t[j : j + tile].T
            rows = torch.nonzero(products.amax(1) > THRESHOLD)[:, 0]
            if len(rows):
                r, c = torch.nonzero(products[rows] > THRESHOLD, as_tuple=True)
                a, b = (rows[r] + i).tolist(), (c + j).tolist()
                found |= {(p, q) for p, q in zip(a, b, strict=True) if q < p}
    return found


def faiss_range(x: Vectors) -> Found:
    """The pairs by faiss's exact search with inner products."""
    import faiss

    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    found: Found = set()
    for start in range(0, len(x), 4096):
        limits, _, others = index.range_search(x[start : start + 4096], THRESHOLD)
        rows = np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64))) + start
        below = others < rows
        found |= set(zip(rows[below].tolist(), others[below].tolist(), strict=True))
    return found


def oracle(x: Vectors, tile: int = 2048) -> Found:
    """The pairs by float64 products, the reference."""
    found: Found = set()
    for i in range(0, len(x), tile):
        a = x[i : i + tile].astype(np.float64)
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        for j in range(0, i + 1, tile):
            b = x[j : j + tile].astype(np.float64)
            b /= np.linalg.norm(b, axis=1, keepdims=True)
            rows, columns = np.nonzero(a @ b.T > THRESHOLD)
            pairs = zip((rows + i).tolist(), (columns + j).tolist(), strict=True)
            found |= {(p, q) for p, q in pairs if q < p}
    return found


def ours(x: Vectors) -> Found:
    """The pairs by `all_pairs`."""
    i, j, _ = all_pairs(x, THRESHOLD)
    return set(zip(i.tolist(), j.tolist(), strict=True))


def compare(count: int, width: int, decay: float, with_oracle: bool) -> None:
    """Run all searches on the same vectors and print seconds, pairs and ratios."""
    x = clustered(count, width, decay)
    all_pairs(x[:8000], THRESHOLD)  # builds the kernel
    seconds: dict[str, float] = {}
    sets: dict[str, Found] = {}
    jobs = {"ours": ours, "float32 tiles": tiles_float32}
    if importlib.util.find_spec("faiss"):
        jobs["faiss range_search"] = faiss_range
    if with_oracle:
        jobs["float64 reference"] = oracle
    jobs["ours, again"] = ours
    for name, job in jobs.items():
        start = time.perf_counter()
        sets[name] = job(x)
        seconds[name] = time.perf_counter() - start
        same = sets[name] == sets["ours"]
        rate = count * count * width / seconds[name] / 1e9
        print(
            f"{name:<20} {seconds[name]:8.1f} s  {rate:7.0f} GF/s  {len(sets[name])} pairs"
            + ("" if same else f"  DIFFERS by {len(sets[name] ^ sets['ours'])}"),
            flush=True,
        )
    mine = (seconds["ours"] + seconds["ours, again"]) / 2
    for name in ("float32 tiles", "faiss range_search"):
        if name in seconds:
            print(f"{name} / ours: {seconds[name] / mine:.1f}")


def greedy(count: int, width: int, decay: float) -> None:
    """De-duplicate vectors and print seconds and memory as JSON."""
    x = clustered(count, width, decay)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    dropped = greedy_best_first(lambda i: x[i], np.arange(count), THRESHOLD, BLOCK)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {
        "count": count,
        "width": width,
        "dropped": len(dropped),
        "seconds": round(seconds, 1),
        "peak_mb": round(peak),
        "of_which_vectors_mb": round(x.nbytes / 2**20),
        "peak_before_mb": round(before),
    }
    print(json.dumps(found), flush=True)


def tiles(count: int, width: int, decay: float, workers: int) -> None:
    """De-duplicate vectors in one piece and by tiles of worker processes; print seconds as JSON."""
    x = clustered(count, width, decay)
    order = np.arange(count)
    all_pairs(x[:8000], THRESHOLD)  # builds the kernel
    start = time.perf_counter()
    whole = greedy_best_first(lambda i: x[i], order, THRESHOLD, BLOCK)
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        start = time.perf_counter()
        packed = pack(lambda i: x[i], order, order, root / "vectors.npy")
        packing = time.perf_counter() - start
        search = TileSearch(root, "dedup", root / "tiles", root / "proof.json", THRESHOLD)
        start = time.perf_counter()
        pairs = search.find(lambda i: x[i], order, order, Local(workers))
        dropped = walk(pairs, order)
        by_tiles = time.perf_counter() - start
        number = len([*tiles_of(count, 0, side_for(packed.count))])
        proof = (root / "proof.json").stat().st_size
    assert dropped == whole
    found = {
        "count": count,
        "width": width,
        "workers": workers,
        "tiles": number,
        "pairs": len(pairs),
        "dropped": len(dropped),
        "whole_seconds": round(seconds, 1),
        "tiles_seconds": round(by_tiles, 1),
        "of_which_packing": round(packing, 1),
        "proof_bytes": proof,
    }
    print(json.dumps(found), flush=True)


def main() -> None:
    """Run the benchmarks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, help="compare the searches on this many vectors")
    parser.add_argument("--greedy", type=int, help="de-duplicate this many vectors")
    parser.add_argument("--tiles", type=int, help="de-duplicate this many vectors by tiles")
    parser.add_argument("--workers", type=int, default=2, help="processes that do tiles")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--decay", type=float, default=1.0)
    parser.add_argument("--no-oracle", action="store_true", help="skip the float64 reference")
    given = parser.parse_args()
    if given.count is not None:
        compare(given.count, given.width, given.decay, not given.no_oracle)
    if given.greedy is not None:
        greedy(given.greedy, given.width, given.decay)
    if given.tiles is not None:
        tiles(given.tiles, given.width, given.decay, given.workers)


if __name__ == "__main__":
    main()
