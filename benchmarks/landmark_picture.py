"""Draw docs/landmarks.jpg and the table of docs/landmarks.md: the 110 points on a rendered head.

    python benchmarks/landmark_picture.py [--seed 2038] [--docs docs]

The head is nobody, and its points are exact. Needs: pip install 'sfhq[render]'
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from annotate.labels.hairline import RayFrame
from annotate.labels.names import DEFINITIONS, NAMES, SKELETON
from sfhq.faces.points import GROUPS, INNER, OUTER
from sfhq.images import RENDERED, write_image

SIZE = 512  # pixels of the head
LARGE = 1400  # pixels of the drawing
SAMPLES = 32
COLOURS = {
    "jaw": (120, 200, 255),
    "brows": (255, 200, 90),
    "nose": (140, 255, 170),
    "eyes": (255, 255, 255),
    "mouth": (255, 130, 170),
    "nose wings": (60, 255, 90),
    "inner lip": (255, 80, 230),
    "hairline": (255, 240, 60),
    "contour": (255, 130, 40),
}
START, STOP = "<!-- points -->\n", "<!-- /points -->\n"


def drawn(seed: int) -> Image.Image:
    """The head with its points, their numbers, and the rays of the last two groups."""
    from sfhq.render.develop import develop
    from sfhq.render.labels.classes import read
    from sfhq.render.labels.landmarks import landmarks
    from sfhq.render.people.recipe import RenderRecipe
    from sfhq.render.people.sampling import person
    from sfhq.render.render import one_thread
    from sfhq.render.scene.model import make
    from sfhq.render.scene.picture import render

    with one_thread():
        one = person(seed, RenderRecipe())
        model = make(one)
        labels = read(model, SIZE)
        light, steady = render(model, SIZE, SAMPLES)
        photo = develop(one, light, labels, steady)
    points = landmarks(model, labels).astype(np.float64)
    image = Image.fromarray(photo).resize((LARGE, LARGE), Image.Resampling.LANCZOS)
    image = Image.blend(image, Image.new("RGB", image.size), 0.25)
    draw = ImageDraw.Draw(image)
    places = (points[:, :2] + 0.5) * (LARGE / SIZE)
    frame = RayFrame.of(np.concatenate([places, points[:, 2:]], 1))
    for angle in sorted({*INNER.tolist(), *OUTER.tolist()}):
        end = frame.origin + 2 * LARGE * frame.direction(angle)
        draw.line([tuple(frame.origin), tuple(end)], fill=(150, 150, 150), width=1)
    for a, b in SKELETON:
        draw.line([tuple(places[a]), tuple(places[b])], fill=(200, 200, 200), width=1)
    font = ImageFont.load_default(17)
    small = ImageFont.load_default(12)
    for name, (first, last) in GROUPS.items():
        for i in range(first, last):
            x, y = places[i]
            draw.ellipse((x - 3.5, y - 3.5, x + 3.5, y + 3.5), fill=COLOURS[name])
            crowded = 36 <= i < 80 and name != "nose wings"
            where = (x + 4, y - 7) if crowded else (x + 5, y - 10)
            draw.text(
                where,
                str(i),
                fill=COLOURS[name],
                font=small if crowded else font,
                stroke_width=2,
                stroke_fill=(0, 0, 0),
            )
    return image


def table() -> str:
    """All points by number, name and definition."""
    rows = [
        f"| {i} | `{n}` | {d} |" for i, (n, d) in enumerate(zip(NAMES, DEFINITIONS, strict=True))
    ]
    return "\n".join(["| point | name | where |", "|---|---|---|", *rows, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=2038)
    parser.add_argument("--docs", type=Path, default=Path(__file__).parent.parent / "docs")
    parser.add_argument("--table-only", action="store_true", help="Leave the picture as it is.")
    args = parser.parse_args()
    page = args.docs / "landmarks.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(START)
    page.write_text(before + START + table() + STOP + rest.split(STOP)[1], encoding="utf-8")
    if not args.table_only:
        write_image(args.docs / "landmarks.jpg", np.asarray(drawn(args.seed)), RENDERED, 88)


if __name__ == "__main__":
    main()
