"""Backgrounds in linear light: walls, leaves, rooms and lamps, out of focus."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from sfhq.render.head.assets import Floats
from sfhq.render.person import Person

GRID = 256  # side of the drawn background; it is resized to the picture
LEAVES = ((0.055, 0.08, 0.04), (0.15, 0.19, 0.1), (0.28, 0.29, 0.16), (0.15, 0.12, 0.08))
SKY = (0.75, 0.82, 0.9)


def background(person: Person, size: int, rng: np.random.Generator) -> Floats:
    """(size, size, 3) linear light of the background; `person.setting` has its kind."""
    kind = person.setting.background
    level = float(np.exp(rng.uniform(np.log(0.05), np.log(0.7))))
    base = level * _tint(rng)
    if kind == "leaves":
        out = _leaves(rng, level)
    elif kind == "wall":
        out = base * _wall(rng)
    elif kind in ("gradient", "plain"):
        out = base * _falloff(rng, rng.uniform(0.1, 0.7) * (kind == "gradient"))
    else:
        out = base * _things(rng)
        if kind == "bokeh":
            out = out + _discs(rng, level)
    out = _sized(out * (1 + 0.008 * _rough(rng, 1.0)), size)
    done: Floats = np.clip(out, 0.002, 1.6).astype(np.float32)
    return done


def _tint(rng: np.random.Generator) -> Floats:
    """(3,) a random colour of paint, stone or cloth: mostly grey, rather warm, rarely strong."""
    if rng.random() < 0.12:
        strong: Floats = np.clip(rng.dirichlet([8, 8, 8]) * 3, 0.2, 2.2)
        return strong
    warm, green = rng.normal(0.07, 0.16), rng.normal(0.0, 0.04)
    out: Floats = np.exp(np.array([0.6 * warm, green, -warm]))
    return out


def _rough(rng: np.random.Generator, steep: float, stretch: float = 1.0) -> Floats:
    """(GRID, GRID, 1) noise of mean 0 and deviation 1 whose power falls with frequency.

    Args:
        rng: random numbers.
        steep: power at frequency f is f ** (-2 * steep).
        stretch: above 1 features are vertical, below 1 they are horizontal.
    """
    y, x = (f.astype(np.float32) for f in (fft.fftfreq(GRID)[:, None], fft.rfftfreq(GRID)[None]))
    far = np.hypot(y * np.float32(stretch**0.5), x / np.float32(stretch**0.5))
    far[0, 0] = np.inf
    drawn = rng.standard_normal((2, *far.shape), dtype=np.float32)
    wave = fft.irfft2((drawn[0] + 1j * drawn[1]) * far**-steep, (GRID, GRID))
    out: Floats = (wave / max(float(wave.std()), 1e-9))[..., None]
    return out


def _falloff(rng: np.random.Generator, slope: float) -> Floats:
    """(GRID, GRID, 1) uneven light."""
    y, x = np.mgrid[-1 : 1 : GRID * 1j, -1 : 1 : GRID * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    glow = np.exp(-((x - rng.uniform(-0.6, 0.6)) ** 2 + (y - rng.uniform(-0.5, 0.3)) ** 2) / 0.9)
    ramp = 1 + slope * (np.cos(angle) * x + np.sin(angle) * y) + slope * (glow - 0.4)
    out: Floats = np.maximum(ramp, 0.1)[..., None]
    return out


def _wall(rng: np.random.Generator) -> Floats:
    """A wall of one material in uneven light: plaster, stone, concrete, bark or curtain."""
    depth = rng.uniform(0.06, 0.34)
    grain = _rough(rng, rng.uniform(0.7, 1.3), float(np.exp(rng.normal(0, 0.5))))
    stains = _rough(rng, 1.8)
    hue = 0.05 * _rough(rng, 1.6) * np.array([1.0, 0.2, -1.0])
    texture = np.exp(depth * grain + rng.uniform(0.05, 0.25) * stains + hue)
    if rng.random() < 0.35:  # joints, boards, folds
        texture = texture * _joints(rng)
    out: Floats = _blurred(texture * _falloff(rng, rng.uniform(0.1, 0.5)), rng.uniform(0, 2.5))
    return out


def _joints(rng: np.random.Generator) -> Floats:
    """(GRID, GRID, 1) factors, below 1 in the gaps between stones or boards."""
    y, x = np.mgrid[0:GRID, 0:GRID].astype(np.float64)
    x = x + 5 * _rough(rng, 1.6)[..., 0]
    y = y + 5 * _rough(rng, 1.6)[..., 0]
    tall, wide, thick = rng.uniform(18, 60), rng.uniform(30, 120), rng.uniform(1.0, 3.5)
    row = np.floor(y / tall)
    across = np.abs((x / wide + 0.5 * row) % 1 - 0.5) * wide
    along = np.abs((y / tall) % 1 - 0.5) * tall
    kind = int(rng.integers(3))  # stones, horizontal boards, vertical boards
    gap = (np.minimum(across, along), along, np.abs((x / wide) % 1 - 0.5) * wide)[kind]
    out: Floats = (1 - rng.uniform(0.15, 0.6) * np.exp(-((gap / thick) ** 2)))[..., None]
    return out


def _leaves(rng: np.random.Generator, level: float) -> Floats:
    """Trees and grass with light between them."""
    palette = np.array(LEAVES) * np.exp(rng.normal(0, 0.2, (len(LEAVES), 3)))
    patches = sum(_rough(rng, s, 1.3) * w for s, w in ((1.8, 0.6), (1.0, 0.55)))
    at = np.clip((np.asarray(patches)[..., 0] + 1.6) / 3.2, 0, 0.999) * (len(LEAVES) - 1)
    low = at.astype(int)
    out = palette[low] + (at - low)[..., None] * (palette[low + 1] - palette[low])
    light = np.clip(_rough(rng, 1.5) - rng.uniform(0.9, 2.2), 0, 1)
    out = out + light * (np.array(SKY) - out)
    shade = np.exp(0.5 * _rough(rng, 1.2))
    done: Floats = _blurred(out * shade * (0.45 + 1.3 * level), rng.uniform(0.8, 5))
    return done


def _things(rng: np.random.Generator) -> Floats:
    """A room or a street: blurred rectangles and discs of different tones."""
    out = np.ones((GRID, GRID, 3))
    y, x = np.mgrid[0:GRID, 0:GRID]
    for _ in range(int(rng.integers(5, 16))):
        tint = np.exp(rng.normal(0, 0.6)) * _tint(rng)
        if rng.random() < 0.7:
            left, width = rng.integers(-32, GRID), rng.integers(12, 104)
            top, height = rng.integers(-80, GRID), rng.integers(24, 240)
            inside = (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
        else:
            cx, cy, r = rng.integers(0, GRID), rng.integers(0, GRID), rng.integers(16, 64)
            inside = (x - cx) ** 2 + (y - cy) ** 2 < r**2
        out = np.where(inside[..., None], tint, out)
    out = out * np.exp(0.12 * _rough(rng, 1.1))
    return _blurred(out, rng.uniform(4, 16))


def _discs(rng: np.random.Generator, level: float) -> Floats:
    """Discs of distant lamps out of focus."""
    at = np.linspace(0, 1, GRID, dtype=np.float32)
    out = np.zeros((GRID, GRID, 3), np.float32)
    radius = rng.uniform(0.02, 0.06)
    reach = radius + 0.07  # here the disc has fallen to a millionth of its middle
    for _ in range(int(rng.integers(6, 30))):
        x, y = rng.random(2)
        rows, columns = (slice(*np.searchsorted(at, (v - reach, v + reach))) for v in (y, x))
        far = np.hypot(at[columns] - np.float32(x), at[rows, None] - np.float32(y))
        disc = 1 / (1 + np.exp((far - radius) / 0.004))
        tint = np.clip(rng.dirichlet([9, 9, 7]) * 3, 0.2, 2) * (0.15 + 1.6 * level) * rng.random()
        out[rows, columns] += disc[..., None] * (tint * 0.6).astype(np.float32)
    return out


def _blurred(image: Floats, sigma: float) -> Floats:
    out: Floats = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest")
    return out


def _sized(image: Floats, size: int) -> Floats:
    """The image resized to (size, size, 3); it is blurred first if it becomes smaller."""
    if size == GRID:
        return image
    if size < GRID:
        image = _blurred(image, 0.4 * GRID / size)
    zoom = (size / GRID, size / GRID, 1)
    out: Floats = ndimage.zoom(image, zoom, order=1, mode="nearest", grid_mode=True)
    return out
