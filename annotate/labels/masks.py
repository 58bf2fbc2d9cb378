"""From class probabilities in a frame to the map of classes at the photo's own size.

Probabilities are enlarged and the largest one is taken last: a map that is enlarged instead has
stairs. The map of a mirrored photo is the mirrored map with left and right exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from annotate.labels.classes import CLASSES, FACE, HEAD, ID, LEAST_WORN, SIDED
from annotate.labels.frame import Frame
from annotate.labels.last import Last
from annotate.labels.sides import assign_sides
from sfhq.faces.classes import among
from sfhq.parts.records import Pixels

Floats = npt.NDArray[np.float32]
ALL = tuple(range(len(CLASSES)))
_SIDED = tuple(i for pair in SIDED for i in pair)


@dataclass(frozen=True, eq=False)
class FaceMap:
    """What was read of a photo.

    Attributes:
        classes: (H, W) uint8 ids.
        alpha: (H, W) uint8, how much of a pixel is hair, 0 to 255; None where it was not asked for.
        margin: (H, W) float32, the largest probability minus the second largest; 1 outside the
            frame, where nothing was read.
        read: (H, W) bool, whether the pixel lies in the frame.
    """

    classes: Pixels
    alpha: Pixels | None
    margin: Floats
    read: npt.NDArray[np.bool_]


def largest(planes: Tensor, classes: tuple[int, ...] = ALL) -> tuple[Pixels, Floats]:
    """The class with the largest probability, and how far the second largest lies below.

    Where the left and the right one of a pair are equally likely, neither is more right than the
    other, and the choice would not survive mirroring: the likeliest class without a side is taken.

    Args:
        planes: (K, H, W) probabilities.
        classes: (K,) ids of the planes, rising; of a pair both or none.

    Returns:
        (H, W) uint8 ids and (H, W) float32 margins.
    """
    values = planes.numpy()
    best, second = values[0].copy(), np.zeros_like(values[0])
    ids, low = np.full(best.shape, classes[0], np.uint8), np.empty_like(best)
    ahead = np.empty(best.shape, bool)
    numbers = ahead.view(np.uint8)
    for i, plane in zip(classes[1:], values[1:], strict=True):  # faster than sorting
        np.greater(plane, best, out=ahead)  # of equal ones the first stays
        np.minimum(best, plane, out=low)
        np.maximum(second, low, out=second)
        np.maximum(best, plane, out=best)
        np.multiply(numbers, np.uint8(i), out=numbers)
        np.maximum(ids, numbers, out=ids)  # later classes have larger ids
    for left, right in SIDED:
        if left not in classes:
            continue
        tied = (ids == left) & (values[classes.index(left)] == values[classes.index(right)])
        if tied.any():
            plain = [k for k, i in enumerate(classes) if i not in _SIDED]
            if plain:
                other = np.array([classes[k] for k in plain], np.uint8)
                ids[tied] = other[values[plain][:, tied].argmax(0)]
    return ids, best - second


def possible(planes: Tensor) -> tuple[int, ...]:
    """The classes that can be the likeliest one somewhere: above 1 / 19 in some place.

    Of a pair both are named where one can; background and skin always are.

    Args:
        planes: (19, S, S) probabilities that sum to 1.
    """
    above = (planes.amax((1, 2)) >= 1 / len(CLASSES)).tolist()
    above[0] = above[1] = True
    for left, right in SIDED:
        above[left] = above[right] = above[left] or above[right]
    return tuple(i for i, there in enumerate(above) if there)


def read_map(
    planes: Tensor, frame: Frame, *, sided: bool = True, alpha: Tensor | None = None
) -> FaceMap:
    """The map of one face at the photo's size.

    Args:
        planes: (19, S, S) float32 probabilities in the frame.
        frame: where they were read.
        sided: they tell left from right; else sides are told by place.
        alpha: (S, S) share of hair in a pixel; None for none.

    Returns:
        The map; pixels outside the frame are background.
    """
    height, width = frame.photo
    classes = np.zeros((height, width), np.uint8)
    margin = np.ones((height, width), np.float32)
    soft = None if alpha is None else np.zeros((height, width), np.uint8)
    read = np.zeros((height, width), bool)
    names = possible(planes)
    kept = planes[list(names)]  # the rest is not worth enlarging
    both = kept if alpha is None else torch.cat([kept, alpha[None]])
    for rows, columns, values, inside in frame.strips(both):
        ids, sure = largest(values[: len(names)], names)
        here = (rows, columns)
        within = None if inside is None else inside.numpy()
        classes[here] = ids if within is None else np.where(within, ids, 0)
        margin[here] = sure if within is None else np.where(within, sure, 1)
        read[here] = True if within is None else within
        if soft is not None:
            share = (values[-1].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            soft[here] = share if within is None else np.where(within, share, 0)
    return FaceMap(classes if sided else assign_sides(classes), soft, margin, read)


_LAST: Last[FaceMap] = Last()


def first_map(planes: Tensor, frame: Frame) -> FaceMap:
    """`read_map` of the first of (N, 19, S, S) planes; the last planes' one is kept."""
    key = (frame.size, frame.photo, frame.whole, frame.matrix.tobytes())
    return _LAST.of(planes, key, lambda: read_map(planes[0], frame))


