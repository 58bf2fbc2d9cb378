"""The command `sfhq train labels`."""

from __future__ import annotations

from pathlib import Path

import click

from sfhq.commands.train import (
    batch_option,
    check_device,
    reschedule_option,
    run_of_training,
    run_on,
)
from sfhq.console import FOLDER, say
from sfhq.networks.names import ADDED


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
    from sfhq.training.precision import check_precision

    torch.set_flush_denormal(True)
    check_device("cpu")
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
    if not run_on(training, out, settings, minutes, may_change):
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


@click.command("attribute")
@click.argument("name", type=click.Choice(ADDED), metavar="NAME")
@click.argument("heads", type=FOLDER, nargs=-1)
@click.option(
    "--photos", type=FOLDER, multiple=True, help="Folder of aligned photos; may be repeated."
)
@click.option(
    "--words",
    type=FOLDER,
    multiple=True,
    help="Table (CSV) of words about the photos: columns file, and queries or prompt, such as "
    "headscarf or no headscarf; may be repeated.",
)
@click.option(
    "--weights", type=FOLDER, help="The label network to teach; default: the embedded pack's."
)
@click.option("--out", type=FOLDER, required=True, help="Folder for labels.safetensors.")
def train_attribute(
    name: str,
    heads: tuple[Path, ...],
    photos: tuple[Path, ...],
    words: tuple[Path, ...],
    weights: Path | None,
    out: Path,
) -> None:
    """Teach a label network the attribute NAME, Headscarf, on HEADS of sfhq render and on photos.

    All else that the network says stays to the bit, except that a map keeps its hat where a
    headscarf is seen. A tenth of all names is not learned from: what is found on them is printed.

    \b
    Example:
      sfhq render scarves --count 400 --recipe scarves.toml
      sfhq train attribute Headscarf scarves --out runs/l2
    """
    import numpy as np
    from sklearn.metrics import roc_auc_score

    from annotate.network.reader import load_labels, save_labels
    from annotate.training.added import gather_known, teach_added
    from annotate.training.samples import part_of

    reader, digest = load_labels(weights)
    known = gather_known(name, heads, photos, words, reader.size)
    taught, probabilities = teach_added(reader, name, known)
    unseen = np.array([part_of(n) == "test" for n in known.names])
    for word, kind in (("rendered", known.rendered), ("photos", ~known.rendered)):
        for told, part in (("not learned from", unseen), ("all", np.ones_like(unseen))):
            rows = part & kind
            answers = known.answers[rows]
            if not 0 < answers.sum() < len(answers):
                continue
            said = probabilities[rows]
            say(
                f"{word}, {told}: {int(answers.sum())} of {len(answers)} have it; AUC "
                f"{roc_auc_score(answers, said):.3f}; above 0.5 "
                f"{int((said > 0.5)[answers == 1].sum())} of these and "
                f"{int((said > 0.5)[answers == 0].sum())} others"
            )
    out.mkdir(parents=True, exist_ok=True)
    notes = {"from": digest}
    save_labels(out / "labels.safetensors", taught.network, taught.calibration, notes)
    say(out / "labels.safetensors")
