"""Commands that learn a taste: the group `taste`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click

from sfhq.commands.numbers import Finite
from sfhq.console import FOLDER, Command, say

precision_option = click.option(
    "--precision",
    type=Finite(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Least precision of accepted and of rejected faces.",
)


@click.group(cls=Command)
def taste() -> None:
    """Learn from labels what a person likes, and measure it."""


@taste.command("fit")
@click.argument("part", type=FOLDER)
@click.option("--out", type=FOLDER, help="[default: PART/curation/taste.safetensors]")
@click.option("--annotator", help="Person whose labels count; default: the majority of all.")
@precision_option
def taste_fit(part: Path, out: Path | None, annotator: str | None, precision: float) -> None:
    """Learn a taste from the labels of PART.

    \b
    Example:
      sfhq taste fit part-05 --precision 0.97
    """
    from curation.taste.examples import Examples
    from curation.taste.judge import auc_with_interval
    from curation.taste.model import TasteSettings, fit_taste
    from sfhq.parts.part import Part

    known = Examples.of(Part.open(part), annotator)
    settings = TasteSettings(precision=precision)
    model = fit_taste(known.blocks, known.liked, known.groups, settings)
    target = out or part / "curation" / "taste.safetensors"
    model.save(target)
    auc = auc_with_interval(model.out_of_fold, known.liked)
    say(f"{target}: version {model.version}, {model.counts[0]} kept, {model.counts[1]} not")
    click.echo(f"cross-validated AUC {auc[0]:.3f} ({auc[1]:.3f} to {auc[2]:.3f})")
    for line in _thresholds(model.accept, model.reject, precision):
        click.echo(line)


def _thresholds(accept: float, reject: float, precision: float) -> list[str]:
    """What the thresholds are; where one is infinite, what that means and what to do."""
    sides = ((accept, "accept", f"from {accept:.3f}"), (reject, "reject", f"up to {reject:.3f}"))
    lines = [", ".join(f"{verb} {where}" for value, verb, where in sides if math.isfinite(value))]
    missing = [verb for value, verb, _ in sides if not math.isfinite(value)]
    if missing:
        verbs = " or ".join(missing)
        lines.append(
            f"no threshold reaches a precision of {precision:g}, so this taste will {verbs} "
            "nothing; label more faces, give a lower --precision, or compute more features: "
            "sfhq embed PART --features geometry,efficientnet --redo"
        )
    return [line for line in lines if line]


@taste.command("evaluate")
@click.argument("part", type=FOLDER)
@click.option("--annotator", help="Person whose labels count; default: the majority of all.")
@precision_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--report", type=FOLDER, help="Write a page with plots here.")
def taste_evaluate(
    part: Path, annotator: str | None, precision: float, as_json: bool, report: Path | None
) -> None:
    """Measure how good a taste of PART is, on labels that it was not learned from.

    \b
    Examples:
      sfhq taste evaluate part-05
      sfhq taste evaluate part-05 --report taste.html
    """
    from curation.taste.examples import Examples
    from curation.taste.judge import evaluate_taste
    from curation.taste.model import TasteSettings
    from curation.taste.report import taste_page
    from sfhq.images import write_atomic
    from sfhq.parts.part import Part

    known = Examples.of(Part.open(part), annotator)
    settings = TasteSettings(precision=precision)
    found = evaluate_taste(known.blocks, known.liked, known.groups, settings)
    if report is not None:
        disputed = [known.faces.preview(int(known.rows[i]), 160) for i in found.disputed]
        report.parent.mkdir(parents=True, exist_ok=True)
        page = taste_page(found, known.liked, disputed, known.faces.part.name)
        write_atomic(report, page.encode())
    if as_json:
        click.echo(json.dumps(found.to_dict(), sort_keys=True))
        return
    low, high = found.auc[1:]
    click.echo(
        f"{found.count[0]} kept, {found.count[1]} not; feature sets: {', '.join(known.blocks)}"
    )
    click.echo(f"AUC {found.auc[0]:.3f} ({low:.3f} to {high:.3f}), nested cross-validation")
    for name, share in (
        ("right at 0.5", found.accuracy),
        ("accepted are kept", found.accepted),
        ("rejected are not", found.rejected),
    ):
        value = f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f}), {share.count}"
        click.echo(f"{name:<18} {value if share.count else 'no face'}")
    click.echo(f"calibration error  {found.calibration_error:.3f}")
    if report is not None:
        say(f"page: {report}")


@taste.command("report")
@click.argument("part", type=FOLDER)
@click.option("--out", type=FOLDER, help="[default: PART/curation/taste.html]")
@click.option("--annotator", help="Person whose labels count; default: the majority of all.")
@precision_option
@click.pass_context
def taste_report(
    ctx: click.Context, part: Path, out: Path | None, annotator: str | None, precision: float
) -> None:
    """Evaluate, and write a page with histograms, precision, calibration and a learning curve.

    \b
    Example:
      sfhq taste report part-05
    """
    page = out or part / "curation" / "taste.html"
    ctx.invoke(taste_evaluate, part=part, annotator=annotator, precision=precision, report=page)
