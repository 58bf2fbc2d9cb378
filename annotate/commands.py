"""Commands that need landmarks: export. And what align takes, which needs networks besides."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from sfhq.console import FOLDER, options, read_recipe
from sfhq.errors import UsageError

if TYPE_CHECKING:
    from annotate.align import Align
    from sfhq.parts.part import Part
    from sfhq.pipeline.recipe import Recipe

align_options = options(
    click.option("--size", type=int, help="Pixels of the crop; default: the generator's."),
    click.option(
        "--faces",
        type=click.Choice(["best", "single"]),
        help="Of several faces take the best, or reject the image.",
    ),
    click.option("--min-face", type=int, help="Smallest crop in source pixels.  [default: 64]"),
    click.option("--aligned", is_flag=True, default=None, help="Images are FFHQ crops already."),
)


def align_stage(recipe: Recipe, resolution: Callable[[], int]) -> Align:
    """The stage that a recipe describes, with its detector.

    Args:
        recipe: of the run.
        resolution: the generator's in pixels, asked for where the recipe gives no size.
    """
    from annotate.align import Align

    a = recipe.align
    if a.faces not in ("best", "single"):
        raise UsageError(f"align.faces is {a.faces!r}; wanted best or single")
    faces: Literal["best", "single"] = "single" if a.faces == "single" else "best"
    return Align.load(
        size=a.size or max(256, resolution()),
        faces=faces,
        min_face=a.min_face,
        max_padding=a.max_padding,
        aligned=a.aligned,
    )


@click.command(name="export")
@click.argument("part", type=FOLDER)
@click.argument("target", type=FOLDER)
@click.option("--format", "layout", type=click.Choice(["sfhq"]), default="sfhq", show_default=True)
@click.option("--name", help="Prefix of the file names; default: the part's name.")
@click.option("--image-format", type=click.Choice(["jpg", "png"]), help="[default: jpg]")
@click.option("--quality", type=click.IntRange(1, 100), help="Of JPEG.  [default: 95]")
def export_command(
    part: Path,
    target: Path,
    layout: str,
    name: str | None,
    image_format: str | None,
    quality: int | None,
) -> None:
    """Write the photos of PART that stayed to TARGET, with labels and a manifest.

    \b
    Example:
      sfhq export part-05 SFHQ_part5 --name SFHQ_pt5
    """
    from sfhq.parts.part import Part

    del layout
    recipe = read_recipe(
        export__name=name,
        export__image_format=image_format,
        export__quality=quality,
    )
    click.echo(write_export(Part.open(part), target, recipe))


def _file_name(name: str) -> str:
    """A part's name as a prefix of file names."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return kept.lstrip("._-")[:64] or "part"


def write_export(part: Part, target: Path, recipe: Recipe) -> str:
    """Write the photos of a part that stayed, with a progress bar; the line that says so."""
    from tqdm import tqdm

    from sfhq.export.sfhq_layout import export_sfhq
    from sfhq.faces.detector import face_landmarks

    settings = recipe.export
    with tqdm(desc="export    ", unit=" faces", disable=not sys.stderr.isatty()) as bar:
        done = export_sfhq(
            part,
            target,
            name=settings.name or _file_name(part.name),
            landmarker=face_landmarks,
            image_format=settings.image_format,
            quality=settings.quality,
            on_image=lambda: bar.update(1) and None,
        )
    return f"export     {done.images:>7} photos in {done.root}"
