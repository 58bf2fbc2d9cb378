"""The group and what several of its commands take."""

from __future__ import annotations

import click

from sfhq.console import FOLDER, Command, options

PARTS = click.argument("parts", type=FOLDER, nargs=-1, required=True)
WEIGHTS = click.option(
    "--flip", "weights", type=FOLDER, help="FLIP weights; default: embedded pack."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.group(cls=Command)
def flip() -> None:
    """Train and measure FLIP, which finds faces by words.

    SOURCES are parts with captions, tables (.csv or .tsv) with the columns file and text, or
    folders of images with a .txt of the same name each.
    """


SOURCES = options(
    click.argument("sources", type=FOLDER, nargs=-1, required=True),
    click.option(
        "--column", default="text", show_default=True, help="Column of the texts in tables."
    ),
    click.option(
        "--separator", default="", help="What stands between several texts of one cell of a table."
    ),
)
