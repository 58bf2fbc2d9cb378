"""The inner hairline and the outline of the head, from class probabilities along rays.

The rays begin a quarter of the outer eye distance below the middle between the eyes, in a frame
where the eyes are level. On a ray, the hairline is where hair becomes likelier than face, above the
brows; the outline is where the head ends. Both are found between samples, where the difference of
the probabilities is 0. Runs shorter than 2 % of the eye distance are strands and gaps, and do not
count. docs/landmarks.md has the definition in words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from annotate.labels.points import REASON, Points
from sfhq.faces.classes import FACE, HAIR, HEAD, ID
from sfhq.faces.points import HIDDEN, INNER, MISSING, OUTER, VISIBLE

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BELOW = 0.25  # of the eye distance, from the eyes to where the rays begin
THIN = 0.02  # of the eye distance; shorter runs along a ray are strands and gaps
STEP = 0.5  # pixels between samples of a ray
LEAST_ERROR = 0.25  # pixels of the crop; nothing is known better than that
VAGUE = 0.06  # of the eye distance; a wider border is a low margin


@dataclass(frozen=True, eq=False)
class RayFrame:
    """Where rays begin, and the directions of the face.

    Attributes:
        origin: (2,) in pixels of the crop.
        level, down: unit vectors along the line of the eyes and down the face.
        unit: distance between the outer corners of the eyes in pixels.
        brow: height of the lower end of the brows over the origin in pixels, at least 0.
    """

    origin: Floats
    level: Floats
    down: Floats
    unit: float
    brow: float

    @classmethod
    def of(cls, points: Floats) -> RayFrame:
        """The frame of a face.

        Args:
            points: (68 or more, 2) in iBUG's order.

        Raises:
            ValueError: the corners of the eyes coincide.
        """
        across = points[45, :2] - points[36, :2]
        unit = float(np.hypot(*across))
        if not unit > 1e-6:
            raise ValueError("the corners of the eyes coincide; wanted the points of a face")
        level = across / unit
        down = np.array([-level[1], level[0]])
        eyes = (points[36:42, :2].mean(0) + points[42:48, :2].mean(0)) / 2
        origin = eyes + BELOW * unit * down
        brow = max(0.0, float(((origin - points[17:27, :2]) @ down).min()))
        return cls(origin, level, down, unit, brow)

    def direction(self, angle: float) -> Floats:
        """Unit vector of an angle in degrees, counter-clockwise from the picture's right."""
        turn = np.radians(angle)
        out: Floats = np.cos(turn) * self.level - np.sin(turn) * self.down
        return out


@dataclass(frozen=True, eq=False)
class _Ray:
    """Samples along a ray: places, and probabilities of face, hair or hat, head, and hat."""

    way: Floats
    radius: Floats
    high: Floats
    face: Floats
    cover: Floats
    head: Floats
    hat: Floats


