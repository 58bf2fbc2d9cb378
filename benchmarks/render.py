"""Measure rendered heads: speed, exact labels, faces that dlib finds, distance to photographs.

    python benchmarks/render.py speed                      # images/s and memory of two workers
    python benchmarks/render.py exact                      # labels at four times the size; mirrored
    python benchmarks/render.py faces HEADS                # faces that dlib finds in a part
    python benchmarks/render.py frechet HEADS PHOTOS       # Fréchet distance to a folder of photos

HEADS is a part made by `sfhq render`; PHOTOS is a folder of aligned photographs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from sfhq.parts.folders import RENDER_FOLDER
from sfhq.parts.part import Part

GROUPS = {
    "jaw": range(0, 17),
    "brows": range(17, 27),
    "nose": range(27, 36),
    "eyes": range(36, 48),
    "mouth": range(48, 68),
}


def peak_memory(process: subprocess.Popen[bytes], done: threading.Event) -> list[float]:
    """A list whose one item is the largest memory of the process tree so far, in MB.

    A thread updates it every 0.1 s until `done` is set. Shared pages count once.
    """
    peak = [0.0]

    def look() -> None:
        while not done.wait(0.1):
            try:
                tree = psutil.Process(process.pid)
                every = [tree, *tree.children(recursive=True)]
                peak[0] = max(peak[0], sum(p.memory_full_info().pss for p in every) / 1e6)
            except psutil.Error:
                pass

    threading.Thread(target=look, daemon=True).start()
    return peak


def speed(counts: dict[int, int], workers: int) -> None:
    """Print images per second with the start of the command, and without it, and peak memory.

    The speed without the start comes from two runs of different length.

    Args:
        counts: size -> number of faces; a third of them must be whole shards for each worker.
        workers: number of worker processes.
    """
    with tempfile.TemporaryDirectory() as folder:
        for size, count in counts.items():
            seconds = {}
            peak = [0.0]
            for faces in (count // 3, count):
                target = Path(folder) / f"{size}-{faces}"
                command = [
                    *(sys.executable, "-c", "from cli import main; main()", "render", str(target)),
                    *("--count", str(faces), "--size", str(size), "--workers", str(workers)),
                    *("--seed", "1000"),
                ]
                done = threading.Event()
                start = time.perf_counter()
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
                peak = peak_memory(process, done)
                assert process.wait() == 0
                done.set()
                seconds[faces] = time.perf_counter() - start
            few, many = seconds
            steady = (many - few) / (seconds[many] - seconds[few])
            print(
                f"{size} px: {many / seconds[many]:.2f} images/s over {many} images, "
                f"{steady:.2f} without the start; peak memory of all processes {peak[0]:.0f} MB",
                flush=True,
            )


def exact(people: int, size: int) -> None:
    """Compare the shares of classes at a size with those at four times the size, reduced."""
    from sfhq.render.labels.classes import read
    from sfhq.render.people.recipe import RenderRecipe
    from sfhq.render.people.sampling import person
    from sfhq.render.scene.model import make

    gaps, other, total = [], 0, 0
    for seed in range(people):
        model = make(person(seed, RenderRecipe()))
        small, large = read(model, size), read(model, 4 * size, 2)
        reduced = large.shares.reshape(-1, size, 4, size, 4).mean((2, 4))
        border = ((small.shares > 0) & (small.shares < 1)) | ((reduced > 0) & (reduced < 1))
        gaps.append(np.abs(small.shares - reduced)[border])
        other += int((small.classes != reduced.argmax(0)).sum())
        total += small.classes.size
    gap = np.concatenate(gaps)
    low, mid, high = np.percentile(gap, [50, 99, 99.9])
    print(
        f"{people} people at {size} px: the share of a class in a border pixel differs by "
        f"{low:.3f} (median), {mid:.3f} (99 %), {high:.3f} (99.9 %), {gap.max():.3f} (largest); "
        f"{other / total:.4%} of pixels have another class"
    )


def mirrored(people: int, size: int) -> None:
    """Count the scenes whose mirrored labels equal the labels of the mirrored scene exactly."""
    from sfhq.render.labels.classes import ID, read
    from sfhq.render.people.recipe import RenderRecipe
    from sfhq.render.people.sampling import person
    from sfhq.render.scene.model import make, mirror

    other = np.arange(len(ID))
    for part in ("brow", "eye", "ear"):
        other[[ID[f"l_{part}"], ID[f"r_{part}"]]] = ID[f"r_{part}"], ID[f"l_{part}"]
    same = 0
    for seed in range(people):
        model = make(person(seed, RenderRecipe()))
        here, there = read(model, size), read(mirror(model), size)
        same += bool(
            (other[here.classes[:, ::-1]] == there.classes).all()
            and (other[here.bare[:, ::-1]] == there.bare).all()
            and (here.covers[:, ::-1] == there.covers).all()
        )
    print(f"{same} of {people} mirrored scenes have exactly the mirrored labels at {size} px")


def faces(root: Path, most_yaw: float) -> None:
    """Print the share of photographs in which dlib finds a face, and the error of its points."""
    from sfhq.faces.detector import FaceDetector

    part, detector = Part.open(root), FaceDetector()
    found = total = 0
    gaps: list[Any] = []
    for record in part.records("render"):
        if not record.alive or abs(record.params["details"]["yaw"]) > most_yaw:
            continue
        total += 1
        with Image.open(part.image_path(RENDER_FOLDER, record.face_id)) as image:
            scale = max(256 / image.width, 1.0)
            side = round(image.width * scale)
            seen = detector.detect(image.convert("RGB").resize((side, side)))
        if not seen:
            continue
        found += 1
        best = max(seen, key=lambda d: d.area)
        points = part.row("render_landmarks", record)[:68]
        outer = np.linalg.norm(points[45, :2] - points[36, :2])
        theirs = (best.landmarks + 0.5) / scale - 0.5
        gap = np.linalg.norm(theirs - points[:, :2], axis=1) / outer
        gaps.append(np.where(points[:, 2] == 2, gap, np.nan))
    print(
        f"dlib finds a face in {found} of {total} photographs with yaw within {most_yaw:g} degrees"
    )
    table = np.stack(gaps)
    print("distance to the exact visible points, divided by the outer eye distance:")
    for name, which in GROUPS.items():
        values = table[:, list(which)]
        print(
            f"  {name:<6} median {np.nanmedian(values):.3f}, "
            f"90 % {np.nanpercentile(values, 90):.3f}"
        )
    inner = table[:, 17:]
    print(f"  without the jaw: median {np.nanmedian(inner):.3f}; all: {np.nanmedian(table):.3f}")


def flat(labels: Any) -> Any:
    """A flat picture (H, W, 3) to compare with: one colour per class and one lamp."""
    from sfhq.images import CLASS_COLOURS

    colours = np.array(CLASS_COLOURS, np.float32)
    colours[[1, 7, 8, 10, 14]] = (205, 160, 135)
    colours[[2, 3, 17]] = (60, 42, 30)
    colours[[4, 5]] = (235, 235, 235)
    colours[[12, 13]] = (180, 95, 90)
    colours[0] = (128, 130, 134)
    lamp = np.clip(labels.normals @ np.array([0.35, 0.4, 0.85]), 0, 1)
    shade = np.where(labels.classes == 0, 1.0, 0.35 + 0.65 * lamp)
    return np.clip(colours[labels.classes] * shade[..., None], 0, 255).astype(np.uint8)


def frechet(root: Path, photos: Path, most: int) -> None:
    """Print the Fréchet distances of renders and flat pictures to photos (EfficientNet-lite0)."""
    import torch

    from sfhq.render.labels.classes import read
    from sfhq.render.people.recipe import RenderRecipe
    from sfhq.render.people.sampling import person
    from sfhq.render.scene.model import make
    from sfhq.training.features import load_feature_pyramid
    from sfhq.training.metrics import frechet_distance, precision_recall

    pyramid = load_feature_pyramid(224)

    def features(images: Any) -> Any:
        out = []
        batch: list[Any] = []
        for image in images:
            small = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
            batch.append(np.asarray(small.resize((256, 256), Image.Resampling.BICUBIC)))
            if len(batch) == 32:
                out.append(embed(batch))
                batch = []
        return np.concatenate([*out, *([embed(batch)] if batch else [])])

    def embed(batch: list[Any]) -> Any:
        x = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            return pyramid(x)[-1].mean((2, 3)).numpy()

    def opened(paths: Any) -> Any:
        for path in paths:
            with Image.open(path) as image:
                yield image.copy()

    part = Part.open(root)
    records = [r for r in part.records("render") if r.alive][:most]
    seeds = [r.seed for r in records[:500] if r.seed is not None]
    size = records[0].width
    real = features(opened(sorted(photos.glob("*.jpg"))))
    ours = features(opened(part.image_path(RENDER_FOLDER, r.face_id) for r in records))
    first = features(
        Image.fromarray(flat(read(make(person(seed, RenderRecipe())), size))) for seed in seeds
    )
    order = np.random.default_rng(0).permutation(len(real))
    half = len(real) // 2
    base = frechet_distance(real[order[:half]], real[order[half:]])
    print(f"{size} px: {len(real)} photos, {len(ours)} renders, {len(first)} flat pictures")
    print(f"  two halves of the photos    {base:.2f}")
    for name, value in (("renders", ours), ("flat pictures", first)):
        precision, recall = precision_recall(real, value)
        distance = frechet_distance(real, value)
        print(f"  {name:<27} {distance:.2f}  precision {precision:.2f} recall {recall:.2f}")


def main() -> None:
    """Run the benchmark that was asked for and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["speed", "exact", "faces", "frechet"])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument(
        "--count", type=int, default=192, help="faces of a run at 256 px; twice as many at 128 px"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--most", type=int, default=2000)
    options = parser.parse_args()
    if options.what == "speed":
        speed({128: 2 * options.count, 256: options.count}, options.workers)
    elif options.what == "exact":
        exact(20, 256)
        mirrored(70, 128)
    elif options.what == "faces":
        faces(options.folders[0], 30.0)
    else:
        frechet(options.folders[0], options.folders[1], options.most)


if __name__ == "__main__":
    main()
