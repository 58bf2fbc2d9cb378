"""`sfhq flip evaluate` and `export`: what is done with weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from encoders.commands.flip.group import SOURCES, WEIGHTS
from sfhq.commands.train import check_device
from sfhq.console import FOLDER, say
from sfhq.errors import UsageError

if TYPE_CHECKING:
    from encoders.flip.network import Flip
    from encoders.flip.tokens import Tokens


@click.command("evaluate")
@SOURCES
@WEIGHTS
@click.option("--vocabulary", type=FOLDER, help="Tokens, if the weights' file has none.")
@click.option(
    "--pool",
    "pools",
    type=click.IntRange(1),
    multiple=True,
    help="Search among this many images; may be given several times. Default: all.",
)
@click.option(
    "--rerank",
    type=click.IntRange(0, 4096),
    default=0,
    show_default=True,
    help="How many of the best results the matching head orders anew; both tables are shown.",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Take all images, not only the tenth that training holds out.",
)
@click.option(
    "--batch", type=click.IntRange(1), default=32, show_default=True, help="Images at a time."
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
def flip_evaluate(
    sources: tuple[Path, ...],
    column: str,
    separator: str,
    weights: Path | None,
    vocabulary: Path | None,
    pools: tuple[int, ...],
    rerank: int,
    everything: bool,
    batch: int,
    device: str,
) -> None:
    """Find texts by images and images by texts, among the held-out images of SOURCES.

    Prints a line of JSON per pool: R@1, R@5, R@10, the median and mean rank, and R@10 by chance.
    Equal captions and images of one face are hits; ties count against the network.

    \b
    Example:
      sfhq flip evaluate part-05 --flip runs/flip/flip.safetensors --pool 1000 --rerank 64
    """
    from encoders.flip.data import TableForm, load_captioned
    from encoders.flip.evaluation import evaluate
    from encoders.flip.network import load_flip
    from encoders.flip.tokens import vocabulary_of

    check_device(device)
    loaded = load_flip(weights)
    tokens = vocabulary_of(loaded.notes, vocabulary)
    network = loaded.network.to(device)
    _check_words(network, tokens)
    data = load_captioned(sources, network.config.vision.size, TableForm(column, separator))
    data = data if everything else data.split()[1]
    if not len(data):
        raise UsageError("no face is held out; give more images, or --all for data of its own")
    for row in evaluate(network, tokens, data, pools or (None,), rerank, batch):
        click.echo(json.dumps(row))


def _check_words(network: Flip, tokens: Tokens) -> None:
    if len(tokens) != network.config.text.vocabulary:
        raise UsageError(
            f"a vocabulary of {len(tokens)} tokens; the network has "
            f"{network.config.text.vocabulary}: give its --vocabulary"
        )


@click.command("export")
@click.argument("weights", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--half", is_flag=True, help="As 16-bit numbers, half the size.")
@click.option("--vocabulary", type=FOLDER, help="Tokens of a published FLIP: BERT's vocab.txt.")
def flip_export(weights: Path, out: Path, half: bool, vocabulary: Path | None) -> None:
    """Write WEIGHTS to OUT as safetensors for sharing; prints the sha256.

    WEIGHTS is what `sfhq flip train` wrote, or a checkpoint of the published FLIP. The file holds
    its vocabulary.

    \b
    Example:
      sfhq flip export runs/flip/flip.safetensors flip-tiny.safetensors --half
    """
    from encoders.flip.network import Flip, load_flip, save_flip
    from encoders.flip.published import read_flip
    from encoders.flip.tokens import vocabulary_of
    from sfhq.errors import IntegrityError
    from sfhq.weights.checkpoints import file_digest
    from stylegan2_ops.foreign.inert import BadCheckpoint
    from stylegan2_ops.foreign.torch_files import sniff

    if not weights.is_file():
        raise UsageError(f"{weights}: no such weights file")
    if sniff(weights) == "safetensors":
        loaded = load_flip(weights)
        network, notes = loaded.network, dict(loaded.notes)
    else:
        try:
            source = read_flip(weights)
        except BadCheckpoint as error:
            raise IntegrityError(str(error)) from None
        network = Flip(source.config)
        network.load_state_dict(source.state)
        notes = {"source": weights.name, "source_sha256": file_digest(weights)}
        for note in source.notes:
            say(note, err=True)
        if vocabulary is None:
            raise UsageError(
                f"{weights}: a published FLIP; give its --vocabulary, BERT's vocab.txt"
            )
    tokens = vocabulary_of(notes, vocabulary)
    _check_words(network, tokens)
    save_flip(out, network, {**notes, "vocabulary": tokens.to_text()}, half)
    say(f"{file_digest(out)}  {out.name}")
