"""The command `sfhq train labels`."""

from __future__ import annotations

from pathlib import Path

import click

from sfhq.commands.train import batch_option, reschedule_option, run_of_training
from sfhq.console import FOLDER, say


@click.command("labels")
@click.argument("heads", type=FOLDER, nargs=-1, required=True)
@click.option(
    "--photos", type=FOLDER, multiple=True, help="Folder of photos of faces; may be repeated."
)
@click.option(
    "--words",
    type=FOLDER,
    multiple=True,
    help="Table (CSV) of words about the photos: columns file, and queries or prompt; may be "
    "repeated.",
)
@click.option(
    "--teachers", type=FOLDER, help="Folder of MediaPipe's networks; needed with --photos."
)
@click.option(
    "--exact",
    type=click.FloatRange(0, 1),
    default=0.55,
    show_default=True,
    help="Share of rendered heads in a batch where there are photos. With 0 the network learns "
    "from photos alone, and heads only tie the teachers' points to ours; with 1 from heads alone.",
)
@run_of_training
@batch_option(8, "Pictures")
@click.option(
    "--images",
    type=click.IntRange(1),
    default=20000,
    show_default=True,
    help="Number of pictures to see in all.",
)
@reschedule_option("images")
def train_labels(
    heads: tuple[Path, ...],
    photos: tuple[Path, ...],
    words: tuple[Path, ...],
    teachers: Path | None,
    exact: float,
    out: Path,
    seed: int,
    minutes: float | None,
    images: int,
    batch: int,
    precision: str,
    may_change: frozenset[str],
) -> None:
    """Train the label network on HEADS, parts of sfhq render; ends with OUT/labels.safetensors.

    Heads teach exactly; pictures in art styles count as well. Photos teach what MediaPipe's
    networks see in them, and what their words say. A tenth of all names, chosen by their hash, is
    never trained on, and another tenth calibrates probabilities.

    \b
    Example:
      sfhq render heads --count 2000 --style photo,oil --workers 2
      sfhq train labels heads --photos photos/ --words photos.csv --teachers mediapipe/ \\
        --out runs/l1 --precision bf16
    """
    from dataclasses import asdict

    import torch

    from annotate.network.reader import save_labels
    from annotate.training.balance import balance_classes
    from annotate.training.calibration import calibrate
    from annotate.training.gather import gather
    from annotate.training.samples import one_kind, part_of
    from annotate.training.training import LabelRecipe, LabelTraining
    from sfhq.errors import UsageError
    from sfhq.faces.classes import CLASSES
    from sfhq.networks.backbone import pretrained_state
    from sfhq.networks.labels import LabelNetwork
    from sfhq.training.generator.training import check_precision
    from sfhq.training.run import run_training

    torch.set_flush_denormal(True)
    check_precision(precision, "cpu")
    if exact == 0 and not photos:
        raise UsageError("--exact 0 trains on photos alone, but there are none; give --photos")
    recipe = LabelRecipe(images=images, batch=batch, seed=seed, exact=exact, precision=precision)

    def tell(line: str) -> None:
        say(line, err=True)

    samples = gather(heads, photos, words, teachers, recipe.config.size, out / "taught", tell)
    samples = one_kind(samples, exact)
    used = samples.select(part_of(name) == "train" for name in samples.names)
    tell(f"{len(used)} pictures to train on, {int(used.exact.sum())} of them rendered")
    network = LabelNetwork(recipe.config)
    network.backbone.load_state_dict(pretrained_state(network.backbone))
    training = LabelTraining(recipe, network, used)
    settings = asdict(recipe)  # not the data: a resumed run may have more heads
    limit = None if minutes is None else minutes * 60
    if not run_training(
        training, out, settings, limit_seconds=limit, may_change=may_change, say=click.echo
    ):
        tell(f"stopped at {training.images} pictures; run again to go on")
        return
    finished = training.averaged.fold()
    tuned = samples.select(part_of(name) == "calibration" for name in samples.names)
    moved = balance_classes(finished, tuned)
    tell(
        "offsets of classes: "
        + ", ".join(
            f"{name} {offset:+.2f}"
            for name, offset in zip(CLASSES, moved.tolist(), strict=True)
            if offset
        )
    )
    notes = {"images": str(training.images)}
    save_labels(out / "labels.safetensors", finished, calibrate(finished, tuned), notes)
    say(out / "labels.safetensors")
