"""Commands of stages, read off their declarations: one each, and `run` for all in a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfhq import stages
from sfhq.console import (
    FOLDER,
    engine_of,
    read_recipe,
    run_options,
    run_stages,
    split_names,
)

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe
    from sfhq.pipeline.settings import Setting
    from sfhq.pipeline.stage import Stage

Before = Callable[["Recipe", Path, dict[str, Any]], bool]
RECIPE = click.Option(
    ["--recipe", "recipe_path"], type=FOLDER, help="TOML file of settings; options go before it."
)


def run_parameters() -> list[click.Parameter]:
    """What every command takes that runs stages."""

    @run_options
    def holder() -> None: ...

    return list(reversed(holder.__click_params__))  # type: ignore[attr-defined]


def parameter(key: str, setting: Setting, flag: str = "") -> click.Parameter:
    """One setting as a parameter of a command.

    Args:
        key: of the recipe, such as "align.size".
        setting: the field.
        flag: name on the command line; by default the field's.
    """
    name = key.replace(".", "__")
    if setting.option.argument:
        return click.Argument([name], type=_type(setting), metavar=setting.name.upper())
    spelled = f"--{(flag or setting.option.flag or setting.name).replace('_', '-')}"
    text = setting.option.help + _default(setting)
    if setting.kind is bool:
        return click.Option([spelled, name], is_flag=True, default=None, help=text)
    several = setting.several and _item(setting) is Path
    return click.Option(
        [spelled, name],
        type=_type(setting),
        multiple=several,
        default=None,
        metavar=setting.option.metavar or None,
        help=text,
    )


def _item(setting: Setting) -> Any:
    return setting.kind.__args__[0] if setting.several else setting.kind


def _type(setting: Setting) -> Any:
    if setting.choices:
        return click.Choice(setting.choices)
    least, most = setting.option.least, setting.option.most
    if setting.kind is int:
        return click.IntRange(_whole(least), _whole(most))
    if setting.kind is float:
        return click.FloatRange(least, most)
    return FOLDER if _item(setting) is Path else str


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _default(setting: Setting) -> str:
    if setting.required:
        return "  [required]"
    default = setting.option.default
    if not default and isinstance(setting.default, tuple):
        default = ",".join(str(v) for v in setting.default)
    if not default and setting.default not in (None, ()) and setting.kind is not bool:
        default = str(setting.default)
    return f"  [default: {default}]" if default else ""


def recipe_of(recipe_path: Path | None, values: dict[str, Any], lists: Sequence[str]) -> Recipe:
    """The recipe that a command was given: a file, and options before it.

    Args:
        recipe_path: the file, or None.
        values: parameter name -> value.
        lists: names of parameters that are comma-separated lists.
    """
    flags: dict[str, Any] = {}
    for name, value in values.items():
        if name in lists:
            flags[name] = split_names(value)
        else:  # an option that may be repeated and was not given is empty
            flags[name] = None if value == () else value
    return read_recipe(recipe_path, **flags)


class _Lazy(click.Command, ABC):
    """A command whose parameters and help are read off declarations when they are asked for."""

    @abstractmethod
    def _parameters(self) -> list[click.Parameter]:
        """All parameters but that of help."""

    @abstractmethod
    def _help(self) -> str:
        """The text above the options."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All parameters; imports what declares them."""
        self.params = self._parameters()
        return super().get_params(ctx)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help."""
        self.help = self._help()
        super().format_help_text(ctx, formatter)


def _examples(lines: Sequence[str]) -> str:
    head = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(["\b", head, *(f"  {line}" for line in lines)])


class StageCommand(_Lazy):
    """The command of a stage.

    Args:
        row: of the table of stages.
        extra: further options, which do not belong to the settings.
        before: called with the recipe, the part and the extra options; where it returns True, the
            stage does not run.
    """

    def __init__(
        self,
        row: stages.StageRow,
        extra: Sequence[click.Option] = (),
        before: Before | None = None,
    ) -> None:
        super().__init__(row.name, short_help=row.summary, callback=self._run)
        self.row = row
        self.extra = tuple(extra)
        self.before = before

    @cached_property
    def stage(self) -> type[Stage[Any]]:
        """The stage's class."""
        found: type[Stage[Any]] = stages.load_stage(self.row.name)
        return found

    @cached_property
    def settings(self) -> list[tuple[str, Setting]]:
        """Recipe key and field of all settings that the stage takes."""
        from sfhq.pipeline.recipe import shared_settings
        from sfhq.pipeline.settings import settings_of

        own = [(f"{self.row.name}.{s.name}", s) for s in settings_of(self.stage.Settings)]
        return [*own, *(pair for name in self.stage.shares for pair in shared_settings(name))]

    def _parameters(self) -> list[click.Parameter]:
        found = [parameter(key, setting) for key, setting in self.settings]
        arguments = [p for p in found if isinstance(p, click.Argument)]
        options = [p for p in found if not isinstance(p, click.Argument)]
        own_recipe = any(setting.name == "recipe" for _, setting in self.settings)
        return [
            *arguments,
            click.Argument(["part"], type=FOLDER),
            *options,
            *([] if own_recipe else [RECIPE]),
            *self.extra,
            *run_parameters(),
        ]

    def _help(self) -> str:
        blocks = [self.row.summary, self.stage.about, _examples(self.stage.examples)]
        return "\n\n".join(block for block in blocks if block)

    def _run(
        self,
        part: Path,
        workers: int,
        engine: str,
        address: str | None,
        shares: tuple[str, ...],
        redo: bool,
        strict: bool,
        as_json: bool,
        recipe_path: Path | None = None,
        **values: Any,
    ) -> None:
        lists = _lists(self.settings)
        extra = {o.name or "": values.pop(o.name or "") for o in self.extra}
        recipe = recipe_of(recipe_path, values, lists)
        if self.before is not None and self.before(recipe, part, {**extra, "as_json": as_json}):
            return
        run_stages(
            [self.row.name],
            recipe,
            part,
            engine=engine_of(workers, engine, address, shares),
            redo=redo,
            strict=strict,
            as_json=as_json,
        )


