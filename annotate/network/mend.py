"""Takes out of a map of classes what contradicts the rest of the face.

On photographs the network sees specks of glasses in shaded eyes, and hats in blurred places above
a head, which it has never seen on rendered heads. Real glasses and hats are large and whole, and
the network's own attribute knows hats: what is neither becomes the next likely class. Pieces of
hair in the middle of skin, such as dark wrinkles, and pieces of hat, hair and ears away from the
head go the same way.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from sfhq.faces.classes import CLASSES, FACE, HEAD, ID, SIDED, among
from sfhq.parts.records import Pixels

Mask = npt.NDArray[np.bool_]
# Glasses cover that much, in squared distances of the outer eye corners, or reach that many of
# these distances from side to side in one piece. Of 128 glasses of 400 rendered heads 127 cover
# .39 or more, and what else is read as glasses .045 or less; of 240 text-to-image photos, seen by
# eye, shaded or painted eyes cover up to .325, glasses .38 or more but for a pair in one piece.
LEAST_GLASSES, WIDE_GLASSES = 0.35, 0.9
LEAST_HAT = 0.08  # of the head; all hats of the same heads have .22 or more, all else below .005
LEAST_WORN = 0.0125  # probability of a hat; of those heads' hats the least is .93
PIECE = 0.02  # of the head: a smaller piece of hair amid skin, or away from the head, is a mistake
SKIN_AROUND = 0.95  # of the ring around a piece
NEAR = 2  # pixels: how far a kept piece reaches where it is enlarged
AROUND = np.ones((3, 3), bool)
PLAIN = tuple(i for i in range(len(CLASSES)) if not any(i in pair for pair in SIDED))


def mended(planes: Tensor, worn: float, eye: float) -> Tensor:
    """Probabilities without glasses, hats and hair that cannot be.

    Where a class is taken out, the others keep their proportions. The map of a mirrored photo is
    mended like its mirror image.

    Args:
        planes: (19, S, S) probabilities that sum to 1.
        worn: the network's own probability of a hat, before calibration; 1 for a headscarf.
        eye: distance of the outer eye corners in pixels.

    Returns:
        (19, S, S); `planes` itself where nothing was taken out.
    """
    ids = largest(planes)
    head = int(among(ids, HEAD).sum())
    worn_wrongly = {ID["eye_g"]: _glasses(ids, eye), ID["hat"]: _hat(ids, head, worn)}
    wrong = {c: pixels for c, pixels in worn_wrongly.items() if pixels is not None}
    if wrong:
        planes = _without(planes, ids, wrong)
        ids = largest(planes)
    away = _away(ids, PIECE * head)
    strays = {int(c): away & (ids == c) for c in np.unique(ids[away])}
    amid = _amid_skin(ids, PIECE * head)
    if amid.any():
        strays[ID["hair"]] = strays.get(ID["hair"], amid) | amid
    return _without(planes, ids, strays) if strays else planes


def largest(planes: Tensor) -> Pixels:
    """(S, S) the likeliest class of each pixel; of equal ones the first."""
    values = planes.numpy()
    best, ids = values[0].copy(), np.zeros(values.shape[1:], np.uint8)
    ahead = np.empty(ids.shape, bool)
    numbers = ahead.view(np.uint8)
    for i, plane in enumerate(values[1:], 1):  # many times faster than argmax
        np.greater(plane, best, out=ahead)
        np.maximum(best, plane, out=best)
        np.multiply(numbers, np.uint8(i), out=numbers)
        np.maximum(ids, numbers, out=ids)  # later classes have larger numbers
    return ids


def _glasses(ids: Pixels, eye: float) -> Mask | None:
    found: Mask = ids == ID["eye_g"]
    if not found.any() or found.sum() >= LEAST_GLASSES * eye**2:
        return None
    pieces, _ = ndimage.label(found, AROUND)
    wide = max(place[1].stop - place[1].start for place in ndimage.find_objects(pieces))
    return None if wide >= WIDE_GLASSES * eye else found


def _hat(ids: Pixels, head: int, worn: float) -> Mask | None:
    found: Mask = ids == ID["hat"]
    if not found.any():
        return None
    return None if worn >= LEAST_WORN and _sizes(found)[1].max() >= LEAST_HAT * head else found


def _sizes(mask: Mask) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Number of the piece that each pixel belongs to, 0 for none, and pixels of each; 0 of none."""
    pieces, count = ndimage.label(mask, AROUND)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    return pieces, sizes


def _amid_skin(ids: Pixels, most: float) -> Mask:
    """Pieces of hair of fewer pixels than `most` with nothing but the face around them."""
    pieces, sizes = _sizes(ids == ID["hair"])
    found = np.zeros(ids.shape, bool)
    for k, place in enumerate(ndimage.find_objects(pieces), 1):
        inside = all(s.start > 0 and s.stop < n for s, n in zip(place, ids.shape, strict=True))
        if sizes[k] >= most or not inside:
            continue
        here = tuple(slice(s.start - 1, s.stop + 1) for s in place)
        own = pieces[here] == k
        ring = ndimage.binary_dilation(own, AROUND) & ~own
        if among(ids[here], FACE)[ring].mean() >= SKIN_AROUND:
            found[here] |= own
    return found


def _away(ids: Pixels, most: float) -> Mask:
    """Pieces of the head of fewer pixels than `most` that do not touch its largest one."""
    pieces, sizes = _sizes(among(ids, HEAD))
    stray = sizes < min(most, sizes.max())
    stray[0] = False
    found: Mask = stray[pieces]
    return found


def _without(planes: Tensor, ids: Pixels, wrong: dict[int, Mask]) -> Tensor:
    """The planes with some classes taken out of some pixels, and around them."""
    planes = planes.clone()
    changed = np.zeros(ids.shape, bool)
    for c, pixels in wrong.items():
        if not pixels.any():
            continue
        here = _box(pixels, 3 * NEAR)
        own = pixels[here]
        near = own | (_grown(own, 2 * NEAR) & ~_grown((ids[here] == c) & ~own, NEAR))
        planes[c][here].masked_fill_(torch.from_numpy(near), 0.0)
        changed[here] |= near
    at = torch.from_numpy(np.flatnonzero(changed))
    flat = planes.flatten(1)
    some = flat[:, at]
    # One after the other, left and right first: a mirror image has the same sum to the bit.
    total = torch.zeros_like(some[0])
    for left, right in SIDED:
        total += some[left] + some[right]
    for c in PLAIN:
        total += some[c]
    flat[:, at] = some / total.clamp(min=1e-12)
    return planes


def _box(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the pixels of a mask, and `margin` more on all sides."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + margin + 1),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + margin + 1),
    )


def _grown(mask: Mask, by: int) -> Mask:
    """The mask and all pixels up to `by` rows and columns away."""
    for axis in (0, 1):
        given = np.moveaxis(mask, axis, 0)
        grown = given.copy()
        for step in range(1, by + 1):
            grown[step:] |= given[:-step]
            grown[:-step] |= given[step:]
        mask = np.moveaxis(grown, 0, axis)
    return mask
