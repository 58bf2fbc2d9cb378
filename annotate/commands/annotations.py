"""Commands about the labels that were read off photos: the group `annotations`.

The group `labels` is another thing: what people decided in curation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from annotate.commands.probe import probe_command
from sfhq.commands.numbers import SEED
from sfhq.console import FOLDER, Command, say

FORMATS = ("coco", "pts", "npz", "label-studio", "cvat")


@click.group("annotations", cls=Command)
def group() -> None:
    """Judge, show and export what parse, landmark and attribute read off photos."""


group.add_command(probe_command)


@group.command("export")
@click.argument("part", type=FOLDER)
@click.argument("target", type=FOLDER)
@click.option("--format", "file_format", type=click.Choice(FORMATS), required=True)
@click.option(
    "--points",
    type=click.Choice(["68", "110"]),
    default="110",
    show_default=True,
    help="How many points npz holds.",
)
@click.option("--images/--no-images", default=True, help="Also write the photos.")
def export(part: Path, target: Path, file_format: Any, points: str, images: bool) -> None:
    """Write the labels of PART to the folder TARGET in the format of another program.

    \b
    coco          keypoints and run-length masks in one JSON; needs: pip install 'sfhq[coco]'
    pts           300-W's files of 68 points, counted from 1
    npz           the array landmarks of each photo, as published SFHQ parts have it
    label-studio  tasks with points to correct, and the labelling interface
    cvat          palette PNG, CVAT's "Segmentation mask 1.1" and Pascal VOC

    \b
    Examples:
      sfhq annotations export part-05 coco/ --format coco
      sfhq annotations export part-05 points/ --format npz --points 68 --no-images
    """
    from annotate.exchange.write import export_annotations
    from sfhq.parts.part import Part

    count = export_annotations(
        Part.open(part), target, file_format, points=68 if points == "68" else 110, images=images
    )
    say(f"labels of {count} photos in {target}")


@group.command("evaluate")
@click.argument("part", type=FOLDER)
@click.option("--truth", type=FOLDER, required=True, help="Part whose labels are right.")
@click.option("--report", "page", type=FOLDER, help="Also write a page with the worst photos.")
@click.option("--sheet", "picture", type=FOLDER, help="Also draw the worst photos as an image.")
@click.option(
    "--worst",
    type=click.IntRange(1, 10000),
    default=24,
    show_default=True,
    help="Number of the worst photos.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def evaluate(
    part: Path, truth: Path, page: Path | None, picture: Path | None, worst: int, as_json: bool
) -> None:
    """Compare the labels of PART with the truth about the same photos.

    The truth about rendered heads is their own part; PART was ingested from it.

    \b
    Example:
      sfhq render heads --count 200
      sfhq ingest heads read && sfhq detect read && sfhq parse read && sfhq landmark read
      sfhq annotations evaluate read --truth heads --report read.html
    """
    from annotate.judge.figures import figures
    from annotate.judge.pairs import pairs
    from annotate.judge.report import report, tables
    from sfhq.images import write_atomic
    from sfhq.parts.part import Part

    opened, right = Part.open(part), Part.open(truth)
    found = figures(pairs(opened, right), worst)
    if as_json:
        click.echo(json.dumps(found.to_dict(), sort_keys=True))
    else:
        say(f"{found.photos} photos")
        for title, heads, rows in tables(found):
            say("")
            say(title)
            for line in _aligned([heads, *rows]):
                say(line)
    if page is not None:
        write_atomic(page, report(opened, found).encode())
        say(f"page: {page}", err=as_json)
    if picture is not None:
        _draw(opened, right, found.worst, picture)
        say(f"sheet: {picture}", err=as_json)


@group.command("report")
@click.argument("part", type=FOLDER)
@click.argument("page", type=FOLDER)
@click.option(
    "--examples",
    type=click.IntRange(1, 10000),
    default=24,
    show_default=True,
    help="Photos to show of each kind.",
)
def report_command(part: Path, page: Path, examples: int) -> None:
    """Write a page about the labels of PART: counts, histograms, and the least certain photos.

    \b
    Example:
      sfhq annotations report part-05 labels.html
    """
    from annotate.judge.report import report
    from sfhq.images import write_atomic
    from sfhq.parts.part import Part

    write_atomic(page, report(Part.open(part), examples=examples).encode())
    say(f"page: {page}")


@group.command("consistency")
@click.argument("part", type=FOLDER)
@click.option("--weights", type=FOLDER, help="Weights of the network.  [default: the pack's]")
@click.option(
    "--most",
    type=click.IntRange(1, 1000000),
    default=32,
    show_default=True,
    help="Largest number of photos.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def consistency_command(part: Path, weights: Path | None, most: int, as_json: bool) -> None:
    """Read photos of PART mirrored, in a batch and from other crops, and say what changes.

    \b
    Example:
      sfhq annotations consistency part-05 --most 100
    """
    from itertools import islice

    from annotate.judge.consistency import consistency
    from annotate.labels.views import require_faces, views
    from sfhq import stages
    from sfhq.parts.part import Part
    from sfhq.parts.photos import read_photo

    opened = Part.open(part)
    require_faces(opened, "consistency")
    reader, _ = stages.network("label reader")(weights)
    photos = ((read_photo(opened, record), record) for record in opened.faces())
    found = ((p, v) for p, r in photos for v in views(opened, r, p, reader.size)[:1])
    said = consistency(reader, islice(found, most))
    if as_json:
        click.echo(json.dumps(said.to_dict(), sort_keys=True))
        return
    say(f"{said.photos} photos")
    say(f"  mirrored: {said.flipped_pixels} pixels of a class that is not the mirrored one")
    say(f"  mirrored: points {said.flipped_points:.2g} px apart")
    say(f"  in a batch: {said.batch_differs} readings with other bits")
    say("  other crops, shifted and scaled by up to 8 %:")
    say(f"    points move {100 * said.moved:.2f} % of the eye distance, median")
    say(f"    {100 * said.moved_worst:.2f} % at the 95th percentile")
    say(f"    {100 * said.changed:.2f} % of the pixels change their class")


@group.command("sheet")
@click.argument("part", type=FOLDER)
@click.argument("picture", type=FOLDER)
@click.option(
    "--most",
    type=click.IntRange(1, 10000),
    default=48,
    show_default=True,
    help="Largest number of photos.",
)
@click.option(
    "--across",
    type=click.IntRange(1, 100),
    default=8,
    show_default=True,
    help="Photos in a row.",
)
@click.option(
    "--cell",
    type=click.IntRange(16, 2048),
    default=200,
    show_default=True,
    help="Side of a photo in pixels.",
)
@click.option("--where", metavar="SQL", help="Only faces that meet this condition of sfhq table.")
@click.option(
    "--strength",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Opacity of the classes.",
)
@click.option("--beside", is_flag=True, help="The bare photo to the left of its labels.")
def sheet_command(
    part: Path,
    picture: Path,
    most: int,
    across: int,
    cell: int,
    where: str | None,
    strength: float,
    beside: bool,
) -> None:
    """Draw the labels of PART over its photos.

    \b
    Examples:
      sfhq annotations sheet part-05 labels.jpg
      sfhq annotations sheet part-05 hats.png --where "hat != 'none'" --across 5 --cell 320
    """
    from itertools import islice

    import numpy as np

    from annotate.exchange.faces import labelled
    from annotate.judge.overlay import overlay, sheet
    from sfhq.errors import UsageError
    from sfhq.images import COMPOSITE, write_image
    from sfhq.parts.part import Part
    from sfhq.parts.table import query

    if picture.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UsageError(f"{picture}: wanted a name that ends in .png, .jpg or .webp")
    opened = Part.open(part)
    faces = labelled(opened)
    if where is not None:
        chosen = set(query(opened, "face_id", where).column("face_id").to_pylist())
        faces = (face for face in faces if face.name in chosen)
    cells = []
    for face in islice(faces, most):
        drawn = overlay(face.photo, face.mask, face.points, cell, strength)
        said = f"{face.name} {face.record.about.get('parse_flags') or ''}"
        cells += [(overlay(face.photo, None, None, cell), face.name)] if beside else []
        cells.append((drawn, said))
    if not cells:
        if where is None:
            raise UsageError(f"{part}: no face is labelled; run: sfhq parse {part}")
        raise UsageError(f"{part}: no labelled face meets --where {where}; see: sfhq table {part}")
    write_image(picture, np.asarray(sheet(cells, across)), COMPOSITE, 90)
    say(f"{len(cells)} photos in {picture}")


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in pairs).rstrip()
        for pairs in (enumerate(zip(row, widths, strict=True)) for row in rows)
    ]


def _draw(told: Any, truth: Any, worst: list[tuple[str, str, float]], path: Path) -> None:
    """Each of the worst photos with its labels, and the truth beside it."""
    import numpy as np

    from annotate.judge.overlay import overlay, sheet
    from annotate.judge.pairs import pairs
    from sfhq.images import COMPOSITE, write_image

    wanted = {name: (kind, error) for name, kind, error in reversed(worst)}
    by_name = {pair.told.name: pair for pair in pairs(told, truth) if pair.told.name in wanted}
    cells = []
    for name, kind, error in worst:
        if wanted.get(name) != (kind, error) or name not in by_name:
            continue
        pair = by_name[name]
        for face, caption in (
            (pair.told, f"{name} {kind} {100 * error:.1f} %"),
            (pair.truth, "truth"),
        ):
            cells.append((overlay(face.photo, face.mask, face.points, 200), caption))
    write_image(path, np.asarray(sheet(cells, 8)), COMPOSITE, 90)


@group.command("captions")
@click.argument("source", type=FOLDER)
@click.argument("table", type=FOLDER)
@click.option(
    "--form",
    type=click.Choice(["grammar", "template", "dialog", "paraphrase"]),
    default="grammar",
    show_default=True,
    help="template: all attributes in one sentence; dialog: CelebA-Dialog's form, five attributes; "
    "paraphrase: the grammar's captions, read and said anew.",
)
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Captions per face; a template has one.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    help="Of CelebA, by the list_eval_partition.txt beside it. Default: all.",
)
def captions(
    source: Path, table: Path, form: str, count: int, seed: int, split: str | None
) -> None:
    """Write captions of one form to TABLE, a CSV of face, file and text.

    SOURCE is a part with attributes, or CelebA's list_attr_celeba.txt.

    \b
    Examples:
      sfhq annotations captions part-05 template.csv --form template
      sfhq annotations captions celeba/list_attr_celeba.txt celeba/img_align_celeba.csv \\
        --split test --count 1
    """
    from annotate.forms import faces_of, write_captions

    found = write_captions(faces_of(source, split), table, form, count, seed)
    say(
        f"{found.captions} captions of {found.faces} faces in {table}; {found.silent} faces of "
        f"which nothing can be said; {found.missing} captions lack a fact, {found.added} add one"
    )
