"""The sfhq command: what every package offers, and what joins several of them.

Commands are thin. Each imports what it needs inside itself, so that `sfhq --help` needs neither
torch nor dlib.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from annotate.commands import align_options, align_stage, export_command, write_export
from curation.commands.dedup import find_threshold, prove
from curation.commands.labels import curate, labels
from curation.commands.taste import score, taste
from encoders.commands.convert import models_convert
from encoders.commands.stages import (
    candidate_options,
    embed,
    embed_stage,
    image_encoder,
    invert,
    invert_stage,
    model_flags,
    model_options,
    sample,
    synthesize,
    synthesize_stage,
)
from encoders.commands.train import train_e4e, train_evaluate, train_pack
from sfhq.commands.doctor import doctor_command
from sfhq.commands.models import models
from sfhq.commands.parts import ingest, ingest_stage, render, sheet, show, source_options
from sfhq.commands.train import train
from sfhq.console import (
    EXIT_REJECTIONS,
    FOLDER,
    Command,
    counts_line,
    expected_faces,
    read_recipe,
    ready_part,
    run_and_report,
    run_options,
    run_with_bar,
    split_names,
)
from sfhq.errors import SfhqError, UsageError

if TYPE_CHECKING:
    from encoders.embed import ImageEncoder
    from sfhq.pipeline.recipe import Recipe
    from sfhq.pipeline.stage import Stage


@click.group(
    cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="sfhq", message="%(version)s")
def main() -> None:
    """Make, curate and label synthetic faces.

    \b
    From art to a finished part in one command:
      sfhq run paintings/ part-05
      sfhq sheet part-05
      sfhq show part-05
    """


@click.command()
@click.argument("part", type=FOLDER)
@align_options
@model_options
@run_options
def align(
    part: Path,
    size: int | None,
    faces: str | None,
    min_face: int | None,
    aligned: bool | None,
    generator: Path | None,
    e4e: Path | None,
    precision: str | None,
    **flags: Any,
) -> None:
    """Find the face in every image of PART and cut the upright FFHQ crop.

    \b
    Example:
      sfhq align part-05 --faces single --min-face 128
    """
    recipe = read_recipe(
        align__size=size,
        align__faces=faces,
        align__min_face=min_face,
        align__aligned=aligned,
        **model_flags(generator, e4e, precision),
    )
    opened = ready_part(part, "align")
    run_and_report(_align_stage(recipe), opened, **flags)


def _align_stage(recipe: Recipe) -> Stage:
    def resolution() -> int:
        from encoders.e4e.pair import load_pair

        return load_pair(recipe).generator.config.resolution

    return align_stage(recipe, resolution)


@click.command()
@click.argument("part", type=FOLDER)
@click.option("--threshold", type=float, help="Cosine; default: the encoder's own.")
@click.option(
    "--published",
    type=FOLDER,
    multiple=True,
    help="An earlier part: its photos stay, and nothing near them does. May be repeated.",
)
@click.option(
    "--way",
    type=click.Choice(["auto", "int8", "bf16", "f32"]),
    default="auto",
    show_default=True,
    help="How pairs are looked for; changes the speed only.",
)
@click.option("--verify", is_flag=True, help="Only prove that no two kept photos are closer.")
@click.option("--calibrate", is_flag=True, help="Only find the threshold that fits the encoder.")
@click.option("--report", type=FOLDER, help="Where --calibrate writes its page.")
@run_options
def dedup(
    part: Path,
    threshold: float | None,
    published: tuple[Path, ...],
    way: Any,
    verify: bool,
    calibrate: bool,
    report: Path | None,
    **flags: Any,
) -> None:
    """Keep the best of every group of near-duplicates in PART.

    \b
    Examples:
      sfhq dedup part-05
      sfhq dedup part-05 --published part-01 --published part-02
      sfhq dedup part-05 --verify
      sfhq dedup part-05 --calibrate --report calibration.html
    """
    if verify and calibrate:
        raise UsageError("--verify and --calibrate do different things; give one of them")
    if calibrate:
        page = report or part / "audit" / "calibration.html"
        find_threshold(part, page, flags["as_json"], _encoder_named)
        return
    if verify:
        prove(part, threshold, published, flags["as_json"])
        return
    from curation.dedup import Dedup

    stage = Dedup(threshold, published=published, way=way)
    run_and_report(stage, ready_part(part, "dedup"), **flags)


def _encoder_named(name: str) -> ImageEncoder:
    return image_encoder(read_recipe(embed__encoder=name))


PIPELINE = ("ingest", "align", "invert", "synthesize", "embed", "dedup")


@click.command()
@click.argument("source", type=FOLDER)
@click.argument("part", type=FOLDER)
@click.option("--recipe", "recipe_path", type=FOLDER, help="TOML file; flags go before it.")
@source_options
@align_options
@candidate_options
@click.option("--encoder", help="dlib-face or clip.  [default: dlib-face]")
@click.option("--threshold", type=float, help="Cosine for near-duplicates.")
@click.option("--seed", type=int, help="Seed of everything random.  [default: 0]")
@click.option("--export/--no-export", "wants_export", default=True, help="Write PART/export.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@model_options
@run_options
def run(
    source: Path,
    part: Path,
    recipe_path: Path | None,
    wants_export: bool,
    dry_run: bool,
    workers: int,
    redo: bool,
    strict: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """From the art in SOURCE to a finished PART: all stages in a row, resumed where it stopped.

    \b
    Examples:
      sfhq run paintings/ part-05
      sfhq run paintings.zip part-05 --recipe part-05.toml --candidates strict,low
      sfhq run crops/ part-05 --aligned --dry-run
    """
    from sfhq.parts.part import Part
    from sfhq.pipeline.plan import Plan

    recipe = read_recipe(recipe_path, **_run_overrides(flags))
    first = ingest_stage(source, recipe)
    if dry_run:
        plan = Plan.of(first, part, recipe.synthesize.candidates, PIPELINE)
        click.echo(json.dumps(plan.to_dict(), sort_keys=True) if as_json else plan)
        return
    first.settings()  # a source that is not there says so before networks are read
    stages = (first, *_later_stages(recipe))
    for stage in stages:
        stage.settings()
    opened = Part.create(part)
    rows = []
    rejected = False
    for stage in stages:
        total = expected_faces(opened, stage.name)
        counts = run_with_bar(stage, opened, workers, redo and stage is first, total)
        rejected = rejected or bool(counts.rejected)
        rows.append({"stage": stage.name, **counts.to_dict()})
        line = counts_line(stage.name, rows[-1])
        if not as_json:
            click.echo(line)
        if not counts.alive:
            raise SfhqError(
                f"{part}: no face was left after {stage.name} "
                f"({line.split('rejected: ')[-1]}); see: sfhq show {part}"
            )
    if wants_export:
        line = write_export(opened, part / "export", recipe)
        if not as_json:
            click.echo(line)
    if as_json:
        click.echo(json.dumps({"part": str(part), "stages": rows}, sort_keys=True))
    if strict and rejected:
        sys.exit(EXIT_REJECTIONS)


def _later_stages(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages of `PIPELINE` after the first, with their networks."""
    from curation.dedup import Dedup

    return (
        _align_stage(recipe),
        invert_stage(recipe),
        synthesize_stage(recipe),
        embed_stage(recipe),
        Dedup(recipe.dedup.threshold or None),
    )


