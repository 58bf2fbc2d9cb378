"""Names and definitions of the 110 points; docs/landmarks.md shows them.

Right and left are the subject's. Where anthropometry has a name, it stands in brackets (Farkas
1994, "Anthropometry of the Head and Face").
"""

from __future__ import annotations

import re

from sfhq.faces.points import COUNT, INNER, OUTER, mirror

# Index -> name and definition; the points of the subject's left half are derived by mirroring.
_HALF: dict[int, tuple[str, str]] = {
    0: (
        "jaw_right_1",
        "outline of the face where it meets the ear, at the eye's height (tragion, t, is near)",
    ),
    1: ("jaw_right_2", "outline of the face, an eighth of the way from point 0 to the chin"),
    2: ("jaw_right_3", "outline of the face, two eighths of the way"),
    3: ("jaw_right_4", "outline of the face, three eighths of the way"),
    4: (
        "jaw_right_5",
        "outline of the face at the angle of the jaw (gonion, go, as seen in front)",
    ),
    5: ("jaw_right_6", "outline of the jaw, five eighths of the way"),
    6: ("jaw_right_7", "outline of the jaw, six eighths of the way"),
    7: ("jaw_right_8", "outline of the chin, seven eighths of the way"),
    8: ("chin", "lowest point of the chin in the middle (menton, gnathion, gn)"),
    17: ("brow_right_1", "outer end of the brow, on its middle line"),
    18: ("brow_right_2", "middle line of the brow, a quarter of its length from the outer end"),
    19: ("brow_right_3", "middle line of the brow, halfway"),
    20: ("brow_right_4", "middle line of the brow, three quarters of its length"),
    21: ("brow_right_5", "inner end of the brow, on its middle line"),
    27: ("nose_bridge_1", "root of the nose in the middle, between the eyes (sellion, se)"),
    28: ("nose_bridge_2", "ridge of the nose, a third of the way to the tip"),
    29: ("nose_bridge_3", "ridge of the nose, two thirds of the way to the tip"),
    30: ("nose_tip", "tip of the nose (pronasale, prn)"),
    31: ("nose_base_right_1", "lower edge of the wing of the nose, outer end (near alare, al)"),
    32: ("nose_base_right_2", "lower edge of the nostril"),
    33: ("nose_base_middle", "where the nose meets the upper lip in the middle (subnasale, sn)"),
    36: ("eye_right_outer", "outer corner of the eye's opening (exocanthion, ex)"),
    37: ("eye_right_top_1", "edge of the upper lid, a third of the way from the outer corner"),
    38: ("eye_right_top_2", "edge of the upper lid, two thirds of the way"),
    39: ("eye_right_inner", "inner corner of the eye's opening (endocanthion, en)"),
    40: ("eye_right_bottom_1", "edge of the lower lid, below point 38"),
    41: ("eye_right_bottom_2", "edge of the lower lid, below point 37"),
    48: ("mouth_right_corner", "outer corner of the lips' red (cheilion, ch)"),
    49: ("lip_outer_top_right_1", "upper border of the upper lip, halfway to the peak"),
    50: ("lip_outer_top_right_2", "peak of the upper lip's bow (crista philtri, cph)"),
    51: (
        "lip_outer_top_middle",
        "upper border of the upper lip in the middle (labiale superius, ls)",
    ),
    57: (
        "lip_outer_bottom_middle",
        "lower border of the lower lip in the middle (labiale inferius, li)",
    ),
    58: (
        "lip_outer_bottom_right_1",
        "lower border of the lower lip, a third of the way to the corner",
    ),
    59: ("lip_outer_bottom_right_2", "lower border of the lower lip, two thirds of the way"),
    60: ("lip_inner_right_corner", "inner corner of the mouth's opening, or of the seam"),
    61: ("lip_inner_top_right", "lower border of the upper lip, below point 50"),
    62: (
        "lip_inner_top_middle",
        "lower border of the upper lip in the middle (stomion, sto, if shut)",
    ),
    66: ("lip_inner_bottom_middle", "upper border of the lower lip in the middle"),
    67: ("lip_inner_bottom_right", "upper border of the lower lip, below point 61"),
    68: ("nose_wing_right_top", "widest part of the wing of the nose, its upper half"),
    69: (
        "nose_wing_right_bottom",
        "widest part of the wing of the nose, its lower half (alare, al)",
    ),
    72: (
        "lip_inner_top_right_1",
        "lower border of the upper lip, a third of the way from 60 to 61",
    ),
    73: ("lip_inner_top_right_2", "lower border of the upper lip, two thirds of the way"),
    78: (
        "lip_inner_bottom_right_1",
        "upper border of the lower lip, a third of the way from 67 to 60",
    ),
    79: ("lip_inner_bottom_right_2", "upper border of the lower lip, two thirds of the way"),
}
_RAYS = {  # index -> what anthropometry calls the place, or what it is near
    84: "in the middle: trichion, tr",
    99: "in the middle: the highest point of the head, vertex, v, with the hair on it",
}


def _name(index: int) -> tuple[str, str]:
    if index >= 89:
        angle = OUTER[index - 89]
        where = _RAYS.get(index, _side_of_head(float(angle)))
        return (
            f"contour_{index - 88}",
            f"end of the head on the ray at {angle:g} degrees{where_text(where)}",
        )
    if index >= 80:
        angle = INNER[index - 80]
        return f"hairline_{index - 79}", (
            f"where hair begins on the ray at {angle:g} degrees{where_text(_RAYS.get(index, ''))}"
        )
    if index in _HALF:
        return _HALF[index]
    name, words = _HALF[mirror(index)]
    for number in re.findall(r"\d+", words):
        words = re.sub(rf"\b{number}\b", f"<{mirror(int(number))}>", words)
    return name.replace("right", "left"), words.replace("<", "").replace(">", "")


def where_text(where: str) -> str:
    """A remark as the end of a definition."""
    return f"; {where}" if where else ""


def _side_of_head(angle: float) -> str:
    side = "right" if 90 < angle < 270 else "left"
    if abs(angle - 180) < 1 or abs(angle) < 1:
        return f"the subject's {side} side, at the ear where it is free"
    if abs(angle - 157.5) < 8 or abs(angle - 22.5) < 8:
        return f"near the widest place of the skull, euryon, eu, on the {side}"
    return ""


NAMES: tuple[str, ...] = tuple(_name(i)[0] for i in range(COUNT))
DEFINITIONS: tuple[str, ...] = tuple(_name(i)[1] for i in range(COUNT))
# Pairs of neighbours along a line, for programs that draw.
_LINES = (
    *(range(17), range(17, 22), range(22, 27), range(27, 31), range(31, 36)),
    *((36, 37, 38, 39, 40, 41, 36), (42, 43, 44, 45, 46, 47, 42)),
    (*range(48, 60), 48),
    (60, 72, 73, 61, 62, 63, 74, 75, 64, 76, 77, 65, 66, 67, 78, 79, 60),
    *((68, 69, 31), (70, 71, 35), range(80, 89), range(89, 110)),
)
SKELETON: tuple[tuple[int, int], ...] = tuple(
    (a, b) for line in _LINES for a, b in zip(line, tuple(line)[1:], strict=False)
)
