"""What the teachers say of each pixel of a photo: the classes that it may have.

A teacher that is unsure leaves several classes. Nothing here tells a cloth from a neck or glasses
from skin: rendered heads teach that. The bits of a pixel are those of the class ids.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from annotate.teachers.photos import LEFT_EYE, RIGHT_EYE
from sfhq.faces.alignment import FloatArray
from sfhq.faces.classes import CLASSES, ID

Bits = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
ANY = (1 << len(CLASSES)) - 1
SURE, UNSURE = 0.85, 0.15  # probabilities above and below which a teacher is believed
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
OUTER_LIPS = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37),
    *(39, 40, 185),
)
INNER_LIPS = (
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82),
    *(81, 80, 191),
)
UPPER_LIP = (
    *(61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 308, 415, 310, 311, 312, 13, 82),
    *(81, 80, 191, 78),
)
LOWER_LIP = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 308, 324, 318, 402, 317, 14, 87),
    *(178, 88, 95, 78),
)
RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
NOSE = (
    *(168, 193, 122, 196, 198, 209, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279, 429),
    *(420, 419, 351, 417),
)
FINE = 4  # samples along a pixel's side when polygons are drawn


def bits(names: Iterable[str]) -> int:
    """The bits of some classes."""
    return sum(1 << ID[name] for name in names)


FEATURES = {  # class -> its outline in points of the mesh
    "l_brow": LEFT_BROW,
    "r_brow": RIGHT_BROW,
    "l_eye": LEFT_EYE,
    "r_eye": RIGHT_EYE,
    "nose": NOSE,
    "mouth": INNER_LIPS,
    "u_lip": UPPER_LIP,
    "l_lip": LOWER_LIP,
}
# Distances in shares of the eye distance: how far inside its outline a feature is certain, and how
# far outside it is impossible. The nose's border is a matter of definition.
INSIDE = {"nose": 0.1, "l_brow": 0.035, "r_brow": 0.035}
OUTSIDE = {"nose": 0.14, "l_brow": 0.07, "r_brow": 0.07}
NEAR = 0.018  # the same for all others
# How far below the line of the eyes hats and glasses end, in eye distances; above is negative.
LOWEST_HAT, LOWEST_LENS, HIGHEST_LENS = 0.1, 0.55, -0.45
COVERS = bits(("eye_g", "hat", "hair"))
OUTSIDE_FACE = bits(
    ("background", "skin", "l_ear", "r_ear", "ear_r", "neck", "neck_l", "cloth", "hair", "hat")
)


def allowed(
    mesh: FloatArray, hair: npt.NDArray[np.uint8], person: npt.NDArray[np.uint8], glasses: bool
) -> Bits:
    """(S, S) bits of the classes that each pixel may have.

    Args:
        mesh: (478, 2 or 3) points in pixels.
        hair, person: (S, S) probability times 255.
        glasses: whether there may be glasses, by what is known of the photo.
    """
    size = hair.shape[0]
    eye = max(float(np.hypot(*(mesh[263, :2] - mesh[33, :2]))), 1.0)
    p_hair, p_person = hair / 255, person / 255
    oval = _distance(mesh, OVAL, size, eye) / eye
    low = _below_eyes(mesh, size) / eye
    features = bits(FEATURES) | bits(("skin",))
    lenses = bits(("eye_g",)) if glasses else 0
    face = features | (COVERS & ~bits(("eye_g",))) | lenses
    out = np.full((size, size), ANY, np.int32)
    if not glasses:
        out &= ~bits(("eye_g",))
    out[oval > 0.05] = face
    out[oval < -0.12] &= OUTSIDE_FACE | lenses
    out[(oval > 0.02) & (low > LOWEST_HAT)] &= ~bits(("hat",))
    out[(low > LOWEST_LENS) | (low < HIGHEST_LENS)] &= ~bits(("eye_g",))
    for name, outline in FEATURES.items():
        depth = _distance(mesh, outline, size, eye) / eye
        core, rim = INSIDE.get(name, NEAR), OUTSIDE.get(name, NEAR)
        out[depth < -rim] &= ~bits((name,))
        lips = name in ("mouth", "u_lip", "l_lip")
        out[depth > core] = bits((name,)) | (0 if lips else lenses)
    out[(p_hair < UNSURE) & (oval < 0.05)] &= ~bits(("hair",))
    out[(p_hair < UNSURE)] &= (
        ~bits(("hair",)) | np.where(out == bits(("hair",)), ANY, 0)[p_hair < UNSURE]
    )
    sure = (p_hair > SURE) & (p_person > UNSURE)
    inner = oval > 0.25  # hair in the middle of a face is a beard, which is skin
    out[sure & ~inner] = bits(("hair",))
    unsure = (p_hair >= UNSURE) & ~sure & ~inner
    out[unsure] |= bits(("hair",))
    away = oval < -0.05
    out[away & (p_person < UNSURE) & (p_hair < UNSURE)] = bits(("background",))
    out[away & (p_person > SURE) & ~sure] &= ~bits(("background",))
    out[(p_hair > SURE) & (p_person < UNSURE)] = ANY  # the teachers disagree
    out[out == 0] = ANY
    return out


def _below_eyes(mesh: FloatArray, size: int) -> npt.NDArray[np.float64]:
    """(S, S) how far each pixel lies below the line of the eyes, in pixels."""
    right, left = mesh[33, :2], mesh[263, :2]
    across = (left - right) / max(float(np.hypot(*(left - right))), 1e-6)
    y, x = np.mgrid[:size, :size]
    middle = (left + right) / 2
    return np.asarray((y - middle[1]) * across[0] - (x - middle[0]) * across[1], np.float64)


def _distance(
    mesh: FloatArray, outline: tuple[int, ...], size: int, reach: float
) -> npt.NDArray[np.float64]:
    """(S, S) distance from a polygon's border in pixels, positive inside.

    It is exact up to about a fifth of `reach` outside; farther away it is -`size`.
    """
    corners = mesh[list(outline), :2]
    out = np.full((size, size), -float(size))
    edge = round(0.2 * reach) + 2
    low = np.clip(np.floor(corners.min(0)).astype(int) - edge, 0, size)
    high = np.clip(np.ceil(corners.max(0)).astype(int) + edge, 0, size)
    if (high <= low).any():
        return out
    width, height = (high - low).tolist()
    image = Image.new("L", (width * FINE, height * FINE))
    places = (corners - low + 0.5) * FINE
    ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in places], fill=1)
    small: Mask = np.asarray(image)[FINE // 2 :: FINE, FINE // 2 :: FINE] > 0
    if small.any() and not small.all():
        within = ndimage.distance_transform_edt(small) - 0.5
        without = ndimage.distance_transform_edt(~small) - 0.5
        out[low[1] : high[1], low[0] : high[0]] = np.where(small, within, -without)
    return out
