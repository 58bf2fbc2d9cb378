"""The 110 points of a head: their order, groups and mirror images.

0-67 are iBUG's 68 (Sagonas et al. 2013), 68-71 the wings of the nose, 72-79 two more points on each
corner segment of the inner lip, 80-88 the inner hairline, 89-109 the outer contour of the head.
docs/landmarks.md defines every one. The last two groups lie on rays from a point a quarter of the
outer eye distance below the middle between the eyes, in a frame where the eyes are level; angles
go counter-clockwise from the picture's right.
"""

from __future__ import annotations

import numpy as np

COUNT = 110
ARRAY = "landmarks_110"  # (110, 5) of a photo: x, y, flag, expected error, reason
FIXED = 80  # number of points with a fixed place on the head; they come first
INNER = np.linspace(140, 40, 9)  # degrees of the rays of the hairline
OUTER = np.linspace(225, -45, 21)  # degrees of the rays of the contour
MISSING, HIDDEN, VISIBLE = 0, 1, 2
SIDES = ((0, 16), (17, 26), (31, 35), (48, 54), (55, 59), (60, 64), (65, 67), (72, 75), (76, 79))
RAYS = ((80, 88), (89, 109))
CROSSED = {36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 68: 70, 69: 71}
GROUPS = {  # name -> first point and the one after the last
    "jaw": (0, 17),
    "brows": (17, 27),
    "nose": (27, 36),
    "eyes": (36, 48),
    "mouth": (48, 68),
    "nose wings": (68, 72),
    "inner lip": (72, 80),
    "hairline": (80, 89),
    "contour": (89, 110),
}


def mirror(index: int) -> int:
    """The index of the mirrored point, for each of the 110 points."""
    for first, last in (*SIDES, *RAYS):
        if first <= index <= last:
            return first + last - index
    back = {v: k for k, v in CROSSED.items()}
    return CROSSED.get(index, back.get(index, index))


MIRROR = tuple(mirror(i) for i in range(COUNT))
