"""Draw labels over a rendered picture, for people to look at."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sfhq.images import CLASS_COLOURS
from sfhq.parts.folders import RENDER_FOLDER
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord

SEEN, INFERRED = (60, 245, 140), (255, 170, 40)


def overlay(part: Part, record: FaceRecord, side: int) -> Image.Image:
    """The photograph with half-transparent classes and landmarks as dots, `side` pixels square.

    Visible landmarks are green; hidden or inferred landmarks are orange.
    """
    with Image.open(part.image_path(RENDER_FOLDER, record.face_id)) as image:
        photo = image.convert("RGB")
    with Image.open(part.image_path("segmentations", record.face_id)) as image:
        classes = np.asarray(image)
    colours = np.asarray(CLASS_COLOURS, np.uint8)
    tint = Image.fromarray(colours[np.minimum(classes, len(colours) - 1)])
    mixed = Image.blend(photo, tint, 0.55)
    mixed.paste(photo, mask=Image.fromarray(((classes == 0) * 255).astype(np.uint8)))
    mixed = mixed.resize((side, side), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(mixed)
    scale = side / photo.width
    radius = max(1.0, side / 200)
    for x, y, seen in part.row("render_landmarks", record).tolist():
        if seen > 0:
            cx, cy = (x + 0.5) * scale, (y + 0.5) * scale
            box = (cx - radius, cy - radius, cx + radius, cy + radius)
            draw.ellipse(box, fill=SEEN if seen > 1 else INFERRED)
    return mixed
