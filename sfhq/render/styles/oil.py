"""Oil: layers of brush strokes that follow the form, lit as thick paint on canvas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfhq.render.styles.fields import (
    Floats,
    Rng,
    blur,
    from_oklab,
    gradient,
    lerp,
    luma,
    noise,
    oklab,
    resize,
    smoothstep,
    tangent,
    tensor,
)
from sfhq.render.styles.grade import grade
from sfhq.render.styles.guides import Guides

Ints = npt.NDArray[np.intp]

WIDTHS = (0.070, 0.038, 0.021, 0.0115)  # brush width of each layer, as share of the image's side
BRUSHES, KNOTS = 8, 7


@dataclass(frozen=True)
class Layer:
    """Strokes of one brush.

    Attributes:
        spines: (N, KNOTS, 2) points (x, y) in pixels of the photo.
        alive: (N, KNOTS) bool, False beyond the end of a stroke.
        colours: (N, 3) OKLab.
        width: width of the brush in pixels of the photo.
    """

    spines: Floats
    alive: npt.NDArray[np.bool_]
    colours: Floats
    width: float


def oil(rgb: Floats, rng: Rng, guides: Guides) -> Floats:
    """The photo as an oil painting, (H, W, 3) in [0, 1]."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    scale = 2 if side <= 320 else 1.5 if side <= 640 else 1  # drawn larger for soft edges
    size = rng.uniform(0.75, 1.25)
    rgb = grade(rgb, rng, (0.95, 1.5), 0.035, rng.uniform(1.0, 1.15))
    angle = _flow(rgb, rng, guides, side)
    ground = _ground(rgb, rng, side)
    tall, wide = round(height * scale), round(width * scale)
    paint = resize(oklab(ground), tall, wide)
    relief = np.zeros((tall, wide), np.float32)
    interest = 0.45 + 1.1 * guides.face(height, width)  # high where fine brushes are used
    for depth, part in enumerate(WIDTHS):
        brush = max(part * side * size, 1.2)
        layer = _strokes(rgb, angle, interest, brush, depth, rng)
        _apply(layer, paint, relief, scale, depth, rng)
    return _light(paint, relief, rng, height, width, side * scale / 256)


def _ground(rgb: Floats, rng: Rng, side: int) -> Floats:
    """The first layer: the blurred picture over a toned canvas."""
    tone = np.array([0.55, 0.40, 0.28], np.float32) + rng.normal(0, 0.06, 3).astype(np.float32)
    return lerp(blur(rgb, side * 0.02), np.clip(tone, 0, 1), np.float32(0.35))


def _flow(rgb: Floats, rng: Rng, guides: Guides, side: int) -> Floats:
    """(H, W) angle of strokes: along edges, around the form, and random where there is neither."""
    height, width = rgb.shape[:2]
    grey = luma(rgb)
    tensors = 4 * tensor(blur(grey, side * 0.004), side * 0.012)
    tensors += 2 * tensor(blur(grey, side * 0.015), side * 0.035)
    if guides.normals is not None:
        nx, ny = guides.normals[..., 0], -guides.normals[..., 1]
        form = blur(np.stack([nx * nx, nx * ny, ny * ny], -1), side * 0.01)
        tensors += 0.006 * form
    loose = rng.uniform(0, np.pi) + 0.6 * noise(rng, height, width, side / 3)
    across = np.stack([np.sin(loose) ** 2, -np.sin(loose) * np.cos(loose), np.cos(loose) ** 2], -1)
    return tangent((tensors + 6e-4 * across).astype(np.float32))[0]


