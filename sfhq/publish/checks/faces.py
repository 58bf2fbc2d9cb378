"""Checks that look at one face at a time: a function yields what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sfhq import stages
from sfhq.faces.classes import CLASSES, HEAD, ID
from sfhq.faces.found import POINTS
from sfhq.faces.points import ARRAY, COUNT, VISIBLE
from sfhq.images import mark_of
from sfhq.publish.checks.context import MASKS, Context, Face

# In FFHQ's frame the distance of the eyes is at most a quarter of the side, that from eyes to mouth
# at most 1 / 3.6 of it, and one of the two is as large as that (Karras et al. 2019).
EYES, MOUTH, LOOSE = 0.25, 1 / 3.6, 0.03
OFF = 0.04  # shares of the side that the eyes may lie beside the middle
INNER = slice(27, 60)  # nose, eyes and outer lips: they lie on the head
LEAST_INSIDE = 0.9
ATTRIBUTES = "attribute_probabilities"  # array of `attribute`
OUTSIDE = 1.0  # pixels that a visible point may lie outside


def files(face: Face, context: Context) -> Iterator[str]:
    """Every image is there and is what was written."""
    yield from face.broken.values()


def aligned(face: Face, context: Context) -> Iterator[str]:
    """The photo shows one face, where alignment puts it."""
    count = face.record.about.get("face_count")
    if count is not None and count != 1:
        yield f"{count} faces found; wanted 1"
    row = context.row(POINTS, face.record)
    if row is None or face.pixels is None:
        return
    points = np.asarray(row, np.float64)
    if not np.isfinite(points).all():
        return
    points = (points + 0.5) / max(face.pixels.shape[:2])
    left, right = points[36:42].mean(0), points[42:48].mean(0)
    eyes, middle = float(np.linalg.norm(right - left)), (left + right) / 2
    mouth = float(np.linalg.norm((points[48] + points[54]) / 2 - middle))
    fill = max(eyes / EYES, mouth / MOUTH)
    if abs(middle[0] - 0.5) > OFF + LOOSE or not 1 - 8 * LOOSE < fill < 1 + 8 * LOOSE:
        yield (
            f"eyes at {middle[0]:.2f}, {middle[1]:.2f} of the side, {eyes:.2f} apart; not FFHQ's "
            "frame"
        )


def masks(face: Face, context: Context) -> Iterator[str]:
    """The map of classes has the photo's size and known ids, and shows a face."""
    if MASKS not in face.record.hashes or face.mask is None:
        return
    mask = face.mask
    if mask.ndim != 2 or mask.dtype != np.uint8:
        yield f"shape {mask.shape} of {mask.dtype}; wanted (H, W) of uint8"
        return
    if face.pixels is not None and mask.shape != face.pixels.shape[:2]:
        yield f"{mask.shape[1]} x {mask.shape[0]} pixels; the photo has {_size(face)}"
    if int(mask.max()) >= len(CLASSES):
        yield f"id {int(mask.max())}; wanted at most {len(CLASSES) - 1}"
    elif not (mask == ID["skin"]).any():
        yield "no skin in it"


def landmarks(face: Face, context: Context) -> Iterator[str]:
    """Points have their shape, visible ones lie in the photo, and those of the face on the head."""
    height, width = (0, 0) if face.pixels is None else face.pixels.shape[:2]
    for name, shape in ((POINTS, (68, 2)), (ARRAY, (COUNT, 5)), ("render_landmarks", (COUNT, 3))):
        row = context.row(name, face.record)
        if row is None:
            continue
        points = np.asarray(row, np.float64)
        if points.shape != shape:
            yield f"{name} has shape {points.shape}; wanted {shape}"
            continue
        known = np.asarray(np.isfinite(points[:, :2]).all(1))
        if not known.any() or not height:
            continue
        if name != POINTS:
            x, y = points[:, 0], points[:, 1]
            seen = points[:, 2] == VISIBLE
            out = (x < -OUTSIDE) | (y < -OUTSIDE) | (x > width) | (y > height)
            if (seen & (out | ~known)).any():
                count = int((seen & (out | ~known)).sum())
                yield f"{name}: {count} visible points do not lie in the photo"
        if face.mask is not None and face.mask.shape == (height, width) and face.mask.any():
            inside = _on_head(points[INNER, :2][known[INNER]], face.mask)
            if inside < LEAST_INSIDE:
                yield f"{name}: {100 * inside:.0f} % of nose, eyes and mouth lie on the mask's head"


def _on_head(points: np.ndarray[tuple[int, ...], np.dtype[np.float64]], mask: object) -> float:
    ids = np.asarray(mask)
    if not len(points):
        return 1.0
    x = np.clip(np.rint(points[:, 0]), 0, ids.shape[1] - 1).astype(int)
    y = np.clip(np.rint(points[:, 1]), 0, ids.shape[0] - 1).astype(int)
    return float(np.isin(ids[y, x], HEAD).mean())


def captions(face: Face, context: Context) -> Iterator[str]:
    """Each caption says the facts that were noted with it, which agree with the attributes."""
    row = context.row(ATTRIBUTES, face.record)
    yield from stages.reader("captions")(face.record, row)


def marks(face: Face, context: Context) -> Iterator[str]:
    """The photo carries the marks that it was written with, and they hold."""
    wanted = mark_of(face.folder)
    if wanted is None or face.pixels is None:
        return
    if face.origin is None:
        yield f"no XMP mark; wanted {wanted}"
    elif face.origin.source_type != wanted:
        yield f"XMP says {face.origin.source_type or 'nothing'}; wanted {wanted}"
    found = face.watermark
    if context.payload is not None and face.folder == "images" and found is not None:
        if not found.there:
            yield f"no watermark ({found.deviations:.1f} sd); written with {context.payload}"
        elif found.payload is not None and f"{found.payload:08x}" != context.payload:
            yield f"watermark {found.payload:08x}; wanted {context.payload}"
    if face.manifest is not None and face.manifest.state == "invalid":
        yield f"the signed manifest does not hold ({', '.join(face.manifest.problems)})"


def _size(face: Face) -> str:
    assert face.pixels is not None
    return f"{face.pixels.shape[1]} x {face.pixels.shape[0]}"