def _run_overrides(flags: dict[str, Any]) -> dict[str, Any]:
    tables = {
        "ingest": ("only", "limit", "licence", "provenance"),
        "align": ("size", "faces", "min_face", "aligned"),
        "synthesize": ("keep", "max_realism"),
        "embed": ("encoder",),
        "dedup": ("threshold",),
    }
    overrides = {f"{t}__{key}": flags[key] for t, keys in tables.items() for key in keys}
    return {
        **overrides,
        "seed": flags["seed"],
        "synthesize__candidates": split_names(flags["candidates"]),
        **model_flags(flags["generator"], flags["e4e"], flags["precision"]),
    }


@click.command()
@click.argument("part", type=FOLDER, default=Path("demo-part"))
def demo(part: Path) -> None:
    """Bring the shipped sample art to life in PART (default: demo-part).

    \b
    Example:
      sfhq demo
    """
    samples = Path(__file__).parent / "sfhq" / "samples"
    licence = ["--licence", "CC0-1.0", "--provenance", "sfhq sample art"]
    main.main(["run", str(samples), str(part), *licence], standalone_mode=False)
    click.echo("contact sheet:")
    main.main(["sheet", str(part)], standalone_mode=False)


models.add_command(models_convert)
for command in (train_e4e, train_pack, train_evaluate):
    train.add_command(command)
for command in (
    *(ingest, align, invert, synthesize, sample, render, embed, dedup),
    *(curate, labels, taste, score),
    *(export_command, run, show, sheet, demo),
    *(train, models, doctor_command),
):
    main.add_command(command)


if __name__ == "__main__":
    main()
