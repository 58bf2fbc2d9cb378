"""`sfhq flip train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from encoders.commands.flip.group import SOURCES
from encoders.commands.flip.start import joined, started_on_files, started_on_stem
from sfhq.commands.numbers import Finite
from sfhq.commands.train import (
    DEVICE,
    batch_option,
    check_device,
    reschedule_option,
    run_of,
    run_on,
)
from sfhq.console import FOLDER, say
from sfhq.errors import UsageError

if TYPE_CHECKING:
    from encoders.flip.network import Flip

DEFAULT = "flip.safetensors"


@click.command("train")
@SOURCES
@run_of("fp32", "bf16", "fp16")
@DEVICE
@batch_option(128, "Images, of all processes together,")
@click.option(
    "--config",
    "size",
    type=click.Choice(["tiny", "hybrid", "small", "paper"]),
    default="tiny",
    show_default=True,
    help="Sizes of the network: 6, 10 or 35 million numbers, or those of the paper. hybrid reads "
    "what the label network sees, and learns from few images.",
)
@click.option(
    "--images",
    type=click.IntRange(1),
    default=200_000,
    show_default=True,
    help="Number of images to see in all.",
)
@click.option(
    "--slices",
    type=click.IntRange(1, 4096),
    default=1,
    show_default=True,
    help="Parts of a batch done one after the other: less memory, the same contrastive loss. "
    "Needs momentum.",
)
@click.option(
    "--queue",
    type=click.IntRange(0, 2**20),
    show_default="0; small, paper: 4096",
    help="Keys of earlier steps to compare with.",
)
@click.option(
    "--lr",
    type=Finite(0, 1),
    show_default="0.001; small, paper: 0.0003",
    help="Learning rate at its highest.",
)
@click.option(
    "--warm-up",
    type=click.IntRange(0),
    default=5000,
    show_default=True,
    help="Images over which the learning rate rises.",
)
@click.option(
    "--schedule",
    type=click.Choice(["cosine", "step"]),
    default="cosine",
    show_default=True,
    help="How the learning rate falls; step: x 0.9 per epoch.",
)
@click.option(
    "--matching/--no-matching", default=True, show_default=True, help="With the matching loss."
)
@click.option(
    "--only-matching",
    is_flag=True,
    help="Train the matching head alone, and leave the vectors of --from as they are.",
)
@click.option(
    "--momentum",
    type=Finite(0, 1),
    show_default="0; small, paper: 0.995",
    help="Share that the momentum networks keep in each step. 0: none, keys have gradients.",
)
@click.option(
    "--alpha",
    type=Finite(0, 1),
    show_default="0; small, paper: 0.4",
    help="Share of the momentum networks in the targets; it rises over two epochs.",
)
@click.option(
    "--validate",
    type=click.IntRange(0),
    default=0,
    help="Images between validations on the held-out tenth; the best network is written. 0: none.",
)
@click.option("--vocabulary", type=FOLDER, help="Tokens, one a line, such as BERT's vocab.txt.")
@click.option(
    "--from", "start", type=FOLDER, help="Weights of a FLIP of these sizes to start from."
)
@click.option(
    "--stem",
    type=FOLDER,
    help="Label network that a hybrid reads; default: embedded pack.",
)
@click.option(
    "--train-stem", is_flag=True, help="Train the label network as well: many times slower."
)
@click.option(
    "--left-out",
    type=Finite(0, 0.95),
    show_default="0; hybrid: 0.3",
    help="Share of what an image shows that a step does not look at, other places each time.",
)
@click.option("--vision", type=FOLDER, help="Weights of CLIP's image network to start from.")
@click.option(
    "--text", type=FOLDER, help="Weights of a BERT to start from; needs its --vocabulary."
)
@click.option(
    "--on-disk",
    is_flag=True,
    help="Keep decoded images in a file in OUT instead of in memory: for more than fit there.",
)
@click.option(
    "--checkpointing", is_flag=True, help="Compute layers twice: slower, with less memory."
)
@reschedule_option("images")
def flip_train(
    sources: tuple[Path, ...],
    column: str,
    separator: str,
    out: Path,
    size: str,
    images: int,
    batch: int,
    slices: int,
    queue: int | None,
    lr: float | None,
    warm_up: int,
    schedule: str,
    matching: bool,
    only_matching: bool,
    momentum: float | None,
    alpha: float | None,
    validate: int,
    vocabulary: Path | None,
    start: Path | None,
    stem: Path | None,
    train_stem: bool,
    left_out: float | None,
    vision: Path | None,
    text: Path | None,
    on_disk: bool,
    checkpointing: bool,
    seed: int,
    minutes: float | None,
    device: str,
    precision: str,
    may_change: frozenset[str],
) -> None:
    """Train a FLIP on SOURCES of images with captions; writes OUT/flip.safetensors.

    A tenth of the faces, chosen by the hash of their names, is never trained on. A run that
    --minutes ends writes the weights as well; run the same command again to go on. Several
    processes train as one: torchrun --nproc-per-node 2 -m cli flip train ...

    \b
    Example:
      sfhq flip train part-05 --out runs/flip --images 400000 --validate 20000
    """
    from dataclasses import asdict

    import torch

    from encoders.flip.data import TableForm, load_captioned
    from encoders.flip.network import flip_config, load_flip, save_flip
    from encoders.flip.recipe import USUAL, FlipRecipe
    from encoders.flip.tokens import load_tokens, vocabulary_of
    from encoders.flip.training import FlipTraining, follow_training
    from sfhq.training.state import load_state
    from sfhq.weights.checkpoints import file_digest

    torch.set_flush_denormal(True)
    check_device(device)
    if start is not None and (vision or text):
        raise UsageError("--from gives both networks; leave --vision and --text out")
    if only_matching and (start is None or not matching):
        raise UsageError("--only-matching needs --from, whose vectors stay, and --matching")
    if stem is not None and (size != "hybrid" or start or vision):
        raise UsageError("--stem is for --config hybrid, without --from and --vision")
    first: Flip | None = None
    if start is not None:
        loaded = load_flip(start)
        tokens, first = vocabulary_of(loaded.notes, vocabulary), loaded.network
        config = first.config
    else:
        tokens = load_tokens(vocabulary)
        config = flip_config(size, len(tokens))
        if config.vision.stem is not None and vision is None:
            first = started_on_stem(config, stem, seed)
            config = first.config
        if vision or text:
            first = started_on_files(config, tokens, vision, text, seed)
            config = first.config
    form = TableForm(column, separator)
    data = load_captioned(
        sources, config.vision.size, form, out / "pixels.npy" if on_disk else None
    )
    train, held_out = data.split()
    if not len(train):
        raise UsageError("all faces are held out; give more images")
    if validate and not len(held_out):
        raise UsageError("--validate: no face is held out; give more images, or leave it out")
    told = {"queue": queue, "lr": lr, "momentum": momentum, "alpha": alpha, "left_out": left_out}
    kind = size if config.vision.stem is None else "hybrid"
    usual = USUAL[kind] | {name: value for name, value in told.items() if value is not None}
    recipe = FlipRecipe(
        config,
        images=images,
        batch=batch,
        slices=slices,
        warm_up=warm_up,
        schedule=schedule,
        matching=float(matching),
        only_matching=only_matching,
        alpha_images=2 * len(train),
        validate=validate,
        keep_stem=config.vision.stem is not None and not train_stem,
        checkpointing=checkpointing,
        precision=precision,
        seed=seed,
        **usual,
    )
    processes, device = joined(device)
    training = FlipTraining(recipe, train, tokens, held_out, device, first, processes)
    if processes.rank:
        follow_training(training, lambda: load_state(out))
        processes.leave()
        return
    said = ", ".join(f"{n} x {reason}" for reason, n in sorted(data.skipped.items()))
    say(f"{len(train)} images, {len(held_out)} held out; left out: {said or 'none'}", err=True)
    settings: dict[str, Any] = {
        **asdict(recipe),
        "names": list(train.names),
        "vocabulary": len(tokens),
        **{
            name: file_digest(path)
            for name, path in (("from", start), ("stem", stem), ("vision", vision), ("text", text))
            if path is not None
        },
    }
    run_on(training, out, settings, minutes, may_change)
    processes.goes_on(False, training.device)
    processes.leave()
    for row in training.validations:
        click.echo(json.dumps({"validation": row}))
    notes = {"images": str(training.images), "vocabulary": tokens.to_text()}
    save_flip(out / DEFAULT, training.chosen(), notes)
    say(out / DEFAULT)
