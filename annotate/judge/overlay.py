"""Labels drawn over their photo, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from annotate.labels.points import Points
from sfhq.faces.points import MISSING, VISIBLE
from sfhq.images import CLASS_COLOURS
from sfhq.parts.records import Pixels

SEEN, INFERRED = (60, 245, 140), (255, 170, 40)
BACKGROUND, TEXT = (24, 24, 26), (225, 225, 225)
LINE = 16  # pixels of a caption


def overlay(
    photo: Pixels, mask: Pixels | None, points: Points | None, side: int, strength: float = 0.5
) -> Image.Image:
    """A photo with half-transparent classes and its points as dots.

    Visible points are green, hidden or inferred ones orange; missing ones are not drawn.

    Args:
        photo: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 ids; None for none.
        points: (110, 5) in pixels of the photo; None for none.
        side: the longer side of the picture in pixels.
        strength: opacity of the classes, 0 to 1.
    """
    image = Image.fromarray(photo)
    if mask is not None:
        colours = np.asarray(CLASS_COLOURS, np.uint8)
        tint = Image.fromarray(colours[np.minimum(mask, len(colours) - 1)])
        mixed = Image.blend(image, tint, strength)
        mixed.paste(image, mask=Image.fromarray(((mask == 0) * 255).astype(np.uint8)))
        image = mixed
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    radius = max(1.0, side / 220)
    for x, y, flag, _, _ in [] if points is None else points.tolist():
        if flag > MISSING:
            cx, cy = (x + 0.5) * scale, (y + 0.5) * scale
            box = (cx - radius, cy - radius, cx + radius, cy + radius)
            draw.ellipse(box, fill=SEEN if flag == VISIBLE else INFERRED)
    return image


def sheet(pictures: Sequence[tuple[Image.Image, str]], across: int = 6) -> Image.Image:
    """Pictures in rows with a caption below each.

    Args:
        pictures: and their captions; at least one.
        across: pictures in a row.
    """
    side = max(max(p.size) for p, _ in pictures)
    rows = -(-len(pictures) // across)
    page = Image.new("RGB", (across * side, rows * (side + LINE)), BACKGROUND)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default()
    for i, (picture, caption) in enumerate(pictures):
        x, y = i % across * side, i // across * (side + LINE)
        page.paste(picture, (x + (side - picture.width) // 2, y))
        fits = max(1, side // 6)  # the font's letters are 6 pixels wide
        draw.text((x + 2, y + side + 2), caption[:fits], fill=TEXT, font=font)
    return page
