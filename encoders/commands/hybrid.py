"""The command `sfhq train hybrid`."""

from __future__ import annotations

from pathlib import Path

import click

from sfhq.commands.train import DEVICE, check_device, of_a_run, reschedule_option, run_on
from sfhq.console import FOLDER, say


@click.command("hybrid")
@click.argument("folders", type=FOLDER, nargs=-1, required=True)
@of_a_run
@DEVICE
@click.option("--generator", type=FOLDER, help="Generator weights; default: embedded pack.")
@click.option(
    "--codes", type=FOLDER, help="codes.pt of the generator's run: the latents of its photos."
)
@click.option("--labels", type=FOLDER, help="The label network; default: embedded pack.")
@click.option(
    "--pairs",
    "people",
    type=FOLDER,
    multiple=True,
    help="Part of sfhq render with styles: its pictures must get the latents of their "
    "photographs; may be repeated.",
)
@click.option(
    "--drawn",
    type=click.IntRange(64, 10_000_000),
    default=8000,
    show_default=True,
    help="Images that the generator draws, to learn from.",
)
@click.option(
    "--images",
    type=click.IntRange(1),
    default=600_000,
    show_default=True,
    help="Number of images to learn from in all, each many times.",
)
@reschedule_option("images")
def train_hybrid(
    folders: tuple[Path, ...],
    out: Path,
    seed: int,
    minutes: float | None,
    device: str,
    generator: Path | None,
    codes: Path | None,
    labels: Path | None,
    people: tuple[Path, ...],
    drawn: int,
    images: int,
    may_change: frozenset[str],
) -> None:
    """Train an encoder on what the label network reads of FOLDERS; writes OUT/e4e.safetensors.

    Most of the time goes to reading each picture once. Rendered people teach it to see a person
    through the style of a picture. All layers get one w; it is used wherever an e4e is.

    \b
    Example:
      sfhq train hybrid part-05/aligned --generator runs/g1/generator.safetensors \\
        --codes runs/g1/codes.pt --pairs heads --out runs/h1
    """
    from dataclasses import asdict

    from encoders.e4e.hybrid import HybridConfig, HybridEncoder, used_axes
    from encoders.e4e.hybrid_training import HybridRecipe, HybridTraining, read_all
    from encoders.e4e.loading import save_encoder
    from sfhq import stages
    from sfhq.training.generator.codes import load_codes
    from sfhq.training.pairs import joined_pairs, load_pairs
    from sfhq.training.photos import load_photos
    from sfhq.weights.checkpoints import load_generator

    check_device(device)
    network, digest = load_generator(generator)
    reader, labels_digest = stages.network("label reader")(labels)
    axes = len(used_axes(network)[1])
    stem = reader.network.config
    config = HybridConfig(network.config.num_ws, network.config.w_dim, axes, stem=stem)
    encoder = HybridEncoder(config)
    encoder.stem.load_state_dict(reader.network.state_dict())
    photos, held_out = load_photos(folders, stem.size).split()
    say(f"{len(photos)} photos, {len(held_out)} held out", err=True)
    known = load_codes(codes, photos.names, network.config.w_dim) if codes else None
    pairs = joined_pairs([load_pairs(p, stem.size) for p in people]) if people else None
    recipe = HybridRecipe(images=images, drawn=drawn, seed=seed)
    read = read_all(
        encoder.eval(),
        network,
        recipe,
        photos,
        known,
        pairs,
        out / "read",
        f"{digest} {labels_digest}",
        lambda line: say(line, err=True),
        device,
    )
    training = HybridTraining(recipe, encoder, network, read, photos)
    settings = {
        **asdict(recipe),
        "generator": digest,
        "labels": labels_digest,
        "photos": list(photos.names),
        "pairs": list(pairs.art.names) if pairs else [],
    }
    run_on(training, out, settings, minutes, may_change)
    notes = {"images": str(training.images), "generator": digest, "labels": labels_digest}
    save_encoder(out / "e4e.safetensors", training.averaged, notes)
    say(out / "e4e.safetensors")
