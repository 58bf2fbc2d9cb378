"""The command `search`: faces of a part by words."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sfhq.console import FOLDER, say


@click.command("search")
@click.argument("part", type=FOLDER)
@click.argument("words", nargs=-1, required=True)
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="Faces per text at most.",
)
@click.option("--sheet", type=FOLDER, help="Draw what was found to this .png or .jpg.")
@click.option("--flip", "weights", type=FOLDER, help="FLIP weights; default: embedded pack.")
@click.option("--vocabulary", type=FOLDER, help="Tokens, if the weights' file has none.")
def search(
    part: Path,
    words: tuple[str, ...],
    count: int,
    sheet: Path | None,
    weights: Path | None,
    vocabulary: Path | None,
) -> None:
    """Find the faces of PART that WORDS describe; each argument is a text of its own.

    PART was embedded with: sfhq embed PART --encoder flip. Prints a line of JSON per face: the
    text, the face and the cosine.

    \b
    Example:
      sfhq search part-05 "a bald man with glasses" "a smiling child" --sheet found.jpg
    """
    from encoders.search import Searcher, best, load_faces, write_results
    from sfhq.parts.part import Part

    opened = Part.open(part)
    vectors, digest = Searcher(weights, vocabulary).vectors(words)
    faces = load_faces(opened, digest)
    rows = [(text, best(faces, vector, count)) for text, vector in zip(words, vectors, strict=True)]
    for text, found in rows:
        for face in found:
            line = {
                "text": text,
                "face_id": face.record.face_id,
                "similarity": round(face.similarity, 4),
            }
            click.echo(json.dumps(line))
    if sheet is not None:
        write_results(opened, rows, sheet)
        say(sheet)
