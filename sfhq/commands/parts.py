"""Commands that look at a part: show, table, sheet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfhq.console import FOLDER, counts_line, say

if TYPE_CHECKING:
    from sfhq.parts.part import Part


@click.command()
@click.argument("part", type=FOLDER)
@click.option(
    "--rejections",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Examples to list per stage.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(part: Path, rejections: int, as_json: bool) -> None:
    """Print the funnel of PART: faces in and out of every stage, and why others left.

    \b
    Example:
      sfhq show part-05 --rejections 3
    """
    from sfhq.parts.join import count_left
    from sfhq.parts.part import Part
    from sfhq.pipeline.counts import funnel

    opened = Part.open(part)
    rows = funnel(opened)
    if as_json:
        click.echo(json.dumps({"part": opened.name, "stages": rows}, sort_keys=True))
        return
    for row in rows:
        _show_stage(opened, row, rejections)
    if rows and rows[-1]["complete"]:
        say(f"{'left':<10} {count_left(opened):>7} faces")


def _show_stage(part: Part, row: dict[str, Any], most: int) -> None:
    from sfhq.pipeline.counts import rejections

    stage = row["stage"]
    if "entered" not in row:
        say(f"{stage:<10} not ended; run: sfhq {stage} {part.root}")
        return
    say(counts_line(stage, row))
    for name in row["outdated"]:
        again = f"sfhq {stage} {part.root} --redo"
        say(f"           {name} has changed since {stage} read it; run: {again}")
    if not row["rejected"]:
        return
    for _, record in zip(range(most), rejections(part, stage), strict=False):
        name = record.source if stage in ("ingest", "align") else record.face_id
        say(f"           {name}: {record.reason}: {record.detail}")


@click.command()
@click.argument("part", type=FOLDER)
@click.option("--columns", metavar="SQL", help="Columns, separated by commas.  [default: all]")
@click.option("--where", metavar="SQL", help="Only rows that meet this condition.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "parquet", "jsonl"]),
    help="[default: by the suffix of --out, else csv]",
)
@click.option("--out", type=FOLDER, help="File to write; default: standard output.")
def table(
    part: Path,
    columns: str | None,
    where: str | None,
    file_format: str | None,
    out: Path | None,
) -> None:
    """Print PART as one table: a row a face, all that made it and all that is said of it.

    DuckDB evaluates the SQL. Rejected faces are rows, too; `--where alive` leaves them out.

    \b
    Examples:
      sfhq table part-05 --columns face_id,score --where 'alive and score > 0.8'
      sfhq table part-05 --columns 'reason, count(*)' --where 'not alive group by reason'
      sfhq table part-05 --out part-05.parquet
    """
    from sfhq.errors import UsageError
    from sfhq.parts.part import Part
    from sfhq.parts.table import query, write_table

    kind = file_format or (out.suffix.lstrip(".").lower() if out else "csv")
    if kind not in ("csv", "parquet", "jsonl"):
        raise UsageError(f"{out}: cannot tell the format; give --format csv, parquet or jsonl")
    found = query(Part.open(part), columns, where)
    data = write_table(found, kind, out)  # type: ignore[arg-type]
    if out is None:
        click.echo(data, nl=False)
    else:
        say(f"{found.num_rows} rows in {out}")


@click.command()
@click.argument("part", type=FOLDER)
@click.option("--out", type=FOLDER, help="Image to write; default: PART/sheet.png.")
@click.option(
    "--rows", type=click.IntRange(1), default=12, show_default=True, help="Rows per page."
)
@click.option(
    "--cell",
    type=click.IntRange(16, 2048),
    default=160,
    show_default=True,
    help="Side of a picture in pixels.",
)
@click.option("--pages", type=click.IntRange(1), help="Largest number of pages.")
@click.option("--labels", is_flag=True, help="Draw classes and landmarks beside rendered heads.")
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
        say(path)
