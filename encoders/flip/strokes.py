"""Sketches that are drawn stroke by stroke, traced from photos.

Edges are where the picture's brightness changes most across them (Canny 1986); each connected one
is followed to a line, and lines are drawn long and strong ones first, as people begin with
outlines. What a sketch of FS2K-SDE would be is not claimed: lines of people differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, label, sobel

from sfhq.parts.records import Pixels

STEPS = 70  # of a sketch, as in FS2K-SDE
SHORTEST = 6  # pixels of a line; shorter ones are specks
_AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stroke:
    """A line.

    Attributes:
        points: (L, 2) x, y in pixels, in drawing order.
        strength: mean change of brightness across it, beside that of its surroundings, 0 to 1.
    """

    points: Floats
    strength: float


def edges(pixels: Pixels, sigma: float = 1.6) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Thin edges, and how strong the change of brightness is for its surroundings, 0 to 1.

    Args:
        pixels: (H, W, 3) uint8.
        sigma: of the blur before, in pixels of a picture of 256.
    """
    grey = gaussian_filter(
        pixels.astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722]),
        sigma * max(pixels.shape[0], 1) / 256,
    )
    gy, gx = sobel(grey, 0), sobel(grey, 1)
    size = np.hypot(gx, gy)
    if not size.max() > 0:
        return np.zeros(grey.shape, bool), size
    # What is strong for its surroundings is drawn: eyes in a bright face beside a dark coat.
    around = gaussian_filter(size, 0.12 * pixels.shape[0])
    size = size / (around + 0.1 * size.max())
    size = size / size.max()
    # Across the edge both neighbours change less: compared along the nearest of four directions.
    turn = np.round(np.arctan2(gy, gx) / (np.pi / 4)).astype(int) % 4
    padded = np.pad(size, 1)
    h, w = size.shape
    thin = np.zeros((h, w), bool)
    for way, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        a = padded[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
        b = padded[1 - dy : 1 - dy + h, 1 - dx : 1 - dx + w]
        thin |= (turn == way) & (size >= a) & (size > b)
    low, high = np.quantile(size[thin], [0.45, 0.8]) if thin.any() else (1.0, 1.0)
    low = min(low, 0.5 * high)  # where all edges are alike, none is cut off
    pieces, _ = label(thin & (size >= low), np.ones((3, 3)))
    strong = np.unique(pieces[thin & (size >= high)])
    return np.isin(pieces, strong[strong > 0]), size


def trace(thin: npt.NDArray[np.bool_], size: Floats) -> list[Stroke]:
    """Lines along thin edges, from one end to the other; each pixel is drawn once.

    Args:
        thin, size: of `edges`.

    Returns:
        Lines of `SHORTEST` pixels or more, the ones that people would draw first first.
    """
    left = {(int(y), int(x)) for y, x in np.argwhere(thin)}

    def near(at: tuple[int, int]) -> list[tuple[int, int]]:
        found = [(at[0] + dy, at[1] + dx) for dy, dx in _AROUND]
        # Straight neighbours first, so that corners are not cut.
        return sorted(
            (p for p in found if p in left), key=lambda p: abs(p[0] - at[0]) + abs(p[1] - at[1])
        )

    strokes = []
    ends = sorted(left, key=lambda p: (len(near(p)) != 1, p))
    for start in ends:
        if start not in left:
            continue
        line = [start]
        left.discard(start)
        while following := near(line[-1]):
            if len(line) > 1:  # go on as straight as the line allows
                before = line[-2 if len(line) < 4 else -4]
                ahead = (line[-1][0] - before[0], line[-1][1] - before[1])
                following.sort(
                    key=lambda p: (
                        -((p[0] - line[-1][0]) * ahead[0] + (p[1] - line[-1][1]) * ahead[1])
                    )
                )
            line.append(following[0])
            left.discard(following[0])
        if len(line) >= SHORTEST:
            at = np.array(line)
            strokes.append(
                Stroke(at[:, ::-1].astype(np.float64), float(size[at[:, 0], at[:, 1]].mean()))
            )
    return sorted(strokes, key=lambda s: (-len(s.points) * s.strength, tuple(s.points[0])))


def progress(pixels: Pixels, steps: int = STEPS) -> npt.NDArray[np.uint8]:
    """A photo's sketch while it is drawn: (T, H, W, 3), black lines on white, the last one whole.

    Every step draws about as much line as the others; long lines are drawn over several steps.

    Args:
        pixels: (H, W, 3) uint8.
        steps: T, 1 or more.
    """
    if steps < 1:
        raise ValueError(f"{steps} steps; wanted 1 or more")
    strokes = trace(*edges(pixels))
    height, width = pixels.shape[:2]
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    total = sum(len(s.points) for s in strokes)
    thick = max(1, round(height / 160))
    made = []
    drawn = number = at = 0
    for step in range(1, steps + 1):
        until = round(total * step / steps)
        while drawn < until and number < len(strokes):
            points = strokes[number].points
            end = min(at + until - drawn, len(points))
            piece = [(float(x), float(y)) for x, y in points[max(at - 1, 0) : end]]
            if len(piece) > 1:
                pen.line(piece, fill="black", width=thick)
            drawn += end - at
            number, at = (number + 1, 0) if end == len(points) else (number, end)
        made.append(np.asarray(canvas).copy())
    return np.stack(made)
