"""`sfhq flip human-eval`: people rate pairs of images and captions."""

from __future__ import annotations

import json
from pathlib import Path

import click

from encoders.commands.flip.group import JSON
from sfhq.commands.numbers import SEED, Finite
from sfhq.console import FOLDER, Command, say


@click.group("human-eval", cls=Command)
def human_eval() -> None:
    """People rate pairs of images and captions on a page that needs no server."""


@human_eval.command("sample")
@click.argument("sources", type=FOLDER, nargs=-1, required=True)
@click.argument("folder", type=FOLDER)
@click.option(
    "--count",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Pairs, before repeats and captions of other faces.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--repeats",
    type=Finite(0, 0.5),
    default=0.05,
    show_default=True,
    help="Share of the pairs that come twice.",
)
@click.option(
    "--foreign",
    type=Finite(0, 0.5),
    default=0.03,
    show_default=True,
    help="Share of the pairs that come once more with the caption of another face.",
)
@click.option("--by", default="", help="Also draw evenly from groups: sex, age, ... or a column.")
@click.option(
    "--size",
    type=click.IntRange(64, 1024),
    default=320,
    show_default=True,
    help="Side of the images in pixels.",
)
def human_eval_sample(
    sources: tuple[Path, ...],
    folder: Path,
    count: int,
    seed: int,
    repeats: float,
    foreign: float,
    by: str,
    size: int,
) -> None:
    """Draw pairs of SOURCES and write a page to rate them on, and its key, to FOLDER.

    Give raters rate.html and keep key.json. 1,000 pairs tell a share of one half within 3.1 %.

    \b
    Example:
      sfhq flip human-eval sample part-05 rating/ --count 1000 --by sex
    """
    from encoders.flip.data import load_captioned
    from encoders.flip.studies.facts import facts_of
    from encoders.flip.studies.ratings import PAGE, draw, write_page

    data = load_captioned(sources, size)
    facts = facts_of(sources, (by,)) if by else None
    items = draw(data, count, seed, repeats, foreign, facts, by)
    write_page(items, data, folder, "Faces and captions")
    say(f"{len(items)} pairs on {folder / PAGE}")


@human_eval.command("score")
@click.argument("key", type=FOLDER)
@click.argument("ratings", type=FOLDER, nargs=-1, required=True)
@JSON
def human_eval_score(key: Path, ratings: tuple[Path, ...], as_json: bool) -> None:
    """What RATINGS, tables that the page saved, say of the pairs of KEY.

    \b
    Example:
      sfhq flip human-eval score rating/key.json ratings-ann.csv ratings-bob.csv
    """
    from encoders.flip.studies.ratings import read_key, read_ratings, score

    items = read_key(key)
    found = score(items, read_ratings(ratings, items))
    click.echo(json.dumps(found.to_dict(), indent=1) if as_json else found.lines())