def over(front: FaceMap, behind: FaceMap) -> FaceMap:
    """Two faces of one photo as one map: the front one's own pixels, and the other's elsewhere."""
    own = front.read & ((front.classes > 0) | ~behind.read)
    alpha = front.alpha
    if front.alpha is not None and behind.alpha is not None:
        alpha = np.maximum(front.alpha, behind.alpha)
    return FaceMap(
        np.where(own, front.classes, behind.classes),
        alpha,
        np.where(own, front.margin, behind.margin),
        front.read | behind.read,
    )


def shares(classes: Pixels) -> list[float]:
    """Share of the picture that each of the 19 classes has."""
    counts = np.bincount(classes.ravel(), minlength=len(CLASSES))[: len(CLASSES)]
    return [round(float(n) / classes.size, 6) for n in counts]


@dataclass(frozen=True)
class MapFacts:
    """What a map says of itself.

    Attributes:
        margins: of the head to the left, top, right and bottom edge, in shares of the photo's side;
            empty where there is no head.
        certainty: mean margin of the probabilities over the head, 0 to 1.
        flags: words, sorted.
    """

    margins: tuple[float, ...]
    certainty: float
    flags: tuple[str, ...]


LEAST_FACE = 0.01  # of the photo; less of skin, eyes, nose and lips is no face
DOUBTFUL = 0.5  # mean margin of a head; below it a map is not to be trusted
SMALL = 96  # pixels of the photo's shorter side


_FACTS: Last[MapFacts] = Last()


def facts(found: FaceMap) -> MapFacts:
    """Margins, certainty and flags of a map.

    The flags are "no face"; "hat" and "glasses", which cover what is behind them; "one side hidden"
    where a side has neither brow nor eye, without glasses; "truncated" where the head reaches the
    photo's edge above or at a side, or the frame's; "low margin"; and "small photo".
    """
    return _FACTS.of(found, None, lambda: _facts(found))


def _facts(found: FaceMap) -> MapFacts:
    classes = found.classes
    height, width = classes.shape
    counts = np.bincount(classes.ravel(), minlength=len(CLASSES))
    flags = {"small photo"} if min(height, width) < SMALL else set()
    head = among(classes, HEAD)
    if counts[list(FACE)].sum() < LEAST_FACE * classes.size or not head.any():
        return MapFacts((), 0.0, tuple(sorted({*flags, "no face"})))
    rows, columns = np.flatnonzero(head.any(1)), np.flatnonzero(head.any(0))
    margins = (
        columns[0] / width,
        rows[0] / height,
        (width - 1 - columns[-1]) / width,
        (height - 1 - rows[-1]) / height,
    )
    if min(margins[:3]) <= 1.5 / min(height, width) or _cut(head, found.read):
        flags.add("truncated")
    for word, name in (("hat", ID["hat"]), ("glasses", ID["eye_g"])):
        if counts[name] >= LEAST_WORN[word] * head.sum():
            flags.add(word)
    eyes = [counts[left] + counts[left + 2] for left in (2, 3)]  # brow and eye of a side
    if "glasses" not in flags and min(eyes) == 0:
        flags.add("one side hidden")
    certainty = float(found.margin[head].mean())
    if certainty < DOUBTFUL:
        flags.add("low margin")
    return MapFacts(
        tuple(round(float(m), 4) for m in margins), round(certainty, 4), tuple(sorted(flags))
    )


def _cut(head: npt.NDArray[np.bool_], read: npt.NDArray[np.bool_]) -> bool:
    """Whether the head goes on where the frame ends inside the photo."""
    if read.all():
        return False
    unread = ~read
    beside = np.zeros_like(read)
    beside[1:] |= unread[:-1]
    beside[:-1] |= unread[1:]
    beside[:, 1:] |= unread[:, :-1]
    beside[:, :-1] |= unread[:, 1:]
    return int((head & beside).sum()) > 2