class Hairlines:
    """Reads rays of one face.

    Args:
        planes: (19, S, S) probabilities of the classes.
        frame: where the rays begin.
    """

    def __init__(self, planes: npt.NDArray[np.float32], frame: RayFrame) -> None:
        self.frame = frame
        self.size = planes.shape[-1]
        self.steps = max(round(THIN * frame.unit / STEP), 1)
        head = _sum(planes, HEAD)
        self.planes = np.stack(
            [
                _sum(planes, FACE),
                _sum(planes, HAIR),
                np.where(_own_piece(head > 0.5, frame.origin), head, np.minimum(head, 0.49)),
                planes[ID["hat"]],
            ]
        )

    def inner(self) -> Points:
        """(9, 5) rows of the hairline: x, y, flag, expected error and reason, in crop pixels."""
        return np.stack([self._inner(ray) for ray in self._rays(INNER)])

    def outer(self) -> Points:
        """(21, 5) rows of the outline, as `inner`."""
        return np.stack([self._outer(ray) for ray in self._rays(OUTER)])

    def _rays(self, angles: Floats) -> list[_Ray]:
        """Rays from the origin to the edge of the crop."""
        ways = np.stack([self.frame.direction(angle) for angle in angles.tolist()])
        radius = np.arange(0, 1.5 * self.size, STEP)
        place = self.frame.origin + radius[:, None] * ways[:, None]  # (K, R, 2)
        inside = ((place >= -0.5) & (place <= self.size - 0.5)).all(2)
        counts = [len(radius) if row.all() else int(np.argmin(row)) for row in inside]
        most = max(*counts, 1)
        place = place[:, :most]
        at = place[..., ::-1].reshape(-1, 2).T  # rows, columns
        values = np.stack(
            [
                ndimage.map_coordinates(plane, at, order=1, mode="nearest").reshape(len(ways), -1)
                for plane in self.planes
            ],
            1,
        )  # (K, 4, R)
        high = (self.frame.origin - place) @ self.frame.down
        return [
            _Ray(way, radius[:n], row[:n], *value[:, :n])
            for way, n, row, value in zip(ways, counts, high, values, strict=True)
        ]

    def _row(self, ray: _Ray, radius: float, flag: int, error: float, reason: str) -> Points:
        place = self.frame.origin + radius * ray.way
        return np.array([*place, flag, max(error, LEAST_ERROR), REASON[reason]])

    def _outer(self, ray: _Ray) -> Points:
        starts = _starts(ray.head > 0.5, self.steps)
        if not len(starts):
            return self._row(ray, 0.0, MISSING, self.frame.unit, "outside")
        last = int(starts[-1]) + self.steps - 1
        if last >= len(ray.radius) - 2:
            return self._row(
                ray, float(ray.radius[-1]), HIDDEN, THIN * self.frame.unit, "truncated"
            )
        radius = _crossing(ray.radius, 0.5 - ray.head, last)
        error = _width(ray.radius, 1 - ray.head, last, self.frame.unit)
        vague = error > VAGUE * self.frame.unit
        return self._row(
            ray, radius, HIDDEN if vague else VISIBLE, error, "low margin" if vague else ""
        )

    def _inner(self, ray: _Ray) -> Points:
        if not len(ray.radius):
            return self._row(ray, 0.0, MISSING, self.frame.unit, "outside")
        rest = 1 - ray.face - ray.cover
        covered = (ray.cover > ray.face) & (ray.cover >= rest)
        faced = (ray.face >= ray.cover) & (ray.face >= rest)
        hair = _starts(covered, self.steps)
        above = hair[ray.high[hair] >= self.frame.brow]
        if not len(above):  # without hair, the edge of the head
            end = self._outer(ray)
            end[2], end[4] = min(end[2], HIDDEN), REASON["no hair"] if end[2] else end[4]
            return end
        face = _starts(faced, self.steps)
        face = face[face < above[0]]
        if not len(face):
            radius = float(ray.radius[above[0]])
            return self._row(ray, radius, HIDDEN, VAGUE * self.frame.unit, "fringe")
        last = int(face[-1]) + self.steps - 1
        first = int(hair[hair > face[-1]][0])  # may lie below the brows where bangs do
        share = ray.cover / np.maximum(ray.cover + ray.face, 1e-9)
        if first - last > 2 * self.steps:  # something else lies between
            middle = float(ray.radius[last] + ray.radius[first]) / 2
            gap = float(ray.radius[first] - ray.radius[last]) / 2
            return self._row(ray, middle, HIDDEN, gap, "occluded")
        radius = _crossing(ray.radius, share - 0.5, last)
        error = _width(ray.radius, share, last, self.frame.unit)
        place = int(np.searchsorted(ray.radius, radius))
        beyond = slice(first, first + self.steps)
        reason = ""
        if ray.hat[beyond].mean() > 0.5 * ray.cover[beyond].mean():
            reason = "hat"
        elif ray.high[min(place, len(ray.high) - 1)] <= self.frame.brow + THIN * self.frame.unit:
            reason = "fringe"
        elif error > VAGUE * self.frame.unit:
            reason = "low margin"
        return self._row(ray, radius, HIDDEN if reason else VISIBLE, error, reason)


