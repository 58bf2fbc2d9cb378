"""Commands of the group `train` that need an encoder: e4e, pack, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sfhq.commands.numbers import Finite
from sfhq.commands.train import check_device, reschedule_option, run_on, train_options
from sfhq.console import FOLDER, say
from sfhq.errors import UsageError

EMA_STEPS = 125  # half-life of the averaged encoder


@click.command("e4e")
@train_options
@click.option("--generator", type=FOLDER, help="Generator weights; default: embedded pack.")
@click.option(
    "--codes", type=FOLDER, help="codes.pt of the generator's run: the latents of its photos."
)
@click.option(
    "--images",
    type=click.IntRange(1),
    default=60000,
    show_default=True,
    help="Number of images to encode in all.",
)
@click.option(
    "--head-width",
    type=click.IntRange(1, 4096),
    default=96,
    show_default=True,
    help="Channels of the encoder's heads.",
)
@click.option(
    "--widths", default="24,48,96,192", show_default=True, help="Channels of the backbone's stages."
)
@click.option(
    "--depths", default="1,2,2,1", show_default=True, help="Blocks of the backbone's stages."
)
@click.option(
    "--input-size",
    type=click.Choice(["64", "128", "256", "512"]),
    help="Pixels of the encoder's input; default: the generator's resolution.",
)
@click.option(
    "--from",
    "start",
    type=FOLDER,
    help="Weights of an encoder of the same sizes to start from; heads for more layers are copies "
    "of its last. One of the same generator goes on with all losses and deltas.",
)
@click.option(
    "--pairs",
    "people",
    type=FOLDER,
    multiple=True,
    help="Part of sfhq render with styles: its pictures must be inverted to their photographs. Or "
    "a folder with aligned pictures in art/ and photographs of the same names in truth/. May be "
    "repeated.",
)
@click.option(
    "--paired",
    type=Finite(0, 1),
    default=0.25,
    show_default=True,
    help="Share of the images that are pictures of --pairs.",
)
@click.option(
    "--lr", type=Finite(0, 1, min_open=True), default=1e-3, show_default=True, help="Learning rate."
)
@click.option(
    "--identity",
    is_flag=True,
    help="Also keep what dlib's recognition network sees; then it no longer judges impartially.",
)
@reschedule_option("images")
def train_e4e(
    folders: tuple[Path, ...],
    out: Path,
    seed: int,
    minutes: float | None,
    device: str,
    batch: int,
    precision: str,
    generator: Path | None,
    codes: Path | None,
    images: int,
    head_width: int,
    widths: str,
    depths: str,
    input_size: str | None,
    start: Path | None,
    people: tuple[Path, ...],
    paired: float,
    lr: float,
    identity: bool,
    may_change: frozenset[str],
) -> None:
    """Train an encoder for a generator on FOLDERS of aligned faces; writes OUT/e4e.safetensors.

    A run that --minutes ends writes it as well, and can be resumed: run the same command again.

    \b
    Example:
      sfhq train e4e part-05/aligned --generator runs/g1/generator.safetensors \\
        --codes runs/g1/codes.pt --out runs/e1
    """
    from dataclasses import asdict, replace

    import torch

    from encoders.e4e.irse import BackboneConfig
    from encoders.e4e.loading import load_base
    from encoders.e4e.network import E4eConfig, save_e4e
    from encoders.e4e.training import E4eRecipe, E4eTraining
    from sfhq.faces.identity import FixedIdentity
    from sfhq.training.features import load_feature_pyramid
    from sfhq.training.generator.codes import load_codes
    from sfhq.training.pairs import joined_pairs, load_pairs
    from sfhq.training.photos import load_photos
    from sfhq.training.precision import check_precision
    from sfhq.weights.checkpoints import load_generator, read_checkpoint

    torch.set_flush_denormal(True)
    check_device(device)
    check_precision(precision, device)
    network, digest = load_generator(generator)
    backbone = BackboneConfig(_four(widths, "--widths"), _four(depths, "--depths"))
    config = E4eConfig(
        network.config.num_ws,
        int(input_size or network.config.resolution),
        network.config.w_dim,
        head_width,
        backbone,
    )
    recipe = E4eRecipe(
        config,
        images=images,
        batch=batch,
        seed=seed,
        paired=paired,
        lr=lr,
        ema_images=EMA_STEPS * batch,
        precision=precision,
    )
    photos, held_out = load_photos(folders, network.config.resolution).split()
    click.echo(f"{len(photos)} photos, {len(held_out)} held out", err=True)
    known = load_codes(codes, photos.names, network.config.w_dim, None) if codes else None
    first, first_digest = load_base(start) if start else (None, "")
    if start and read_checkpoint(start, "e4e").notes.get("generator") == digest:
        # It inverts for this generator already: nothing to warm up.
        recipe = replace(recipe, rendered_from=0.0, progressive_from=-1.0, progressive_to=0.0)
    size = network.config.resolution
    pairs = joined_pairs([load_pairs(p, size) for p in people]) if people else None
    person = FixedIdentity().to(device) if identity else None
    training = E4eTraining(
        recipe, network, photos, load_feature_pyramid(), known, device, first, pairs, person
    )
    settings = {
        **asdict(recipe),
        "generator": digest,
        "from": first_digest,
        "photos": list(photos.names),
        "pairs": list(pairs.art.names) if pairs else [],
        "identity": identity,
    }
    run_on(training, out, settings, minutes, may_change)
    notes = {"images": str(training.images), "generator": digest}
    save_e4e(out / "e4e.safetensors", training.averaged, notes)
    say(out / "e4e.safetensors")


def _four(text: str, option: str) -> tuple[int, int, int, int]:
    try:
        a, b, c, d = (int(part) for part in text.split(","))
        if min(a, b, c, d) < 1 or max(a, b, c, d) > 4096:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"{option} {text}: wanted four numbers from 1 to 4096, such as 24,48,96,192"
        ) from None
    return a, b, c, d


@click.command("pack")
@click.option("--generator", type=FOLDER, help="Weights that sfhq train generator wrote.")
@click.option("--e4e", "e4e", type=FOLDER, help="Weights that sfhq train e4e wrote.")
@click.option("--labels", type=FOLDER, help="Weights that sfhq train labels wrote.")
@click.option("--out", type=FOLDER, required=True, help="Folder to write the files to.")
def train_pack(generator: Path | None, e4e: Path | None, labels: Path | None, out: Path) -> None:
    """Write networks as 16-bit files for shipping; prints their sha256.

    A generator and its encoder go together; the label network stands alone.

    \b
    Example:
      sfhq train pack --generator runs/g1/generator.safetensors \\
        --e4e runs/e1/e4e.safetensors --out pack
      sfhq train pack --labels runs/l1/labels.safetensors --out pack
    """
    from encoders.e4e.loading import load_encoder, save_encoder
    from sfhq.weights.checkpoints import (
        file_digest,
        load_generator,
        read_checkpoint,
        save_checkpoint,
        save_generator,
    )

    if (generator is None) != (e4e is None):
        raise UsageError("a generator and its encoder go together; give --generator and --e4e")
    if generator is None and labels is None:
        raise UsageError("nothing to write; give --generator and --e4e, or --labels")
    told = None if labels is None else read_checkpoint(labels, "labels")
    written = []
    if generator is not None and e4e is not None:
        network, _ = load_generator(generator)
        encoder, _ = load_encoder(e4e, network.config.num_ws)
        out.mkdir(parents=True, exist_ok=True)
        notes = read_checkpoint(generator, "generator").notes
        save_generator(out / "generator.safetensors", network, notes, half=True)
        digest = file_digest(out / "generator.safetensors")
        notes = {**read_checkpoint(e4e, "e4e").notes, "generator": digest}
        save_encoder(out / "e4e.safetensors", encoder, notes, half=True)
        written = ["generator.safetensors", "e4e.safetensors"]
    if told is not None:
        out.mkdir(parents=True, exist_ok=True)
        path = out / "labels.safetensors"
        save_checkpoint(path, "labels", told.architecture, told.state, told.notes, half=True)
        written.append(path.name)
    for name in written:
        click.echo(f"{file_digest(out / name)}  {name}")


@click.command("evaluate")
@click.argument("folders", type=FOLDER, nargs=-1, required=True)
@click.option("--generator", type=FOLDER, help="Generator weights; default: embedded pack.")
@click.option("--e4e", "e4e", type=FOLDER, help="e4e weights; default: embedded pack.")
@click.option(
    "--psi", type=Finite(0, 10), default=1.0, show_default=True, help="Truncation of the samples."
)
@click.option(
    "--count",
    type=click.IntRange(8, 100_000),
    default=240,
    show_default=True,
    help="Number of samples, and of photos to compare with.",
)
@click.option("--plot", type=FOLDER, help="Draw the identity distributions to this .png.")
def train_evaluate(
    folders: tuple[Path, ...],
    generator: Path | None,
    e4e: Path | None,
    psi: float,
    count: int,
    plot: Path | None,
) -> None:
    """Judge a generator and its encoder against the photos in FOLDERS.

    Prints JSON. For the generator, in dlib's recognition space, which it was not trained on:
    Frechet distance, precision and recall (k = 3) beside those of two halves of the photos, the
    share of samples with a face and of near-copies of training photos. For the encoder, on held-out
    photos: the cosine of inverted photos with their originals and with other people.

    \b
    Example:
      sfhq train evaluate part-05/aligned --psi 0.8 --plot identity.png
    """
    from encoders.e4e.loading import load_encoder
    from encoders.evaluate import judge_generator, judge_inversion, plot_identity
    from sfhq.training.photos import load_photos
    from sfhq.weights.checkpoints import load_generator

    check_device("cpu")
    network, _ = load_generator(generator)
    encoder, _ = load_encoder(e4e, network.config.num_ws)
    photos = load_photos(folders, network.config.resolution)
    result = judge_generator(network, photos, psi, count).to_dict()
    identity = judge_inversion(network, encoder, photos)
    click.echo(json.dumps({**result, **identity.to_dict()}, indent=1))
    if plot is not None:
        plot_identity(identity, plot)
