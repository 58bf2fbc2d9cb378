"""Commands that begin a part and look at it: ingest, render, show, sheet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfhq.console import (
    FOLDER,
    counts_line,
    options,
    read_recipe,
    run_and_report,
    run_options,
    split_names,
)

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe
    from sfhq.sources.ingest import Ingest

source_options = options(
    click.option("--only", metavar="GLOB", help="Only files whose name matches."),
    click.option("--limit", type=int, help="At most so many files."),
    click.option("--licence", help="Licence of the sources, for the records."),
    click.option("--provenance", help="Where the sources come from, for the records."),
)


@click.command()
@click.argument("source", type=FOLDER)
@click.argument("part", type=FOLDER)
@source_options
@run_options
def ingest(
    source: Path,
    part: Path,
    only: str | None,
    limit: int | None,
    licence: str | None,
    provenance: str | None,
    **flags: Any,
) -> None:
    """Start PART with the images of SOURCE: a folder, a .zip, or a .txt list of files.

    \b
    Example:
      sfhq ingest paintings/ part-05 --only '*.jpg' --licence CC0-1.0
    """
    from sfhq.parts.part import Part

    recipe = read_recipe(
        ingest__only=only,
        ingest__limit=limit,
        ingest__licence=licence,
        ingest__provenance=provenance,
    )
    stage = ingest_stage(source, recipe)
    stage.settings()  # a source that is not there says so before a folder is made
    run_and_report(stage, Part.create(part), **flags)


def ingest_stage(source: Path, recipe: Recipe) -> Ingest:
    """The stage that a recipe describes, of the images of `source`."""
    from sfhq.sources.ingest import Ingest

    s = recipe.ingest
    return Ingest(str(source), s.only or None, s.limit or None, s.licence, s.provenance)


@click.command()
@click.argument("part", type=FOLDER)
@click.option("--count", type=int, required=True, help="How many faces.")
@click.option("--seed", default=0, show_default=True, help="First seed.")
@click.option("--size", default=256, show_default=True, help="Side of the pictures in pixels.")
@click.option(
    "--style",
    "styles",
    default="photo",
    show_default=True,
    metavar="NAMES",
    help="Comma-separated, dealt in turn: photo, oil, watercolour, pencil, cel, low-poly, clay, "
    "pixelated.",
)
@click.option("--recipe", "recipe_path", type=FOLDER, help="TOML file: whom to draw.")
@click.option("--samples", default=3, show_default=True, help="Light paths a pixel.")
@run_options
def render(
    part: Path,
    count: int,
    seed: int,
    size: int,
    styles: str,
    recipe_path: Path | None,
    samples: int,
    **flags: Any,
) -> None:
    """Start PART with rendered heads: nobody's photographs, every label exact.

    Each face is a photograph in renders/, in an art style also in art/, with 19 classes in
    segmentations/, what is behind hair, glasses and clothes in bare/, 110 landmarks, 40 attributes,
    pose and gaze. Needs: pip install 'sfhq[render]'

    \b
    Examples:
      sfhq render heads --count 10000 --seed 1 --style photo,oil --workers 2
      sfhq run heads part-05                 # its pictures as inspirations
      sfhq sheet heads --labels
    """
    from sfhq.parts.part import Part
    from sfhq.render.people.recipe import load_render_recipe
    from sfhq.render.render import Render

    recipe = load_render_recipe(recipe_path)
    stage = Render(count, seed, size, split_names(styles) or (), recipe, samples)
    stage.settings()  # a package that is missing says so before a folder is made
    run_and_report(stage, Part.create(part), **flags, total=count)


@click.command()
@click.argument("part", type=FOLDER)
@click.option("--rejections", default=10, show_default=True, help="Examples to list a stage.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(part: Path, rejections: int, as_json: bool) -> None:
    """Print the funnel of PART: faces in and out of every stage, and why others left.

    \b
    Example:
      sfhq show part-05 --rejections 3
    """
    from sfhq.parts.part import Part
    from sfhq.pipeline.engine import funnel

    opened = Part.open(part)
    rows = funnel(opened)
    if as_json:
        click.echo(json.dumps({"part": opened.name, "stages": rows}, sort_keys=True))
        return
    for row in rows:
        if "entered" not in row:
            click.echo(f"{row['stage']:<10} not ended; run: sfhq {row['stage']} {part}")
            continue
        click.echo(counts_line(row["stage"], row))
        if not row["rejected"]:
            continue
        gone = (r for r in opened.records(row["stage"]) if not r.alive)
        for _, record in zip(range(rejections), gone, strict=False):
            name = record.source if row["stage"] in ("ingest", "align") else record.face_id
            click.echo(f"           {name}: {record.reason}: {record.detail}")


@click.command()
@click.argument("part", type=FOLDER)
@click.option("--out", type=FOLDER, help="Image to write; default: PART/sheet.png.")
@click.option("--rows", default=12, show_default=True, help="Rows a page.")
@click.option("--cell", default=160, show_default=True, help="Pixels of a picture.")
@click.option("--pages", type=int, help="At most so many pages.")
@click.option("--labels", is_flag=True, help="Of rendered heads: classes and landmarks beside.")
def sheet(
    part: Path, out: Path | None, rows: int, cell: int, pages: int | None, labels: bool
) -> None:
    """Draw contact sheets of PART: every inspiration with its candidates beside it.

    \b
    Examples:
      sfhq sheet part-05 --out sheet.png --pages 1
      sfhq sheet heads --labels
    """
    from sfhq.parts.part import Part
    from sfhq.sheet import write_sheets

    for path in write_sheets(
        Part.open(part),
        out or part / "sheet.png",
        rows=rows,
        cell=cell,
        pages=pages,
        labels=labels,
    ):
        click.echo(path)
