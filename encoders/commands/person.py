"""The command `sfhq train person`."""

from __future__ import annotations

from pathlib import Path

import click

from sfhq.commands.numbers import Finite
from sfhq.commands.train import check_device, reschedule_option, run_on, train_options
from sfhq.console import FOLDER, say

HIDDEN = 512  # width of the small network that computes the shift


@click.command("person")
@train_options
@click.option("--generator", type=FOLDER, help="Generator weights; default: embedded pack.")
@click.option("--e4e", "e4e", type=FOLDER, help="Its e4e weights; default: embedded pack.")
@click.option(
    "--pairs",
    "people",
    type=FOLDER,
    multiple=True,
    help="Part of sfhq render with styles, or a folder with art/ and truth/: its pictures must "
    "show the people of their photographs; may be repeated.",
)
@click.option(
    "--paired",
    type=Finite(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the images that are pictures of --pairs.",
)
@click.option(
    "--from",
    "start",
    type=FOLDER,
    help="An e4e.safetensors of train person: go on from its shift, not from the linear one.",
)
@click.option(
    "--drawn",
    type=click.IntRange(256, 1_000_000),
    default=4000,
    show_default=True,
    help="Images that the generator draws for the linear start.",
)
@click.option(
    "--images",
    type=click.IntRange(0),
    default=16_000,
    show_default=True,
    help="Number of images to learn from; 0 keeps the linear start.",
)
@click.option(
    "--lr", type=Finite(0, 1, min_open=True), default=5e-4, show_default=True, help="Learning rate."
)
@click.option(
    "--person-weight",
    type=Finite(0, 100),
    default=0.7,
    show_default=True,
    help="What the person counts beside colours (0.5) and all else that is seen (1).",
)
@reschedule_option("images")
def train_person(
    folders: tuple[Path, ...],
    out: Path,
    seed: int,
    minutes: float | None,
    device: str,
    batch: int,
    precision: str,
    generator: Path | None,
    e4e: Path | None,
    people: tuple[Path, ...],
    paired: float,
    start: Path | None,
    drawn: int,
    images: int,
    lr: float,
    person_weight: float,
    may_change: frozenset[str],
) -> None:
    """Teach an e4e to keep the person, on FOLDERS of aligned faces; writes OUT/e4e.safetensors.

    What dlib's recognition network sees in a picture shifts the latent that the e4e found; the e4e
    stays as it is. The result is used wherever an e4e is. dlib then no longer judges impartially.

    \b
    Example:
      sfhq train person part-05/aligned --pairs heads --out runs/p1
    """
    from dataclasses import asdict

    import torch

    from encoders.e4e.loading import load_base, load_person, save_encoder
    from encoders.e4e.network import require_pair
    from encoders.e4e.person import PersonEncoder
    from encoders.e4e.person_training import (
        PersonRecipe,
        PersonTraining,
        fit_photo,
        start_linear,
    )
    from sfhq.faces.identity import recognition
    from sfhq.training.features import load_feature_pyramid
    from sfhq.training.pairs import joined_pairs, load_pairs
    from sfhq.training.photos import load_photos
    from sfhq.training.precision import check_precision
    from sfhq.training.state import load_state
    from sfhq.weights.checkpoints import load_generator

    torch.set_flush_denormal(True)
    check_device(device)
    check_precision(precision, device)
    network, digest = load_generator(generator)
    base, base_digest = load_base(e4e, network.config.num_ws)
    require_pair(generator, e4e)
    earlier = None
    if start is not None:
        require_pair(generator, start)
        earlier = load_person(start, network.config.num_ws)
    size = network.config.resolution
    recipe = PersonRecipe(
        images=images,
        batch=batch,
        drawn=drawn,
        paired=paired,
        seed=seed,
        lr=lr,
        person_weight=person_weight,
        precision=precision,
    )
    photos, held_out = load_photos(folders, size).split()
    say(f"{len(photos)} photos, {len(held_out)} held out", err=True)
    pairs = joined_pairs([load_pairs(p, size) for p in people]) if people else None
    if earlier is None:
        input_size = max(256, base.config.input_size)
        encoder = PersonEncoder.on(base, network, input_size, HIDDEN, photo=pairs is not None)
    else:
        encoder = PersonEncoder.going_on(base, earlier[0], photo=pairs is not None)
    identity = recognition(torch.device(device))
    if load_state(out) is None:
        if earlier is None:
            here = recognition(torch.device("cpu"))
            start_linear(encoder, network, here, drawn, seed, lambda line: say(line, err=True))
        if pairs is not None:
            fit_photo(encoder, identity, pairs.to(torch.device(device)))
    pyramid = load_feature_pyramid()
    training = PersonTraining(recipe, encoder, network, identity, pyramid, photos, pairs, device)
    settings = {
        **asdict(recipe),
        "generator": digest,
        "e4e": base_digest,
        "from": earlier and earlier[1],
        "photos": list(photos.names),
        "pairs": list(pairs.art.names) if pairs else [],
    }
    run_on(training, out, settings, minutes, may_change)
    notes = {"images": str(training.images), "generator": digest, "e4e": base_digest}
    save_encoder(out / "e4e.safetensors", training.averaged, notes)
    say(out / "e4e.safetensors")
