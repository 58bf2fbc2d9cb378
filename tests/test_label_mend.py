"""Maps without specks of glasses in eyes, hats where none is worn, and hair amid skin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from annotate.network.mend import largest, mended
from sfhq.faces.classes import CLASSES, FLIPPED, ID
from sfhq.parts.records import Pixels

SIDE, EYE = 128, 40.0


def face() -> Pixels:
    """A face of skin below hair, with two eyes; 128 pixels."""
    ids = np.zeros((SIDE, SIDE), np.uint8)
    ids[10:50, 24:104] = ID["hair"]
    ids[30:110, 34:94] = ID["skin"]
    ids[60:66, 44:56] = ID["r_eye"]
    ids[60:66, 72:84] = ID["l_eye"]
    return ids


def planes(ids: Pixels, behind: Pixels) -> Tensor:
    """Probabilities: .6 of a class, .3 of what is behind it, the rest spread over all."""
    out = torch.full((len(CLASSES), SIDE, SIDE), 0.1 / len(CLASSES))
    for share, which in ((0.6, ids), (0.3, behind)):
        index = torch.from_numpy(which.astype(np.int64))[None]
        out.scatter_add_(0, index, torch.full(index.shape, share))
    return out


def put(box: tuple[int, int, int, int], name: str) -> tuple[Pixels, Pixels]:
    """The face with a box (top, bottom, left, right) of a class, and what the box covers."""
    bare = face()
    ids = bare.copy()
    ids[box[0] : box[1], box[2] : box[3]] = ID[name]
    return ids, bare


@pytest.mark.parametrize(
    ("box", "name", "worn", "stays"),
    [
        ((58, 68, 42, 58), "eye_g", 0.0, False),  # a shaded eye
        ((58, 63, 40, 88), "eye_g", 0.0, True),  # thin glasses in one wide piece
        ((54, 76, 40, 66), "eye_g", 0.0, True),  # a large lens
        ((12, 24, 60, 80), "hat", 0.9, False),  # a speck, though a hat is likely
        ((4, 28, 24, 104), "hat", 0.001, False),  # a blurred place above the head
        ((4, 28, 24, 104), "hat", 0.9, True),
        ((80, 86, 60, 68), "hair", 0.0, False),  # a dark wrinkle
        ((80, 86, 30, 38), "hair", 0.0, True),  # a lock that comes from outside the face
        ((30, 60, 60, 68), "hair", 0.0, True),  # a fringe, joined with the hair
        ((118, 124, 4, 10), "l_ear", 0.0, False),  # away from the head
        ((100, 112, 20, 36), "hair", 0.0, True),  # it touches the head
    ],
)
def test_what_cannot_be_becomes_the_next_likely_class(
    box: tuple[int, int, int, int], name: str, worn: float, stays: bool
) -> None:
    ids, bare = put(box, name)
    given = planes(ids, bare)
    found = mended(given, worn, EYE)
    np.testing.assert_array_equal(largest(found), ids if stays else bare)
    torch.testing.assert_close(found.sum(0), torch.ones(SIDE, SIDE))
    assert (found is given) == stays, "a sound map is not copied"


def test_a_mirrored_map_is_mended_like_its_mirror_image() -> None:
    rng = torch.Generator().manual_seed(0)
    ids, bare = put((58, 68, 42, 58), "eye_g")
    given = planes(ids, bare) * (0.9 + 0.2 * torch.rand(19, SIDE, SIDE, generator=rng))
    given = given / given.sum(0)
    found = mended(given, 0.0, EYE)
    other = mended(given.flip(2)[list(FLIPPED)].contiguous(), 0.0, EYE)
    assert not torch.equal(found, given)
    assert torch.equal(other.flip(2)[list(FLIPPED)], found)


def test_nothing_is_made_of_nothing() -> None:
    empty = torch.zeros(len(CLASSES), SIDE, SIDE)
    empty[0] = 1.0
    assert mended(empty, 0.0, EYE) is empty
    only = torch.zeros(len(CLASSES), SIDE, SIDE)
    only[ID["hat"]] = 1.0
    assert torch.isfinite(mended(only, 0.0, EYE)).all()