def _own_piece(head: Mask, origin: Floats) -> Mask:
    """The connected piece of the head around the origin, its holes filled; all where none is."""
    pieces, _ = ndimage.label(head)
    column, row = np.clip(np.rint(origin).astype(int), 0, head.shape[0] - 1)
    own = pieces[row, column]
    if not own:
        return np.ones_like(head)
    around, count = ndimage.label(pieces != own)  # faster than binary_fill_holes
    kept = np.ones(count + 1, bool)
    for edge in (around[0], around[-1], around[:, 0], around[:, -1]):
        kept[edge] = False
    kept[0] = True
    filled: Mask = kept[around]
    return filled


def _sum(planes: npt.NDArray[np.float32], classes: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The sum of some planes, one after the other, without a copy of them all."""
    total: npt.NDArray[np.float32] = planes[classes[0]].copy()
    for i in classes[1:]:
        total += planes[i]
    return total


def _starts(mask: Mask, steps: int) -> npt.NDArray[np.int64]:
    """Where runs of at least `steps` true values begin, or go on for as long."""
    total = np.concatenate([[0], np.cumsum(mask)])
    if len(total) <= steps:
        return np.zeros(0, np.int64)
    return np.flatnonzero(total[steps:] - total[:-steps] == steps)


def _crossing(radius: Floats, value: Floats, last: int) -> float:
    """Where a value rises through 0 from sample `last` on, between samples."""
    ahead = np.flatnonzero(value[last:] > 0)
    if not len(ahead) or ahead[0] == 0:
        return float(radius[last])
    high = last + int(ahead[0])
    low = high - 1
    part = -value[low] / (value[high] - value[low])
    return float(radius[low] + part * (radius[high] - radius[low]))


def _width(radius: Floats, share: Floats, last: int, most: float) -> float:
    """Half the way from a share of a quarter to one of three quarters around a border."""
    below = np.flatnonzero(share[: last + 2] <= 0.25)
    above = np.flatnonzero(share[last:] >= 0.75)
    start = radius[below[-1]] if len(below) else radius[0]
    stop = radius[last + above[0]] if len(above) else radius[-1]
    return min(float(stop - start) / 2, most)


def fused(network: Points, rays: Points, frame: RayFrame, angles: Floats) -> Points:
    """Points on rays from two readings, each with its expected error.

    Only the way along the ray is fused: the mean of both, weighted by the inverse squares of the
    errors. Where they lie further apart than three times the joint error, one is wrong: the surer
    one is taken, and the point is no longer called visible.

    Args:
        network, rays: (K, 5) rows in pixels of the crop.
        frame: where the rays begin.
        angles: (K,) degrees of the rays.
    """
    out = rays.copy()
    for i, angle in enumerate(angles.tolist()):
        way = frame.direction(angle)
        both = np.array([(rows[i, :2] - frame.origin) @ way for rows in (network, rays)])
        errors = np.maximum([network[i, 3], rays[i, 3]], LEAST_ERROR)
        if rays[i, 2] == MISSING or not np.isfinite(both[1]):
            out[i] = network[i]
            continue
        joint = float(np.hypot(*errors))
        if abs(both[0] - both[1]) > 3 * joint:
            radius, error = both[errors.argmin()], joint
            if out[i, 2] == VISIBLE:
                out[i, 2], out[i, 4] = HIDDEN, REASON["low margin"]
        else:
            weights = 1 / errors**2
            radius, error = (both * weights).sum() / weights.sum(), weights.sum() ** -0.5
        out[i, :2] = frame.origin + radius * way
        out[i, 3] = error
    return out
