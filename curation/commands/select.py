"""The command `sfhq select`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import click

from sfhq.console import FOLDER, say


@click.command("select")
@click.argument("part", type=FOLDER)
@click.option("--target", "target", type=FOLDER, required=True, help="TOML file of targets.")
@click.option("--out", type=FOLDER, help="Write the ids of the chosen faces: a CSV.")
@click.option(
    "--missing", type=FOLDER, help="Folder for recipes of sfhq render that make what is missing."
)
@click.option("--strict", is_flag=True, help="Exit with 3 when fewer than `count` were found.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def select_command(
    part: Path,
    target: Path,
    out: Path | None,
    missing: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Choose the most faces of PART that together meet targets.

    \b
    count = 500                                # default: as many as possible
    apart = 0.97                               # highest cosine of two faces' embeddings
    prefer = "quality"                         # of faces that are alike, the best
    [share]                                    # conditions are SQL, as in sfhq table --where
    "years >= 70" = 0.2                        # at least
    "glasses <> 'none'" = { least = 0.1, most = 0.3 }
    "male > 0.5" = { share = 0.5, within = 0.02 }

    No larger choice exists, unless the output says that the search was cut off. What is missing for
    `count` is told by target.

    \b
    Example:
      sfhq select part-05 --target targets.toml --out chosen.csv --missing missing/
    """
    from curation.missing import write_recipes
    from curation.select import Targets, select
    from sfhq.images import write_atomic
    from sfhq.parts.part import Part

    targets = Targets.read(target)
    found = select(Part.open(part), targets)
    if out is not None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows([["face_id"], *([face] for face in found.faces)])
        write_atomic(out, buffer.getvalue().encode())
    recipes = write_recipes(found.lacks, missing) if missing is not None else []
    if as_json:
        told = {
            "chosen": len(found.faces),
            "of": found.total,
            "shares": found.shares,
            "available": found.available,
            "proven": found.proven,
            "missing": [
                {
                    "condition": lack.target.condition,
                    "there": lack.there,
                    "wanted": lack.wanted,
                    "missing": lack.missing,
                }
                for lack in found.lacks
            ],
        }
        click.echo(json.dumps(told))
    else:
        asked = "" if targets.count is None else f", {targets.count} asked for"
        say(f"{len(found.faces)} of {found.total} faces{asked}")
        if not found.proven:
            say("the search was cut off after a minute: a larger choice may exist")
        for wanted in targets.shares:
            name = wanted.condition
            limits = f"{100 * wanted.least:.1f} to {100 * wanted.most:.1f} %"
            say(
                f"  {name}: {100 * found.shares[name]:.1f} % ({limits} asked for; "
                f"{100 * found.available[name]:.1f} % of all)"
            )
        for lack in found.lacks:
            say(f"missing: {lack.missing} faces: {lack.target.condition} ({lack.there} there)")
    for lack, path in recipes:
        if path is None:
            say(f"{lack.target.condition}: the renderer cannot be asked for it", err=True)
        else:
            say(
                f"sfhq render {path.stem} --count {lack.missing} --recipe {path}",
                err=as_json,
            )
    if strict and targets.count is not None and len(found.faces) < targets.count:
        raise SystemExit(3)
