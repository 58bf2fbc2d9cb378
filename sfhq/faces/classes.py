"""The 19 classes of face parsing: names, ids, groups, and what mirroring does to them.

They are CelebAMask-HQ's in the order of BiSeNet's published weights and of the published SFHQ maps.
Left and right are the subject's, so `l_eye` lies on the right side of a frontal photo.
`sfhq.images.CLASS_COLOURS` is the palette.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

CLASSES = (
    *("background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear"),
    *("ear_r", "nose", "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat"),
)
ID = {name: i for i, name in enumerate(CLASSES)}
FACE = tuple(
    ID[name]
    for name in (
        *("skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g"),
        *("nose", "mouth", "u_lip", "l_lip"),
    )
)
HAIR = (ID["hair"], ID["hat"])  # what ends the face above
HEAD = (*FACE, *HAIR, ID["l_ear"], ID["r_ear"], ID["ear_r"])
# Of the head's pixels: less of glasses or a hat is a mistake of the network at eyes or hair. Of 200
# rendered heads, on which the limits were chosen, all with glasses have .042 or more, and 95 % of
# those without have below .017.
LEAST_WORN = {"hat": 0.08, "glasses": 0.035}
SIDED = ((2, 3), (4, 5), (7, 8))  # pairs (left, right): brows, eyes, ears
FLIPPED = (0, 1, 3, 2, 5, 4, 6, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)


def among(mask: npt.NDArray[np.uint8], ids: Iterable[int]) -> npt.NDArray[np.bool_]:
    """Whether each pixel's class is one of some; `np.isin`, several times faster."""
    table = np.zeros(256, bool)
    table[list(ids)] = True
    found: npt.NDArray[np.bool_] = table[mask]
    return found


def flip_ids(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The map of classes of the mirrored picture: mirrored, and left and right exchanged.

    Args:
        mask: (..., H, W) uint8 ids.
    """
    table = np.arange(256, dtype=np.uint8)
    table[: len(FLIPPED)] = FLIPPED
    return np.ascontiguousarray(table[mask[..., ::-1]])