def _lists(settings: Sequence[tuple[str, Setting]]) -> list[str]:
    return [key.replace(".", "__") for key, s in settings if s.several and _item(s) is not Path]


@dataclass(frozen=True)
class Line:
    """Stages in a row as one command.

    Attributes:
        name: of the command.
        summary: one line of help.
        stages: their names; empty for those that the table of stages counts to a run.
        about: a paragraph of help.
        examples: lines of the help.
        exports: whether it ends in an export, which --no-export leaves out.
        defaults: parameter name -> value of an option that was not given, where no recipe is.
    """

    name: str
    summary: str
    stages: tuple[str, ...] = ()
    about: str = ""
    examples: tuple[str, ...] = ()
    exports: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


RUN = Line(
    "run",
    "From the art in SOURCE to a finished PART: all stages, resumed where it stopped.",
    examples=(
        "sfhq run paintings/ part-05",
        "sfhq run paintings.zip part-05 --recipe part-05.toml --candidates strict,low",
        "sfhq run crops/ part-05 --aligned --dry-run",
    ),
    exports=True,
)


class RunCommand(_Lazy):
    """The command that runs stages in a row: options of all of them.

    Args:
        finish: writes the export of a part: called with the part, the recipe and whether to print.
    """

    def __init__(
        self,
        finish: Callable[[Path, Recipe, bool], None],
        line: Line = RUN,
    ) -> None:
        super().__init__(line.name, short_help=line.summary, callback=self._run)
        self.finish, self.line = finish, line

    @property
    def names(self) -> list[str]:
        """The stages, in their order."""
        return list(self.line.stages) or [row.name for row in stages.STAGES if row.in_run]

    @property
    def settings(self) -> list[tuple[str, Setting]]:
        """Recipe key and field of the settings of all stages of a run."""
        from sfhq.pipeline.recipe import shared_settings
        from sfhq.pipeline.settings import settings_of

        own = [
            (f"{name}.{s.name}", s)
            for name in self.names
            for s in settings_of(stages.load_stage(name).Settings)
        ]
        return [
            *own,
            *shared_settings("seed"),
            *shared_settings("models"),
            *shared_settings("marks"),
        ]

    def _parameters(self) -> list[click.Parameter]:
        found = []
        taken: set[str] = set()
        for key, setting in self.settings:
            table, _, field = key.rpartition(".")
            # The first stage of a run that has a name keeps it plain.
            found.append(parameter(key, setting, f"{table}-{field}" if field in taken else ""))
            taken.add(field)
        return [
            *(p for p in found if isinstance(p, click.Argument)),
            click.Argument(["part"], type=FOLDER),
            *(p for p in found if not isinstance(p, click.Argument)),
            RECIPE,
            *(
                click.Option(
                    ["--export/--no-export", "export"], default=True, help="Write PART/export."
                )
                for _ in range(self.line.exports)
            ),
            click.Option(
                ["--dry-run"], is_flag=True, help="Say what would be done; write nothing."
            ),
            *run_parameters(),
        ]

    def _help(self) -> str:
        names = f"The stages are {', '.join(self.names)}."
        told = [self.short_help or "", names, *([self.line.about] if self.line.about else [])]
        return "\n\n".join([*told, _examples(self.line.examples)])

    def _run(
        self,
        part: Path,
        recipe_path: Path | None,
        dry_run: bool,
        workers: int,
        engine: str,
        address: str | None,
        shares: tuple[str, ...],
        redo: bool,
        strict: bool,
        as_json: bool,
        export: bool = True,
        **values: Any,
    ) -> None:
        if recipe_path is None:  # a recipe says itself what it wants
            values = {
                name: self.line.defaults.get(name) if value is None else value
                for name, value in values.items()
            }
        recipe = recipe_of(recipe_path, values, _lists(self.settings))
        if dry_run:
            import json

            from sfhq.pipeline import Pipeline
            from sfhq.pipeline.plan import Plan

            plan = Plan.of(Pipeline.from_recipe(recipe, self.names), part)
            click.echo(json.dumps(plan.to_dict(), sort_keys=True) if as_json else plan)
            return

        def finish() -> None:
            if export:
                self.finish(part, recipe, not as_json)

        run_stages(
            list(self.line.stages) or None,
            recipe,
            part,
            engine=engine_of(workers, engine, address, shares),
            redo=redo,
            strict=strict,
            as_json=as_json,
            finish=finish,
        )
