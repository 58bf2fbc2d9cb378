"""`sfhq flip probe`, `sketch`, `fairness-report`: what a network can do, and for whom."""

from __future__ import annotations

import json
from pathlib import Path

import click

from encoders.commands.flip.group import JSON, PARTS, WEIGHTS
from sfhq.console import FOLDER, say
from sfhq.errors import UsageError


@click.command("probe")
@PARTS
@WEIGHTS
@click.option(
    "--shares",
    default="0.01,0.1,1",
    show_default=True,
    help="Shares of the images to train linear models on, separated by commas.",
)
@JSON
def probe_command(
    parts: tuple[Path, ...], weights: Path | None, shares: str, as_json: bool
) -> None:
    """How much the image network says of attributes: by linear models, and by words alone.

    Faces need attributes (render, or sfhq attribute) and captions. Tested on the held-out tenth.

    \b
    Example:
      sfhq flip probe heads --flip runs/flip/flip.safetensors
    """
    from encoders.flip.data import load_captioned
    from encoders.flip.network import load_flip
    from encoders.flip.studies.arms import table
    from encoders.flip.studies.facts import facts_of
    from encoders.flip.studies.probe import probe, zero_shot
    from encoders.flip.tokens import vocabulary_of

    try:
        wanted = [float(s) for s in shares.split(",")]
    except ValueError:
        raise UsageError(f"--shares {shares!r}: wanted numbers separated by commas") from None
    if not all(0 < s <= 1 for s in wanted):
        raise UsageError(f"--shares {shares!r}: wanted more than 0, at most 1")
    loaded, facts = load_flip(weights), facts_of(parts)
    data = load_captioned(parts, loaded.network.config.vision.size)
    train, test = data.split()
    if not len(test):
        raise UsageError("no face is held out; give more images")
    rows = {"words alone": zero_shot(loaded.network, vocabulary_of(loaded.notes), facts, test)}
    for share in wanted:
        try:
            rows[f"{100 * share:g} %"] = probe(loaded.network, facts, train, test, share)
        except UsageError as error:
            say(f"{100 * share:g} %: {error}", err=True)
    if as_json:
        told = {
            name: {"trained": r.trained, "tested": r.tested, "auc": r.auc, "balanced": r.balanced}
            for name, r in rows.items()
        }
        click.echo(json.dumps(told, indent=1))
        return
    head = ["trained on", "images", "attributes", "mean AUC", "mean balanced accuracy"]
    cells = [
        [name, str(r.trained), str(len(r.auc)), f"{r.mean_auc:.3f}", f"{r.mean_balanced:.3f}"]
        for name, r in rows.items()
    ]
    click.echo(table(head, cells))
    last = rows[next(reversed(rows))]
    click.echo("")
    order = sorted(last.auc, key=lambda n: -last.auc[n])
    columns = [
        [n, *(f"{r.auc[n]:.3f}" if n in r.auc else "" for r in rows.values())] for n in order
    ]
    click.echo(table(["AUC", *rows], columns))


@click.command("sketch")
@click.argument("sources", type=FOLDER, nargs=-1, required=True)
@WEIGHTS
@click.option(
    "--steps",
    type=click.IntRange(1, 1000),
    default=70,
    show_default=True,
    help="Steps of each sketch.",
)
@click.option("--pool", type=click.IntRange(2), help="Search among this many images. Default: all.")
@click.option("--all", "everything", is_flag=True, help="Not only the held-out tenth.")
@click.option("--sheet", "picture", type=FOLDER, help="Also draw some photos and their sketches.")
@JSON
def sketch(
    sources: tuple[Path, ...],
    weights: Path | None,
    steps: int,
    pool: int | None,
    everything: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Find photos by sketches that are still being drawn, by texts, and by both.

    Sketches are traced from the photos. m@A is the mean ranking percentile over all steps, m@B the
    mean reciprocal rank; w@ weighs early steps more.

    \b
    Example:
      sfhq flip sketch part-05 --flip runs/flip/flip.safetensors --sheet sketches.png
    """
    from dataclasses import asdict

    from encoders.flip.data import load_captioned
    from encoders.flip.evaluation import pool as pooled
    from encoders.flip.network import load_flip
    from encoders.flip.studies.arms import table
    from encoders.flip.studies.sketching import by_sketches, sketch_sheet
    from encoders.flip.tokens import vocabulary_of
    from sfhq.images import write_image

    loaded = load_flip(weights)
    data = load_captioned(sources, loaded.network.config.vision.size)
    data = pooled(data if everything else data.split()[1], pool)
    if len(data) < 2:
        raise UsageError(f"{len(data)} images to search; give more of them, or --all")
    found = by_sketches(
        loaded.network, vocabulary_of(loaded.notes), data, steps, lambda line: say(line, err=True)
    )
    if picture is not None:
        write_image(picture, sketch_sheet(data, steps), source_type=None)
    if as_json:
        click.echo(json.dumps({name: asdict(s) for name, s in found.items()}, indent=1))
        return
    names = ("m_a", "m_b", "weighted_a", "weighted_b", "a1", "a5", "a10")
    rows = [[k, *(f"{getattr(s, n):.4f}" for n in names)] for k, s in found.items()]
    click.echo(f"{len(data)} photos, {steps} steps")
    click.echo(table(["by", "m@A", "m@B", "w@mA", "w@mB", "A@1", "A@5", "A@10"], rows))


@click.command("fairness-report")
@PARTS
@WEIGHTS
@click.option(
    "--by",
    multiple=True,
    default=("sex", "age"),
    show_default=True,
    help="Kind of groups: sex, age, ancestry, glasses, hat, a column, or several joined by ' x '; "
    "may be repeated.",
)
@click.option(
    "--least",
    type=click.IntRange(2),
    default=30,
    show_default=True,
    help="Faces that a group needs to be judged.",
)
@click.option("--labels-only", is_flag=True, help="Without a network: captions and labels alone.")
@click.option("--all", "everything", is_flag=True, help="Not only the held-out tenth.")
@JSON
def fairness_report(
    parts: tuple[Path, ...],
    weights: Path | None,
    by: tuple[str, ...],
    least: int,
    labels_only: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """Whom data and network serve worse: figures by group, intervals, and the worst group.

    Groups are how synthetic faces look, as rendered or predicted. `recall` is found among the
    images that are searched, `probe` the mean balanced accuracy of linear models of the attributes
    that all judged groups have and lack; where attributes are predicted it says how well the
    predictions are repeated. `labels dropped` is the share of attributes that were too unsure to
    count (sfhq attribute --two-sided), `lost` that of faces which a stage rejected.

    \b
    Examples:
      sfhq flip fairness-report heads --by sex --by age --by "sex x ancestry"
      sfhq flip fairness-report part-05 --labels-only --by skin_tone
    """
    from encoders.flip.data import load_captioned
    from encoders.flip.network import load_flip
    from encoders.flip.studies.facts import facts_of
    from encoders.flip.studies.fairness import fairness
    from encoders.flip.tokens import vocabulary_of

    facts = facts_of(parts, by)
    if labels_only:
        found = fairness(None, None, None, facts, by, least)
    else:
        loaded = load_flip(weights)
        data = load_captioned(parts, loaded.network.config.vision.size)
        data = data if everything else data.split()[1]
        if len(data) < 2:
            raise UsageError("no face is held out; give more images, or --all")
        found = fairness(loaded.network, vocabulary_of(loaded.notes), data, facts, by, least)
    click.echo(json.dumps(found.to_dict(), indent=1) if as_json else found.lines())
