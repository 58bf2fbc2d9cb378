"""The command `sfhq explore`."""

from __future__ import annotations

from pathlib import Path

import click

from sfhq.commands.numbers import SEED
from sfhq.console import FOLDER, say


@click.command()
@click.argument("parts", type=FOLDER, nargs=-1, required=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    show_default="one that belongs to the first part, or the next free one",
    help="Port on the loopback address; 0 for any free one.",
)
@click.option(
    "--figures",
    type=FOLDER,
    help="Write preset searches, random grids and isolations to this folder; start no server.",
)
@click.option(
    "--new-parts", type=FOLDER, help="Folder in which the page may write selections as new parts."
)
@click.option("--encoder-weights", type=FOLDER, help="Weights that embedded the parts.")
@click.option("--vocabulary", type=FOLDER, help="Tokens of FLIP, if the weights' file has none.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the figures.")
def explore(
    parts: tuple[Path, ...],
    port: int | None,
    figures: Path | None,
    new_parts: Path | None,
    encoder_weights: Path | None,
    vocabulary: Path | None,
    seed: int,
) -> None:
    """See the faces of PARTS in a web page: search, filter, compare, map. PARTS are only read.

    \b
    Examples:
      sfhq explore part-05
      sfhq explore part-05 part-06 --new-parts selections/
      sfhq explore part-05 --figures figures/
    """
    from curation.explore.collection import Collection
    from curation.explore.explorer import Explorer
    from sfhq.parts.part import Part

    opened = [Part.open(p) for p in parts]
    if figures is not None:
        from curation.explore.figures import write_figures

        explorer = Explorer(Collection(opened), encoder_weights, vocabulary)
        drawn = write_figures(explorer, figures, seed)
        for path in drawn.files:
            say(path)
        for note in drawn.notes:
            say(note, err=True)
        return

    from curation.explore.server import serve
    from sfhq.web.guard import new_token, page_address
    from sfhq.web.serving import free_port, port_of

    with port_of(parts[0]) if port is None else free_port(port) as sock:
        explorer = Explorer(Collection(opened), encoder_weights, vocabulary)
        token = new_token()
        click.echo(page_address(sock.getsockname()[1], token))
        click.echo(f"{explorer.faces.count} faces; stop with Ctrl-C", err=True)
        serve(explorer, sock, token, new_parts)
