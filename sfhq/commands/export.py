"""The command export: the photos of a part in the formats that people load."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfhq.console import FOLDER, progress_bar, read_recipe, say
from sfhq.export.formats.table import NAMES, ROWS

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe

SFHQ = "sfhq"
KINDS = "\n".join(f"  {row.name:<12} {row.what}" for row in ROWS)
MOST_SAMPLE = 10_000  # photos: hosts take so many files in a folder
OTHERS = ("also", "size", "splits", "shard_size", "title", "id_", "licence", "date")


@click.command(
    name="export",
    help=f"""Write the photos of PART that stayed to TARGET, with a manifest that has their labels.

Photos that people rejected stay behind. Landmarks come from the stage landmark, else from
detect, which runs first where neither has yet; segmentations from parse. Rendered heads bring
exact ones of both. --replace leaves files alone that no export wrote. A run that was stopped
goes on where it was.

\b
Formats:
  sfhq         folders of the published SFHQ parts
{KINDS}

\b
Examples:
  sfhq export part-05 SFHQ_part5 --name SFHQ_pt5
  sfhq export part-05 SFHQ_part5 --name SFHQ_pt5 --sample 30 --sample 550 --replace
  sfhq export part-05 shards --format webdataset --size 256
  sfhq export part-05 kaggle --format kaggle --id me/my-faces --licence CC0-1.0
""",
)
@click.argument("part", type=FOLDER)
@click.argument("target", type=FOLDER)
@click.option(
    "--format",
    "layout",
    type=click.Choice([SFHQ, *NAMES]),
    default=SFHQ,
    show_default=True,
    metavar="FORMAT",
    help="One of the list above.",
)
@click.option("--name", help="Prefix of the file names; default: the part's name.")
@click.option(
    "--image-format",
    type=click.Choice(["jpg", "png"]),
    help="[default: jpg for the format sfhq; for others the bytes as they are]",
)
@click.option("--quality", type=click.IntRange(1, 100), help="Quality of JPEG.  [default: 95]")
@click.option("--rejected", is_flag=True, help="Also photos that people rejected.")
@click.option(
    "--sample",
    "samples",
    type=click.IntRange(1, MOST_SAMPLE),
    multiple=True,
    help="Also a folder with copies of this many photos. May be repeated.",
)
@click.option("--replace", is_flag=True, help="Write an export of other settings in TARGET anew.")
@click.option(
    "--also", type=FOLDER, multiple=True, help="A further part in the same export. May be repeated."
)
@click.option(
    "--size",
    type=click.IntRange(64, 2048),
    help="Reduce photos, masks and points to this many pixels a side.  [default: as they are]",
)
@click.option(
    "--splits",
    metavar="SHARES",
    help="Shares of train, validation and test; no source and no face is in two of them.  "
    "[default: 0.8,0.1,0.1]",
)
@click.option(
    "--shard-size",
    type=click.IntRange(1, 10_000),
    help="Megabytes of a shard.  [default: 480]",
)
@click.option("--title", help="Title of the export; default: its name.")
@click.option("--id", "id_", metavar="OWNER/SLUG", help="Its name on Kaggle or Hugging Face.")
@click.option(
    "--licence", metavar="SPDX", help="Licence of the export; default: what the photos state."
)
@click.option("--date", metavar="YYYY-MM-DD", help="Date of publication, for Croissant.")
def export_command(
    part: Path,
    target: Path,
    layout: str,
    name: str | None,
    image_format: str | None,
    quality: int | None,
    rejected: bool,
    samples: tuple[int, ...],
    replace: bool,
    **others: Any,
) -> None:
    """Write an export; the help stands above, because it lists the formats."""
    from sfhq.errors import UsageError

    how: dict[str, Any] = {"rejected": rejected, "samples": samples, "replace": replace}
    given = [o for o in OTHERS if others[o]]
    if layout != SFHQ:
        look = {"image_format": image_format or "", "quality": quality or 95}
        say(_write_as(layout, (part, *others["also"]), target, name, look, others, how))
        return
    if given:
        option = given[0].strip("_").replace("_", "-")
        raise UsageError(
            f"--{option}: the format sfhq has none; leave it out, or give another --format"
        )
    recipe = read_recipe(
        export__name=name,
        export__image_format=image_format,
        export__quality=quality,
    )
    say(write_export(part, target, recipe, "export", **how))


def _write_as(
    layout: str,
    roots: tuple[Path, ...],
    target: Path,
    name: str | None,
    look: dict[str, Any],
    others: dict[str, Any],
    how: dict[str, Any],
) -> str:
    """Write an export in a format of the table; the lines that say so."""
    from tqdm import tqdm

    from sfhq.errors import UsageError
    from sfhq.export.choose import LARGE
    from sfhq.export.formats.table import format_of
    from sfhq.export.item import Look
    from sfhq.export.job import MEGABYTE, About
    from sfhq.export.splits import Shares
    from sfhq.export.whole import export_as
    from sfhq.parts.part import Part

    date = others["date"] or ""
    if date and not re.fullmatch(r"\d{4}-[01]\d-[0-3]\d", date):
        raise UsageError(f"--date {date!r}: wanted YYYY-MM-DD")
    parts = [Part.open(root) for root in roots]
    more = {"shard": others["shard_size"] * MEGABYTE} if others["shard_size"] else {}
    with tqdm(desc="export    ", unit=" faces", disable=not sys.stderr.isatty()) as bar:
        done, choice = export_as(
            format_of(layout),
            parts,
            target,
            name=name or _file_name(parts[0].name),
            look=Look(**look, size=others["size"] or 0),
            shares=Shares.read(others["splits"]) if others["splits"] else Shares(),
            about=About(others["title"] or "", others["id_"] or "", others["licence"] or "", date),
            on_image=lambda: bar.update(1) and None,
            **more,
            **how,
        )
    counts = ", ".join(f"{name} {n}" for name, n in choice.counts().items())
    line = f"export     {done.images:>7} photos in {done.root}   {counts}{_left_out(done)}"
    if choice.largest > LARGE and len(choice) > 1:
        line += (
            f"\n           {choice.largest:.0%} of the photos come from one source or show one "
            "face, so the splits cannot have the shares that were asked for"
        )
    return line


def _left_out(done: Any) -> str:
    if not done.left_out:
        return ""
    return f"   left out: {done.left_out} that people rejected (--rejected exports them, too)"


def _file_name(name: str) -> str:
    """A part's name as a prefix of file names."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return kept.lstrip("._-")[:64] or "part"