def _strokes(
    rgb: Floats, angle: Floats, interest: Floats, brush: float, depth: int, rng: Rng
) -> Layer:
    height, width = rgb.shape[:2]
    seen = oklab(blur(rgb, brush * 0.3))
    pitch = brush * (1.25, 1.15, 1.0, 0.95)[depth]
    rows, columns = max(2, round(height / pitch)), max(2, round(width / pitch))
    y, x = np.mgrid[:rows, :columns].reshape(2, -1) + rng.uniform(0, 1, (2, rows * columns))
    start = np.stack([x * width / columns, y * height / rows], -1).astype(np.float32) - 0.5
    start = start[rng.permutation(len(start))]
    if depth:
        missing = np.abs(seen - oklab(blur(rgb, brush * 1.1))).sum(-1) * interest
        enough = (0.0, 0.012, 0.030, 0.042)[depth]
        row, column = _cell(start, height, width)
        start = start[missing[row, column] > enough * rng.uniform(0.4, 1.6, len(start))]
    spines, alive = _trace(start, angle, seen, brush, rng)
    row, column = _cell(start, height, width)
    colours = seen[row, column]
    spread = np.array([0.020, 0.010, 0.010], np.float32) * (1.3, 1.0, 0.7, 0.5)[depth]
    colours = colours + rng.standard_normal(colours.shape, dtype=np.float32) * spread
    return Layer(spines, alive, colours.astype(np.float32), brush)


def _cell(points: Floats, height: int, width: int) -> tuple[Ints, Ints]:
    whole = np.rint(points).astype(np.intp)
    return np.clip(whole[..., 1], 0, height - 1), np.clip(whole[..., 0], 0, width - 1)


