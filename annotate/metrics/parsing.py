"""Agreement of maps of classes, of their borders, and of soft hair.

Sources: Perazzi et al. 2016, "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation" (boundary F); Cheng et al. 2021, "Boundary IoU"; Huttenlocher et al. 1993, "Comparing
Images Using the Hausdorff Distance".
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
BAND = 0.02  # of the diagonal: width of the band of boundary IoU


def confusion(told: Ids, truth: Ids, count: int = 19) -> npt.NDArray[np.int64]:
    """(count, count) pixels by true class (row) and told class (column).

    Maps add up: the sum over many gives the figures of all of them together.

    Args:
        told, truth: (...) ids of the same shape, below `count`.
        count: number of classes.

    Raises:
        ValueError: shapes differ, or an id is `count` or more.
    """
    if told.shape != truth.shape:
        raise ValueError(f"maps have shapes {told.shape} and {truth.shape}; wanted the same")
    if told.size and max(int(told.max()), int(truth.max())) >= count:
        raise ValueError(f"a map has an id above {count - 1}")
    both = truth.astype(np.int64).ravel() * count + told.ravel()
    return np.bincount(both, minlength=count**2).reshape(count, count)


def class_f1(table: npt.NDArray[np.int64]) -> Floats:
    """(count,) F1 of each class from `confusion`; NaN where neither map has it."""
    hit = np.diag(table).astype(np.float64)
    either = table.sum(0) + table.sum(1)
    return np.asarray(2 * hit / np.where(either > 0, either, np.nan), np.float64)


def class_iou(table: npt.NDArray[np.int64]) -> Floats:
    """(count,) intersection over union of each class; NaN where neither map has it."""
    hit = np.diag(table).astype(np.float64)
    either = table.sum(0) + table.sum(1) - np.diag(table)
    return np.asarray(hit / np.where(either > 0, either, np.nan), np.float64)


def merged(mask: Ids, groups: Iterable[Iterable[int]]) -> Ids:
    """A map in which each group of ids is one class: 1, 2 and so on; all other ids are 0."""
    table = np.zeros(256, np.uint8)
    for number, group in enumerate(groups, 1):
        table[list(group)] = number
    return np.asarray(table[mask])


def border(mask: Mask) -> Mask:
    """Pixels of a mask that touch a pixel outside of it; the picture's edge is no border."""
    inner = ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=1)
    return np.asarray(mask & ~inner)


def boundary_f(told: Mask, truth: Mask, pixels: float) -> float:
    """F of borders: the shares of each that lie within some pixels of the other.

    Args:
        told, truth: (H, W) masks of one class.
        pixels: largest distance.

    Returns:
        0 to 1; 1 if neither mask has a border, 0 if only one has.
    """
    a, b = border(told), border(truth)
    if not a.any() and not b.any():
        return 1.0
    if not a.any() or not b.any():
        return 0.0
    precision = float((_away(b)[a] <= pixels).mean())
    recall = float((_away(a)[b] <= pixels).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_iou(told: Mask, truth: Mask, width: float | None = None) -> float:
    """IoU of the parts of two masks that lie near their own border; NaN if both are empty.

    Args:
        told, truth: (H, W) masks of one class.
        width: of the band in pixels; None for 2 % of the diagonal.
    """
    if width is None:
        width = max(1.0, BAND * float(np.hypot(*told.shape)))
    bands = []
    for mask in (told, truth):
        if not mask.any():
            bands.append(mask)
            continue
        padded = np.pad(mask, 1)  # here the picture's edge counts as border, as in the paper
        depth = ndimage.distance_transform_edt(padded)[1:-1, 1:-1]
        bands.append(mask & (depth <= width))
    union = (bands[0] | bands[1]).sum()
    return float((bands[0] & bands[1]).sum() / union) if union else float("nan")


def hd95(told: Mask, truth: Mask) -> float:
    """95th percentile of the distances between two borders in pixels, the larger of both ways.

    Returns:
        0 if neither mask has a border; NaN if only one has.
    """
    a, b = border(told), border(truth)
    if not a.any() and not b.any():
        return 0.0
    if not a.any() or not b.any():
        return float("nan")
    return float(max(np.percentile(_away(b)[a], 95), np.percentile(_away(a)[b], 95)))


def alpha_error(told: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]) -> float:
    """Mean absolute difference of two mattes of values from 0 to 1, over all pixels."""
    return float(np.abs(np.asarray(told, np.float64) - truth).mean())


def alpha_edge_error(told: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]) -> float:
    """The same over pixels that are partly hair, and their neighbours; NaN if there are none."""
    partly = (truth > 0.02) & (truth < 0.98)
    near = ndimage.binary_dilation(partly, np.ones((3, 3)))
    if not near.any():
        return float("nan")
    return float(np.abs(np.asarray(told, np.float64) - truth)[near].mean())


def _away(mask: Mask) -> Floats:
    """(H, W) distance of each pixel from the nearest pixel of a mask."""
    return np.asarray(ndimage.distance_transform_edt(~mask), np.float64)
