"""Pencil: contours, hatching in several directions, and smudged tone on rough paper.

The seed chooses graphite, coloured pencil or charcoal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfhq.render.styles.fields import (
    Floats,
    Rng,
    blur,
    fractal,
    from_oklab,
    lerp,
    luma,
    noise,
    oklab,
    paper,
    smear,
    smoothstep,
    tangent,
    tensor,
    warp,
)
from sfhq.render.styles.grade import grade
from sfhq.render.styles.guides import BACKGROUND, HAIR, Guides
from sfhq.render.styles.lines import contours

TABLE = 64  # number of strokes side by side before their random numbers repeat


@dataclass(frozen=True)
class Medium:
    """A drawing material.

    Attributes:
        line: width of contours in pixels, in an image of 256 pixels.
        period: distance between hatching lines in pixels, in an image of 256 pixels.
        smudge: share of the tone that is smudged instead of hatched, 0 to 1.
        grain: visibility of the paper's grain, 0 to 1.
        black: darkest tone, 0 to 1.
    """

    line: float
    period: float
    smudge: float
    grain: float
    black: float


GRAPHITE = Medium(line=1.1, period=3.3, smudge=0.45, grain=0.55, black=0.86)
COLOURED = Medium(line=1.0, period=2.9, smudge=0.72, grain=0.6, black=0.85)
CHARCOAL = Medium(line=1.5, period=5.0, smudge=0.85, grain=0.55, black=0.93)


def pencil(rgb: Floats, rng: Rng, guides: Guides) -> Floats:
    """The photo as a drawing, (H, W, 3) in [0, 1]."""
    height, width = rgb.shape[:2]
    unit = min(height, width) / 256
    kind = rng.choice(3, p=(0.5, 0.28, 0.22))
    medium = (GRAPHITE, COLOURED, CHARCOAL)[kind]
    tooth = paper(rng, height, width, rng.uniform(1.3, 2.2) * unit)
    ground = _vignette(guides, rng, height, width, unit)
    dark = _tone(rgb, unit) * ground
    if kind == 1:  # light areas with a colour are drawn as well
        chroma = smoothstep(0.05, 0.45, rgb.max(-1) - 0.75 * rgb.min(-1))
        dark = 1 - (1 - 0.9 * dark) * (1 - 0.45 * chroma * ground)
    period = max(medium.period * rng.uniform(0.85, 1.25) * unit, 2.6)
    hatched = _hatching(dark, rgb, guides, rng, period, unit)
    rubbed = blur(dark, (0.7 if kind != 2 else 1.6) * unit)
    if kind == 2:
        rubbed = rubbed * (1 + 0.12 * fractal(rng, height, width, 40 * unit, 3))
    amount = medium.smudge * rubbed + (1 - medium.smudge) * hatched
    amount = np.maximum(amount, 0.55 * hatched * rubbed**0.5)
    drawn = _outline(rgb, guides, rng, medium, unit)
    amount = 1 - (1 - np.clip(amount, 0, 1)) * (1 - drawn)
    deposit = _press(amount, tooth, medium)
    if kind == 1:
        return _coloured(rgb, deposit, drawn, rng, tooth, unit)
    return _black(deposit, dark, guides, rng, tooth, kind == 2)


def _tone(rgb: Floats, unit: float) -> Floats:
    """(H, W) darkness of the drawing, 0 (bare paper) to 1.

    About half of it comes from the rank of a pixel's luma, so that tones are distributed as in
    drawings: many light, few dark.

    Source: Lu et al. 2012, "Combining sketch and tone for pencil drawing production".
    """
    grey = luma(rgb)
    counts = np.histogram(grey, 256, (0, 1))[0].astype(np.float32)
    rank = (np.cumsum(counts) - 0.5 * counts) / grey.size
    ranked = rank[np.minimum((grey * 256).astype(np.intp), 255)].astype(np.float32)
    local = grey - blur(grey, 14 * unit)
    tone = 0.45 * grey + 0.55 * (0.16 + 0.84 * ranked**0.62) + 0.5 * local
    return np.asarray(np.clip(1.0 - tone, 0, 1) ** 1.15, np.float32)


def _vignette(guides: Guides, rng: Rng, height: int, width: int, unit: float) -> Floats:
    """(H, W) in [0, 1], strength of the drawing: the background fades into bare paper."""
    ragged = 0.35 * fractal(rng, height, width, 40 * unit, 3)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    r = np.hypot((x / width - 0.5) / 0.5, (y / height - 0.52) / 0.56) + 0.25 * ragged
    behind = guides.share((BACKGROUND,), 2 * unit)
    share = rng.uniform(0.1, 0.6)
    if behind is None:
        return smoothstep(1.2, 0.8, r.astype(np.float32))
    near = smoothstep(0.0, 0.35, blur(1 - behind, 14 * unit) + 0.2 * ragged)
    sitter = 0.35 + 0.65 * smoothstep(1.35, 0.85, r.astype(np.float32))
    return lerp(sitter, share * near, behind)


def _hatching(
    dark: Floats, rgb: Floats, guides: Guides, rng: Rng, period: float, unit: float
) -> Floats:
    """(H, W) cover of four layers of hatching, each at its own angle and for darker tones."""
    height, width = dark.shape
    first = rng.uniform(0.6, 1.1) * rng.choice((-1, 1))
    bend = 0.25 * noise(rng, height, width, 90 * unit)
    if guides.normals is not None:  # hatching follows the form
        bend = bend + 0.9 * blur(guides.normals[..., 0], 3 * unit) * np.sign(first)
    smooth = blur(dark, 1.2 * unit)
    cover = np.zeros((height, width), np.float32)
    passes = ((0.10, 0.0, 1.0), (0.34, 0.12, 0.9), (0.50, 0.95, 1.0), (0.68, 1.75, 1.1))
    for least, turn, wide in passes:
        stroke = _pass(first + turn * np.sign(first), bend, rng, period * wide, unit)
        press = smoothstep(least - 0.08, least + 0.30, smooth)
        cover = 1 - (1 - cover) * (1 - 0.80 * stroke * press)
    hair = _strands(dark, rgb, guides, rng, unit)
    return lerp(cover, np.maximum(0.6 * cover, hair[0]), hair[1])


def _pass(angle: float, bend: Floats, rng: Rng, period: float, unit: float) -> Floats:
    """(H, W) cover of parallel strokes, each with its own place, length and pressure."""
    height, width = bend.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    across = across + bend * 7 * unit + 0.25 * period * noise(rng, height, width, 12 * unit)
    across = (across / period).astype(np.float32)
    row = np.floor(across)
    index = row.astype(np.intp) % TABLE
    jitter, reach, start = (rng.uniform(0, 1, TABLE).astype(np.float32) for _ in range(3))
    off = np.abs(across - row - 0.5 - 0.24 * (jitter[index] - 0.5))
    length = (16 + 26 * reach[index]) * unit
    place = along / length + start[index] * 7
    segment = np.floor(place)
    inside = place - segment
    pressure = rng.uniform(0.45, 1.0, (TABLE, TABLE)).astype(np.float32)
    force = pressure[index, segment.astype(np.intp) % TABLE]
    taper = smoothstep(0.0, 0.15, inside) * smoothstep(1.0, 0.65, inside)
    soft = 0.9 / period  # lines are about one pixel thick at any distance
    line = smoothstep(0.20 + soft * 0.6, 0.20 - soft * 0.4, off)
    return np.asarray(line * force * taper, np.float32)


def _strands(
    dark: Floats, rgb: Floats, guides: Guides, rng: Rng, unit: float
) -> tuple[Floats, Floats]:
    """Strokes that follow the texture of hair, and the share in which they replace hatching."""
    height, width = dark.shape
    angle, onesided = tangent(tensor(blur(luma(rgb), 0.8 * unit), 3.5 * unit))
    grain = noise(rng, height, width, max(1.0, 1.2 * unit))
    lines = smear(grain, angle, 9 * unit)
    lines = lines / max(float(lines.std()), 1e-6)
    strokes = smoothstep(-1.1, 1.1, lines + 3.2 * (dark - 0.45)) * np.minimum(1.25 * dark + 0.1, 1)
    hair = guides.share((HAIR, 2, 3), 1.5 * unit)
    if hair is None:
        hair = smoothstep(0.35, 0.75, onesided) * smoothstep(0.3, 0.6, blur(dark, 2 * unit)) * 0.7
    return strokes.astype(np.float32), hair


def _outline(rgb: Floats, guides: Guides, rng: Rng, medium: Medium, unit: float) -> Floats:
    """(H, W) cover of contour lines, drawn twice at slightly different places."""
    height, width = rgb.shape[:2]
    thick = max(medium.line * unit, 0.8)
    lines = contours(rgb, guides, thick)
    total = np.zeros((height, width), np.float32)
    for press in (0.9, 0.55):
        dx, dy = (0.7 * unit * noise(rng, height, width, 22 * unit) for _ in "xy")
        uneven = 0.72 + 0.28 * noise(rng, height, width, 16 * unit)
        total = np.maximum(total, warp(lines, dx, dy) * np.clip(uneven, 0.15, 1) * press)
    return total * np.float32(medium.black)


def _press(amount: Floats, tooth: Floats, medium: Medium) -> Floats:
    """(H, W) cover of the paper; light pressure leaves pigment only on its high places."""
    hills = smoothstep(1.0 - amount * 1.25 - 0.28, 1.0 - amount * 1.25 + 0.28, tooth)
    return np.asarray(
        medium.black * amount * (1 - medium.grain + medium.grain * (0.25 + 1.1 * hills)), np.float32
    ).clip(0, medium.black)


def _black(
    deposit: Floats, dark: Floats, guides: Guides, rng: Rng, tooth: Floats, charcoal: bool
) -> Floats:
    """The drawing in one colour: graphite, red chalk or charcoal, on white or toned paper."""
    sheet = np.array([0.97, 0.955, 0.925]) + rng.normal(0, 0.012, 3)
    stick = np.array([0.16, 0.16, 0.18])
    white = np.zeros_like(deposit)
    choice = rng.uniform()
    if charcoal:
        stick = np.array([0.09, 0.085, 0.085])
        if choice < 0.5:  # toned paper
            sheet = np.array([0.74, 0.68, 0.58]) + rng.normal(0, 0.04, 3)
            white = smoothstep(0.34, 0.05, dark) * (0.35 + 0.65 * tooth)
            white = white * 0.7 * smoothstep(0.0, 0.5, guides.face(*dark.shape))
    elif choice < 0.25:  # sanguine and sepia
        stick = np.array([0.45, 0.16, 0.09]) + rng.normal(0, 0.05, 3)
    lit = np.clip(sheet, 0, 0.99) * (1 + 0.05 * (tooth - 0.5))[..., None]
    out = lerp(lit, np.float32(0.98), white)
    return lerp(out, np.clip(stick, 0, 1), deposit)


def _coloured(
    rgb: Floats, deposit: Floats, drawn: Floats, rng: Rng, tooth: Floats, unit: float
) -> Floats:
    """The drawing in thin colours through which the paper is visible, with dark contours."""
    lab = oklab(blur(grade(rgb, rng, (1.25, 1.8), 0.03, 1.0), 0.8 * unit))
    height, width = deposit.shape
    lab[..., 1:] += 0.010 * np.stack([noise(rng, height, width, 14 * unit) for _ in "ab"], -1)
    lab[..., 0] = np.clip(0.20 + 0.76 * lab[..., 0] - 0.10 * deposit, 0.2, 0.95)
    colour = from_oklab(lab)
    line = from_oklab(np.array([0.28, *rng.normal(0, 0.03, 2)], np.float32))
    colour = lerp(colour, line, 0.75 * drawn)
    sheet = np.array([0.98, 0.97, 0.945], np.float32) * (1 + 0.05 * (tooth - 0.5))[..., None]
    cover = np.clip(0.12 + 1.2 * deposit, 0, 0.97) * smoothstep(0.0, 0.06, deposit)
    return lerp(sheet, colour, cover)
