"""Measure validation: images a second of the checks of integrity; and false-match rates.

python benchmarks/validate.py part-05                   # against reading and decoding alone
python benchmarks/validate.py --identities photos/ portraits/   # cosines of different people
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from timing import measure

from sfhq.images import read_image
from sfhq.parts.part import Part
from sfhq.publish.checks.context import PHOTO_FOLDERS, Options
from sfhq.publish.checks.table import CHECKS
from sfhq.publish.validate import validate
from sfhq.publish.verify import image_files

RATES = (1e-1, 1e-2, 1e-3, 1e-4)


def speed(root: Path, runs: int, workers: int) -> None:
    part = Part.open(root)
    records = [r for r in part.faces() if r.alive]
    names = [c.name for c in CHECKS if c.severity == "integrity" and c.name != "export"]

    def plain() -> None:
        """The same files read, hashed and the photos decoded, with as many threads."""

        def one(record: object) -> None:
            for folder, digest in record.hashes.items():  # type: ignore[attr-defined]
                path = part.image_path(folder, record.face_id)  # type: ignore[attr-defined]
                if path.is_file():
                    data = path.read_bytes()
                    assert hashlib.sha256(data).hexdigest() == digest
                    if folder in (*PHOTO_FOLDERS, "segmentations"):
                        read_image(data)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, records))

    def whole() -> None:
        validate(part, Options(workers=workers), names)

    def everything() -> None:
        validate(part, Options(workers=workers))

    seconds = measure({"read": plain, "integrity": whole, "all checks": everything}, runs)
    print(f"{len(records)} photos, {workers} workers; load {os.getloadavg()[0]:.1f}")
    base = statistics.median(seconds["read"])
    cpu = {}
    for name, job in (("read", plain), ("integrity", whole), ("all checks", everything)):
        started = time.process_time()
        job()
        cpu[name] = len(records) / (time.process_time() - started)
    for name, values in seconds.items():
        middle = statistics.median(values)
        rate, best = len(records) / middle, len(records) / min(values)
        print(
            f"{name:<12} {rate:7.0f} images/s (best {best:.0f}), {middle / base:.2f} times "
            f"reading, hashing and decoding the same files; {cpu[name]:.0f} images a CPU second"
        )


def false_matches(folders: list[Path], most: int) -> None:
    """Cosines above which a share of pairs of different people lies."""
    from encoders.features.recognition import describe_faces

    rows = []
    for folder in folders:
        files = list(image_files([folder]))
        random.Random(1).shuffle(files)
        for path in files[:most]:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB").resize((256, 256)))
            vectors, found = describe_faces([pixels])
            if found[0]:
                rows.append(vectors[0] / np.linalg.norm(vectors[0]))
    vectors = np.stack(rows)
    cosines = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    print(f"{len(vectors)} photos of different people, {len(cosines)} pairs")
    for rate in RATES:
        print(f"false-match rate {rate:g}: cosine {np.quantile(cosines, 1 - rate):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--identities", action="store_true")
    parser.add_argument("--most", type=int, default=480)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if args.identities:
        false_matches(args.paths, args.most)
    else:
        for path in args.paths:
            speed(path, args.runs, args.workers)


if __name__ == "__main__":
    main()
