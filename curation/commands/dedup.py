"""Further uses of `sfhq dedup`: prove the result, calibrate the threshold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfhq import stages
from sfhq.commands.stages import StageCommand
from sfhq.console import FOLDER, say
from sfhq.errors import UsageError

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe

OPTIONS = (
    click.Option(["--verify"], is_flag=True, help="Only prove that no two kept photos are closer."),
    click.Option(
        ["--calibrate"], is_flag=True, help="Only find the threshold that fits the encoder."
    ),
    click.Option(["--report"], type=FOLDER, help="Where --calibrate writes its page."),
)


def dedup_command() -> StageCommand:
    """The command of the stage, with --verify and --calibrate."""
    return StageCommand(stages.row("dedup"), OPTIONS, _instead)


def _instead(recipe: Recipe, part: Path, flags: dict[str, Any]) -> bool:
    """Do what the flags ask for instead of the stage; False where they ask for nothing."""
    from curation.dedup import Dedup

    if flags["verify"] and flags["calibrate"]:
        raise UsageError("--verify and --calibrate do different things; give one of them")
    settings = recipe.table(Dedup)
    if flags["calibrate"]:
        find_threshold(
            part, flags["report"] or part / "audit" / "calibration.html", flags["as_json"]
        )
    elif flags["verify"]:
        prove(part, settings.threshold, settings.published, flags["as_json"])
    return bool(flags["verify"] or flags["calibrate"])


def find_threshold(part: Path, report: Path, as_json: bool) -> None:
    """Find the threshold that fits the encoder of a part, print it and write a page of figures.

    Args:
        part: folder of an embedded part.
        report: the page to write.
        as_json: print the figures as JSON.
    """
    from curation.pairs.calibrate import calibrate, calibration_page, part_photos
    from sfhq.images import write_atomic
    from sfhq.parts.part import Part

    opened = Part.open(part)
    name = str(opened.stage_info("embed")["settings"].get("encoder"))
    images, sources = part_photos(opened)
    found = calibrate(name, stages.network("image encoder")(name), images, sources)
    report.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(report, calibration_page(found).encode())
    if as_json:
        click.echo(json.dumps(found.to_dict(), sort_keys=True))
        return
    click.echo(f"{name}: threshold {found.threshold:.4f} from {found.photos} photos")
    click.echo(f"  {found.taken} of {found.pairs} pairs of other photos lie above it")
    for copy in found.copies:
        click.echo(f"  {100 * copy.found:5.1f} % of copies found: {copy.name}")
    say(f"page: {report}")


def prove(part: Path, threshold: float | None, published: tuple[Path, ...], as_json: bool) -> None:
    """Prove that no two kept photos of a part are closer than allowed, and print how many.

    Args:
        part: folder of a part.
        threshold: cosine; None for the one it was deduplicated with.
        published: earlier parts, which count as well.
        as_json: print it as JSON.
    """
    from curation.dedup import Dedup, verify
    from sfhq.parts.part import Part

    opened = Part.open(part)
    used = threshold
    if used is None:
        used = opened.stage_info("dedup")["settings"].get("threshold")
    limit = Dedup(used).threshold_for(opened)
    count = verify(opened, limit, published)
    if as_json:
        click.echo(json.dumps({"photos": count, "threshold": limit}, sort_keys=True))
    else:
        click.echo(f"{count} photos, no two with a cosine above {limit}")