def _trace(
    start: Floats, angle: Floats, seen: Floats, brush: float, rng: Rng
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Follow the flow in both directions; a stroke ends where the photo's colour differs.

    Source: Hertzmann 1998, "Painterly rendering with curved brush strokes of multiple sizes".
    """
    height, width = angle.shape
    step = brush * rng.uniform(0.55, 0.8, (len(start), 1)).astype(np.float32)
    row, column = _cell(start, height, width)
    own = seen[row, column]
    middle = KNOTS // 2
    spines = np.repeat(start[:, None], KNOTS, 1)
    alive = np.ones((len(start), KNOTS), bool)
    first = angle[row, column] + rng.normal(0, 0.12, len(start)).astype(np.float32)
    for sign in (1, -1):
        heading = sign * np.stack([np.cos(first), np.sin(first)], -1)
        at = start
        for k in range(1, middle + 1):
            at = (at + heading * step).astype(np.float32)
            row, column = _cell(at, height, width)
            spines[:, middle + sign * k] = at
            close = np.abs(seen[row, column] - own).sum(-1) < 0.11
            alive[:, middle + sign * k] = alive[:, middle + sign * (k - 1)] & close
            turn = np.stack([np.cos(angle[row, column]), np.sin(angle[row, column])], -1)
            turn = turn * np.where((turn * heading).sum(-1, keepdims=True) < 0, -1, 1)
            heading = 0.5 * heading + 0.5 * turn
            heading = heading / np.maximum(np.hypot(*heading.T), 1e-3)[:, None]
    return spines, alive


def _brushes(rng: Rng, along: int, across: int) -> Floats:
    """(BRUSHES, along, across) height of the paint, about 0 to 1; 0 where there is no paint."""
    s = np.linspace(-1, 1, along, dtype=np.float32)[:, None]
    t = np.linspace(-1, 1, across, dtype=np.float32)[None]
    made = []
    for _ in range(BRUSHES):
        bristles = noise(rng, 2, max(across, 2), 1.6)[:1, :across]
        streaks = bristles + 0.4 * noise(rng, along, across, max(along / 5, 2))
        ends = 0.93 - 0.10 * np.abs(noise(rng, 2, max(across, 2), 2.5)[:1, :across])
        inside = (np.abs(s) < ends) & (np.abs(t) < 0.96)
        ridge = 0.35 * np.abs(t) ** 3 + 0.25 * smoothstep(0.5, 0.95, np.abs(s))
        paint = np.clip(0.5 + 0.16 * streaks + ridge, 0.06, 1.3)
        dry = smoothstep(0.1, 0.9, s) * 1.1 + 0.35 * bristles > 1.25  # the brush runs dry
        made.append(np.where(inside & ~dry, paint, 0))
    return np.stack(made).astype(np.float32)


def _apply(layer: Layer, paint: Floats, relief: Floats, scale: float, depth: int, rng: Rng) -> None:
    """Draw strokes into `paint` and `relief`, later strokes over earlier ones."""
    count = len(layer.spines)
    tall, wide = relief.shape
    brush = layer.width * scale
    along, across = max(6, round(brush * 4.2 / 0.85)), max(3, round(brush / 0.75))
    brushes = _brushes(rng, along, across)
    if not count:
        return
    t = np.linspace(0, KNOTS - 1, along, dtype=np.float32)
    low = np.minimum(t.astype(np.intp), KNOTS - 2)
    mix = (t - low)[:, None]
    ends = (layer.spines + 0.5) * np.float32(scale)
    spine = ends[:, low] * (1 - mix) + ends[:, low + 1] * mix  # (N, along, 2)
    alive = np.where(mix[:, 0] < 0.5, layer.alive[:, low], layer.alive[:, low + 1])
    heading = np.gradient(spine, axis=1)
    heading /= np.maximum(np.sqrt((heading**2).sum(-1, keepdims=True)), 1e-3)
    side = np.linspace(-0.5, 0.5, across, dtype=np.float32) * brush
    x = (spine[..., :1] - heading[..., 1:] * side).astype(np.int32)  # (N, along, across)
    y = (spine[..., 1:] + heading[..., :1] * side).astype(np.int32)
    kind = rng.integers(BRUSHES, size=count)
    thick = brushes[kind]
    used = (thick > 0) & alive[..., None] & (x >= 0) & (x < wide) & (y >= 0) & (y < tall)
    flat = (y * wide + x)[used]
    stroke = np.broadcast_to(np.arange(count, dtype=np.int32)[:, None, None], x.shape)[used]
    thick = thick[used]
    top = np.full(tall * wide, -1, np.int32)
    np.maximum.at(top, flat, np.arange(len(flat), dtype=np.int32))
    hit = top >= 0
    sample = top[hit]
    colour = layer.colours[stroke[sample]]
    colour[:, 0] += 0.05 * (thick[sample] - 0.6)  # furrows are darker
    paint.reshape(-1, 3)[hit] = colour
    lift = rng.uniform(0.0, 0.5, count).astype(np.float32)
    load = (1.0, 0.8, 0.65, 0.5)[depth]
    relief.reshape(-1)[hit] = 0.4 * relief.reshape(-1)[hit] + load * (
        thick[sample] + lift[stroke[sample]]
    )


def _light(paint: Floats, relief: Floats, rng: Rng, height: int, width: int, unit: float) -> Floats:
    """Light paint and canvas from one side, and reduce the image to the photo's size."""
    tall, wide = relief.shape
    weave = _weave(rng, tall, wide, max(3.2 * unit, 4.0))
    thin = smoothstep(1.3, 0.5, relief)
    surface = blur(relief, 0.6 * unit) + rng.uniform(0.15, 0.5) * weave * (0.25 + 0.75 * thin)
    gx, gy = gradient(surface)
    sun = rng.uniform(-np.pi, 0)  # from above
    slope = (np.cos(sun) * gx + np.sin(sun) * gy) * min(unit, 2.0)
    strength = rng.uniform(0.10, 0.2)
    shade = np.clip(slope * -1.0, -1, 1)
    lab = paint.copy()
    lab[..., 0] += strength * shade * (0.35 + 0.65 * lab[..., 0])
    gloss = rng.uniform(0.05, 0.22) * smoothstep(0.35, 0.9, shade)
    lab[..., 0] += gloss
    lab[..., 1:] *= 1 - gloss[..., None]
    small = resize(lab, height, width, Image.Resampling.BOX)
    return from_oklab(small)


def _weave(rng: Rng, height: int, width: int, period: float) -> Floats:
    """(H, W) height of a plain weave with slightly bent threads."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x = x + 0.25 * period * noise(rng, height, width, period * 8)
    y = y + 0.25 * period * noise(rng, height, width, period * 8)
    u, v = x * np.float32(np.pi / period), y * np.float32(np.pi / period)
    over = np.sign(np.sin(u) * np.sin(v))
    out: Floats = np.where(over > 0, np.abs(np.sin(u)), np.abs(np.sin(v))).astype(np.float32)
    return out