def write_export(root: Path, target: Path, recipe: Recipe, by: str = "run", **how: Any) -> str:
    """Write the photos of a part that stayed, with a progress bar; the line that says so.

    Args:
        root: folder of the part.
        target: folder to write.
        recipe: name, format and quality.
        by: "run", whose exports a later run replaces, or "export".
        how: further arguments of `export_sfhq`.
    """
    from tqdm import tqdm

    from sfhq.export.sfhq_layout import export_sfhq, has_points, require_photos
    from sfhq.faces.found import POINTS
    from sfhq.parts.lineage import writer_of
    from sfhq.parts.part import Part
    from sfhq.pipeline import Pipeline

    part = Part.open(root)
    require_photos(part)
    maker = writer_of(POINTS)
    if not has_points(part) and maker is not None:
        say(f"{maker}: {root} has no landmarks yet", err=True)
        Pipeline.from_recipe(recipe, [maker]).run(part, progress=progress_bar)
    settings = recipe.export
    with tqdm(desc="export    ", unit=" faces", disable=not sys.stderr.isatty()) as bar:
        done = export_sfhq(
            part,
            target,
            name=settings.name or _file_name(part.name),
            image_format=settings.image_format,
            quality=settings.quality,
            by=by,
            on_image=lambda: bar.update(1) and None,
            **how,
        )
    return f"export     {done.images:>7} photos in {done.root}{_left_out(done)}"
