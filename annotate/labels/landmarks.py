"""110 points of a face from a network's reading, its classes, and 68 points of another detector."""

from __future__ import annotations

from typing import Literal

import numpy as np

from annotate.labels.frame import Frame
from annotate.labels.hairline import Hairlines, RayFrame, fused
from annotate.labels.last import Last
from annotate.labels.points import REASON, REASONS, Points, judged
from annotate.labels.reading import Reading
from sfhq.faces.alignment import FloatArray
from sfhq.faces.points import COUNT, FIXED, HIDDEN, INNER, MISSING, OUTER, VISIBLE

WIDENED = 1.3  # factor on the width of a border that makes it an expected error; measured
PROFILE = 45.0  # degrees of yaw from which the far side is hidden
# Share of the eye distance that points of dlib are off on the validation heads, on average.
DLIB_ERROR = 0.035
# Of the 68, the points that a point beside the nose is a mean of, and their weights: found from
# their places on the mean head, where they hold exactly.
WINGS = {
    68: ((27, 0.2664), (31, 1.0245), (35, -0.2909)),
    69: ((27, 0.1084), (31, 1.189), (35, -0.2974)),
    70: ((27, 0.2664), (35, 1.0245), (31, -0.2909)),
    71: ((27, 0.1084), (35, 1.189), (31, -0.2974)),
}
# The inner lip: a corner, the two points that follow, and the point before the middle.
LIPS = (
    ((60, 61, 62), (72, 73)),
    ((64, 63, 62), (75, 74)),
    ((64, 65, 66), (76, 77)),
    ((60, 67, 66), (79, 78)),
)


def crop_points(
    reading: Reading,
    index: int,
    given: FloatArray | None = None,
    hairline: Literal["fused", "rays", "network"] = "rays",
) -> Points:
    """(110, 5) rows of one crop: x, y, flag, expected error and reason, in pixels of the crop.

    Args:
        reading: of N crops.
        index: of the crop.
        given: (68, 2) points of another detector in pixels of the crop, instead of the network's.
        hairline: where points 80 to 109 come from.
    """
    rows = np.zeros((COUNT, 5))
    rows[:, :2] = reading.points[index].double().numpy()
    rows[:, 3] = reading.sigma[index].double().numpy()
    seen = reading.seen[index].numpy() > 0.5
    rows[:, 2] = np.where(seen, VISIBLE, HIDDEN)
    rows[~seen, 4] = REASON["hidden"]
    if given is not None:
        rows[:68, :2] = given
        rows[:FIXED] = completed(rows[:FIXED])
        rows[:68, 3] = DLIB_ERROR * np.hypot(*(rows[45, :2] - rows[36, :2]))
    try:
        frame = RayFrame.of(rows)
    except ValueError:
        return rows
    rays = Hairlines(reading.parsing[index].numpy(), frame)
    inner, outer = rays.inner(), rays.outer()
    eyes = float(rows[36:48, 3].mean())  # rays begin as wrongly as the eyes are placed
    for found in (inner, outer):
        found[:, 3] = np.hypot(WIDENED * found[:, 3], eyes)
    if hairline == "rays":
        read = np.concatenate([inner, outer])
        lost = read[:, 2] == MISSING  # a ray that reads nothing leaves the network's point
        rows[FIXED:][~lost] = read[~lost]
        rows[FIXED:][lost, 2] = np.minimum(rows[FIXED:][lost, 2], HIDDEN)
        rows[FIXED:][lost, 4] = REASON["low margin"]
    elif hairline == "fused":
        rows[FIXED : FIXED + 9] = fused(rows[FIXED : FIXED + 9], inner, frame, INNER)
        rows[FIXED + 9 :] = fused(rows[FIXED + 9 :], outer, frame, OUTER)
    else:  # the network's places, and what the classes say of them
        rows[FIXED:, 2:5:2] = np.concatenate([inner, outer])[:, 2:5:2]
    return rows


_LAST: Last[Points] = Last()


def network_points(reading: Reading) -> Points:
    """`crop_points` of the first crop, by the network and rays; the last reading's are kept."""
    return _LAST.of(reading, None, lambda: crop_points(reading, 0))


def completed(rows: Points) -> Points:
    """The first 80 points where only the first 68 are known; the others are interpolated.

    Args:
        rows: (80, 5); the last 12 are replaced.
    """
    out = rows.copy()
    for place, parts in WINGS.items():
        out[place, :2] = sum(weight * rows[i, :2] for i, weight in parts)
    for (corner, near, middle), places in LIPS:
        a, b, c = (rows[i, :2] for i in (corner, near, middle))
        for share, place in zip((1 / 3, 2 / 3), places, strict=True):
            # A parabola through corner, next point and middle, which is at 2 of the first's 1.
            out[place, :2] = (
                a * (share - 1) * (share - 2) / 2
                - b * share * (share - 2)
                + c * share * (share - 1) / 2
            )
    out[68:80, 2], out[68:80, 4] = HIDDEN, REASON["interpolated"]
    unit = np.hypot(*(rows[45, :2] - rows[36, :2]))
    out[68:80, 3] = DLIB_ERROR * unit
    return out


def in_photo(rows: Points, frame: Frame) -> Points:
    """Rows of a crop as rows of its photo, with points outside of it marked."""
    out = rows.copy()
    out[:, :2] = frame.to_photo(rows[:, :2])
    out[:, 3] *= frame.scale
    return judged(out, *frame.photo)


def summary(points: Points, reading: Reading, index: int) -> tuple[str, ...]:
    """Words about a face's points.

    "profile"; "bald", "hat", "fringe", "occluded" where three or more points of the hairline say
    so; "truncated" where the outline is cut off; "low margin" where a third of the points are
    doubtful.
    """
    flags = set()
    if abs(float(reading.pose[index, 0])) > PROFILE:
        flags.add("profile")
    reasons = [REASONS[int(r)] for r in points[:, 4]]
    inner, outer = reasons[FIXED : FIXED + 9], reasons[FIXED + 9 :]
    for reason, word in (("no hair", "bald"), ("hat", "hat"), ("fringe", "fringe")):
        if inner.count(reason) >= 3:
            flags.add(word)
    if inner.count("occluded") >= 3:
        flags.add("occluded")
    if {"truncated", "outside"} & {*inner, *outer}:
        flags.add("truncated")
    if reasons.count("low margin") > COUNT / 3:
        flags.add("low margin")
    return tuple(sorted(flags))
