"""The command sfhq: the stages' commands, those of every package, and those that join packages.

Commands are thin. Each imports what it needs inside itself, so that `sfhq --help` needs neither
torch nor dlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from annotate.commands.annotations import group as annotations_group
from annotate.commands.funnel import FUNNEL, tell_funnel
from annotate.commands.train import train_attribute, train_labels
from curation.commands.dedup import dedup_command
from curation.commands.explore import explore
from curation.commands.labels import curate, labels
from curation.commands.select import select_command
from curation.commands.taste import taste
from encoders.commands.convert import models_convert
from encoders.commands.flip.experiments import caption_ablate, compare_pretraining, scaling
from encoders.commands.flip.files import flip_evaluate, flip_export
from encoders.commands.flip.group import flip
from encoders.commands.flip.rating import human_eval
from encoders.commands.flip.reports import fairness_report, probe_command, sketch
from encoders.commands.flip.train import flip_train
from encoders.commands.hybrid import train_hybrid
from encoders.commands.mapping import train_mapping
from encoders.commands.person import train_person
from encoders.commands.search import search
from encoders.commands.train import train_e4e, train_evaluate, train_pack
from sfhq import stages
from sfhq.commands.doctor import doctor_command
from sfhq.commands.export import export_command, write_export
from sfhq.commands.imports import import_command
from sfhq.commands.models import models
from sfhq.commands.parts import sheet, show, table
from sfhq.commands.publish import card, licences, lineage, sign, validate, verify
from sfhq.commands.remote import pull, push
from sfhq.commands.stages import RunCommand, StageCommand
from sfhq.commands.train import train
from sfhq.console import FOLDER, Command, say

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe


class Sfhq(Command):
    """The group: commands that were added, and one for every other row of the table of stages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *stages.names()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        known = super().get_command(ctx, cmd_name)
        if known is None and cmd_name in stages.names():
            return StageCommand(stages.row(cmd_name))
        return known


@click.group(
    cls=Sfhq, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
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


def _finish(part: Path, recipe: Recipe, tell: bool) -> None:
    """What ends a run: the export."""
    line = write_export(part, part / "export", recipe)
    if tell:
        say(line)


models.add_command(models_convert)
for command in (
    *(
        train_e4e,
        train_hybrid,
        train_mapping,
        train_person,
        train_labels,
        train_attribute,
        train_pack,
        train_evaluate,
    ),
):
    train.add_command(command)
for command in (
    *(flip_train, flip_evaluate, flip_export, caption_ablate, compare_pretraining, scaling),
    *(probe_command, sketch, fairness_report, human_eval),
):
    flip.add_command(command)
for command in (
    dedup_command(),
    *(curate, explore, labels, taste),
    *(export_command, import_command, RunCommand(_finish), RunCommand(tell_funnel, FUNNEL)),
    *(show, table, sheet, demo, select_command),
    *(push, pull, verify, sign, lineage, licences, validate, card),
    *(annotations_group, train, flip, search, models, doctor_command),
):
    main.add_command(command)


if __name__ == "__main__":
    main()
