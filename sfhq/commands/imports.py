"""The command import: sets that others made become parts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from sfhq.console import (
    EXIT_REJECTIONS,
    FOLDER,
    counts_line,
    local_options,
    options,
    progress_bar,
    say,
)

LAYOUTS = ("auto", "sfhq", "sfhq-t2i", "facesynthetics", "imagefolder")


@click.command(name="import")
@click.argument("source", type=FOLDER)
@click.argument("part", type=FOLDER)
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default="auto",
    show_default=True,
    help="What SOURCE looks like.",
)
@click.option("--limit", type=click.IntRange(1), help="Take at most this many photos.")
@click.option(
    "--licence",
    metavar="SPDX",
    help="Licence of the set, for the records.  [default: what its sheets state]",
)
@click.option("--provenance", help="Where the set comes from, for the records.")
@options(local_options)
def import_command(
    source: Path,
    part: Path,
    layout: str,
    limit: int | None,
    licence: str | None,
    provenance: str | None,
    workers: int,
    redo: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Start PART with a set of photos that others made, and keep the labels that came with it.

    The photos stay in SOURCE and are checked by their digest. Maps of classes, points, vectors,
    captions and columns of sheets go into PART. What has no counterpart here is named.

    \b
    Layouts:
      sfhq            released SFHQ parts, and what sfhq export writes
      sfhq-t2i        SFHQ-T2I: images and a CSV of prompts
      facesynthetics  000000.png, 000000_seg.png, 000000_ldmks.txt
      imagefolder     images and metadata.csv, .jsonl or .parquet

    \b
    Examples:
      sfhq import SFHQ_part2 part-02 --licence CC0-1.0
      sfhq import dataset_100000 renders --licence LicenseRef-FaceSynthetics
      sfhq table part-02 --columns face_id,licence,source
    """
    from sfhq.imports.stage import Import, ImportSettings
    from sfhq.imports.whole import import_set
    from sfhq.pipeline.recipe import load_recipe

    settings = ImportSettings(source, layout, limit, licence or "", provenance or "")  # type: ignore[arg-type]
    stage = Import.build(settings, load_recipe(None), part)
    with progress_bar("import", len(stage.names())) as advance:
        done = import_set(stage, part, workers=workers, redo=redo, on_shard=advance)
    rows: list[dict[str, Any]] = [{"stage": n, **c.to_dict()} for n, c in done.counts.items()]
    lost = {name: {"photos": p, "pixels": n} for name, (p, n) in done.lost.items()}
    if as_json:
        value = {"part": str(part), "stages": rows, "without_counterpart": lost}
        click.echo(json.dumps({**value, "notes": done.notes}, sort_keys=True))
    else:
        for row in rows:
            say(counts_line(row["stage"], row))
    for name, (photos, pixels) in done.lost.items():
        say(f"sfhq: {name} has no class here: {pixels} pixels in {photos} photos", err=True)
    for note in done.notes:
        say(f"sfhq: {note}", err=True)
    if strict and any(row["rejected"] for row in rows):
        sys.exit(EXIT_REJECTIONS)
