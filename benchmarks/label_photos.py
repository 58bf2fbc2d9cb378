"""How far the label network agrees on photos with networks that did not teach it.

    python benchmarks/label_photos.py t2i portraits photos --teachers mediapipe/

Only the held-out tenth of each folder of photos counts. dlib's 68 points taught nothing.
MediaPipe's selfie segmenter for landscapes tells persons from background; it has other weights than
the square one that taught, but was trained on the same pictures. The hair segmenter did teach, and
is there to compare trainings alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from labels import held_out
from PIL import Image

from annotate.metrics import points
from annotate.network.reader import LabelReader, load_labels
from annotate.teachers.mediapipe import Network, Teachers
from sfhq.faces.classes import ID
from sfhq.faces.detector import FaceDetector, best_face
from sfhq.parts.records import Pixels

Mask = npt.NDArray[np.bool_]
LANDSCAPE = "selfie_segmentation_landscape.tflite"
WIDE, HIGH = 256, 144  # its pixels
MOVED = 0.08  # of the crop's side, and of its scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--most", type=int, default=10**9, help="of each folder")
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    reader, digest = load_labels(given.weights)
    print(f"weights {digest[:12]}")
    teachers, other = Teachers(given.teachers), given.teachers / LANDSCAPE
    person = Network(other.read_bytes()) if other.is_file() else None
    if person is None:
        print(f"{other} is missing: persons are not compared")
    crops = [c for f in given.folders for _, c in held_out(f, reader.size, given.most)]
    compare(reader, [c.pixels for c in crops], teachers, person)


def compare(
    reader: LabelReader, crops: list[Pixels], teachers: Teachers, person: Network | None
) -> None:
    detector, rng = FaceDetector(), np.random.default_rng(0)
    apart, moved = [], []
    persons, hairs = np.zeros(3), np.zeros(3)
    for crop in crops:
        reading = reader.read(crop[None])
        ids = reading.parsing[0].argmax(0).numpy()
        placed = reading.points.numpy()
        unit = points.eye_distance(placed)
        face = best_face(detector.detect(Image.fromarray(crop)))
        if face is not None:
            apart.append(points.errors(placed[:, :68], face.landmarks[None], unit)[0])
        if person is not None:
            persons += counts(ids != ID["background"], someone(person, crop))
        hairs += counts(ids == ID["hair"], teachers.hair(crop) > 0.5)
        moved.append(changed(reader, crop, ids, rng))
    errors = np.stack(apart)
    print(f"{len(crops)} photos; dlib finds a face in {len(apart)}")
    for name, first, last in (("all 68", 0, 68), ("jaw", 0, 17), ("the other 51", 17, 68)):
        part = errors[:, first:last]
        print(
            f"  {name} from dlib's: mean {100 * part.mean():.2f}, median "
            f"{100 * np.median(part):.2f} % of the eye distance"
        )
    if person is not None:
        print(f"  persons, F1 with the segmenter for landscapes: {f1(persons):.3f}")
    print(f"  hair, F1 with the segmenter that taught: {f1(hairs):.3f}")
    print(f"  pixels whose class changes where the crop moves by up to 8 %: {np.mean(moved):.4f}")


def someone(network: Network, crop: Pixels) -> Mask:
    """(S, S) whether the segmenter for landscapes sees a person."""
    small = Image.fromarray(crop).resize((WIDE, HIGH), Image.Resampling.BILINEAR)
    share = network((np.asarray(small, np.float32) / 255)[None].astype(np.float32))[0]
    laid = Image.fromarray(share.reshape(HIGH, WIDE)).resize(
        crop.shape[1::-1], Image.Resampling.BILINEAR
    )
    return np.asarray(laid) > 0.5


def counts(told: Mask, other: Mask) -> npt.NDArray[np.float64]:
    """Pixels of both, of the one alone, and of the other alone."""
    return np.array([(told & other).sum(), (told & ~other).sum(), (other & ~told).sum()], float)


def f1(sums: npt.NDArray[np.float64]) -> float:
    return float(2 * sums[0] / (2 * sums[0] + sums[1] + sums[2]))


def changed(
    reader: LabelReader, crop: Pixels, ids: npt.NDArray[np.int64], rng: np.random.Generator
) -> float:
    """Share of the pixels whose class is another one where the crop is shifted and scaled."""
    size = crop.shape[0]
    scale = 1 + rng.uniform(-MOVED, MOVED)
    shift = size / 2 * (1 - scale) + rng.uniform(-MOVED, MOVED, 2) * size
    matrix = (scale, 0, float(shift[0]), 0, scale, float(shift[1]))
    affine = Image.Transform.AFFINE
    view = Image.fromarray(crop).transform((size, size), affine, matrix, Image.Resampling.BICUBIC)
    again = reader.read(np.array(view)[None]).parsing[0].argmax(0).numpy()
    wanted = Image.fromarray(ids.astype(np.uint8)).transform(
        (size, size), affine, matrix, Image.Resampling.NEAREST, fillcolor=255
    )
    there = np.asarray(wanted)
    return float((again != there)[there != 255].mean())


if __name__ == "__main__":
    main()
