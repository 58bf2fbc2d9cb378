"""Left and right of brows, eyes and ears by their place, where a network's word cannot be trusted.

The middle of the face runs from the nose to the lips. All sums are of whole numbers, so that the
sides of a mirrored map are the mirrored sides, without exception.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from annotate.labels.classes import ID, SIDED
from sfhq.faces.classes import among
from sfhq.parts.records import Pixels

LIPS = (ID["mouth"], ID["u_lip"], ID["l_lip"])
BOTH = 0.2  # share of a piece on its smaller side from which it is cut in two

Mask = npt.NDArray[np.bool_]
Sum = tuple[int, int, int]  # count, and sums of twice x and y from the middle of the picture


def assign_sides(classes: Pixels) -> Pixels:
    """A map of classes whose pairs are told apart by their place.

    A connected piece of a brow, an eye or an ear goes to the side that most of it lies on. One that
    spans the middle, such as brows that meet, is cut along it. Without nose and lips the middle is
    the upright line through the skin's centre.

    Args:
        classes: (H, W) uint8 ids; of a pair, it does not matter which id a pixel has.

    Returns:
        (H, W) uint8 with the subject's left and right: in a frontal picture the left ones lie on
        the right. A pixel exactly on the middle of a piece that is cut becomes skin.
    """
    out = classes.copy()
    side = _side(classes)
    for left, right in SIDED:
        both = (classes == left) | (classes == right)
        if not both.any():
            continue
        pieces, count = ndimage.label(both, np.ones((3, 3)))
        boxes = ndimage.find_objects(pieces)
        for number in range(1, count + 1):
            box = boxes[number - 1]
            piece = pieces[box] == number
            where = side[box]
            ahead, behind = int((piece & (where > 0)).sum()), int((piece & (where < 0)).sum())
            here = out[box]
            if min(ahead, behind) > BOTH * (ahead + behind) or ahead == behind:
                here[piece] = ID["skin"]
                here[piece & (where > 0)] = left
                here[piece & (where < 0)] = right
            else:
                here[piece] = left if ahead > behind else right
    return out


def _sums(mask: Mask) -> Sum:
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    return (
        len(rows),
        int((2 * columns.astype(np.int64) - (width - 1)).sum()),
        int((2 * rows.astype(np.int64) - (height - 1)).sum()),
    )


def _side(classes: Pixels) -> npt.NDArray[np.int8]:
    """(H, W): 1 on the subject's left of the middle, -1 on the right, 0 on it."""
    height, width = classes.shape
    nose, lips = _sums(classes == ID["nose"]), _sums(among(classes, LIPS))
    x = 2 * np.arange(width, dtype=np.int64) - (width - 1)
    y = 2 * np.arange(height, dtype=np.int64) - (height - 1)
    if nose[0] and lips[0]:
        # (lips - nose) x (pixel - nose), times the counts, which are above 0.
        n, m = nose[0], lips[0]
        across, down = lips[1] * n - nose[1] * m, lips[2] * n - nose[2] * m
        if down > 0:  # else the face lies on its side, or a class is wrong
            return _signs(x, y, down, -across, nose)
    middle = nose if nose[0] else _sums(classes == ID["skin"])
    return _signs(x, y, 1, 0, middle if middle[0] else (1, 0, 0))


def _signs(
    x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], a: int, b: int, through: Sum
) -> npt.NDArray[np.int8]:
    """Signs of a (x - x0) + b (y - y0) for a point (x0, y0) that is given as sums.

    Python's whole numbers have no end; numpy's would run over, so a row's border is found first.
    """
    n, sx, sy = through
    out = np.empty((len(y), len(x)), np.int8)
    for row, height in enumerate(y.tolist()):
        # a x n > a sx - b (height n - sy), with a n > 0: x above or below a fraction.
        top, bottom = a * sx - b * (height * n - sy), a * n
        low, rest = divmod(top, bottom)
        out[row] = np.where(x > low, 1, np.where(x < low, -1, 0 if rest == 0 else -1))
    return out
