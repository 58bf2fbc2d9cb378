"""A run's settings as a TOML file: a table a stage, every key checked.

seed = 0
[ingest]
only = "*_art.jpg"
[synthesize]
candidates = ["strict", "low"]

The tables are the stages' own `Settings` (see `sfhq.pipeline.stage.Stage`) and what they share:
`seed`, `models`, `marks` and `export`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from sfhq import stages
from sfhq.errors import UsageError
from sfhq.pipeline.settings import (
    Setting,
    did_you_mean,
    option,
    read_table,
    read_values,
    settings_of,
)
from sfhq.pipeline.stage import Stage

RENAMED = {  # key of an earlier version -> its name now
    "models.encoder": "embed.encoder_weights",
    "synthesize.max_realism": "synthesize.max_prior_distance",
}


@dataclass(frozen=True)
class ModelSettings:
    """The generator and the encoder that stages share."""

    generator: Annotated[
        Path | None, option("Generator weights.", default="the embedded pack's")
    ] = None
    e4e: Annotated[Path | None, option("e4e weights.", default="the embedded pack's")] = None
    precision: Annotated[
        Literal["fp32", "bf16"], option("Number format of the networks' convolutions.")
    ] = "fp32"


@dataclass(frozen=True)
class MarkSettings:
    """How photos that a generator makes are marked; see `sfhq.synthesis.marking`."""

    watermark: Annotated[
        Literal["auto", "on", "off"],
        option(
            "An imperceptible mark that photos are synthetic. auto: from 256 pixels on, but not "
            "in a part that was begun without."
        ),
    ] = "auto"
    watermark_name: Annotated[
        str, option("Name of the dataset, whose digest the watermark carries.")
    ] = "sfhq"


@dataclass(frozen=True)
class ExportSettings:
    """See `sfhq.export.sfhq_layout.export_sfhq`."""

    name: Annotated[str | None, option("Prefix of the file names.", default="the part's name")] = (
        None
    )
    image_format: Annotated[Literal["jpg", "png"], option("Format of the photos.")] = "jpg"
    quality: Annotated[int, option("Quality of JPEG.", least=1, most=100)] = 95


@dataclass(frozen=True)
class Top:
    """The keys outside all tables."""

    seed: Annotated[int, option("Seed of everything random.", least=0, most=2**32 - 1)] = 0


SHARED: dict[str, type[Any]] = {
    "models": ModelSettings,
    "marks": MarkSettings,
    "export": ExportSettings,
}


@dataclass(frozen=True)
class Recipe:
    """All settings of a run.

    Attributes:
        seed: of everything random.
        models: the shared networks.
        marks: how photos that a generator makes are marked.
        export: how finished photos are written.
        where: the file it came from, for errors.
        tables: stage -> the settings that were given, by name.
    """

    seed: int = 0
    models: ModelSettings = field(default_factory=ModelSettings)
    marks: MarkSettings = field(default_factory=MarkSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    where: str = field(default="the command line", compare=False)
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def table(self, stage: type[Stage[Any]]) -> Any:
        """The settings of a stage: those given, and defaults for the rest.

        Raises:
            UsageError: one that has no default was not given.
        """
        return read_table(stage.Settings, self.tables.get(stage.name, {}), self.where, stage.name)

    def build(self, name: str, part: Path) -> Stage[Any]:
        """A stage as this recipe describes it, with its networks.

        Args:
            name: of the stage.
            part: folder of the part.

        Raises:
            UsageError: a value is not valid.
        """
        stage: type[Stage[Any]] = stages.load_stage(name)
        return stage.build(self.table(stage), self, part)


def load_recipe(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe and lay flags over it.

    Args:
        path: a TOML file, or None for the defaults.
        overrides: "table.key" or "key" to values; None values are passed over.

    Raises:
        UsageError: no such file, not TOML, an unknown key, or a value that does not fit.
    """
    values: dict[str, Any] = {}
    where = "the command line"
    if path is not None:
        where = str(path)
        try:
            values = tomllib.loads(path.read_text("utf-8-sig"))
        except OSError as error:
            raise UsageError(f"{path}: cannot read recipe: {error.strerror}") from None
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits
            raise UsageError(f"{path}: not TOML: {error}") from None
    for name, value in (overrides or {}).items():
        if value is None:
            continue
        table = values
        *above, key = name.split(".")
        for step in above:
            table = table.setdefault(step, {})
            if not isinstance(table, dict):
                raise UsageError(f"{where}: {step} is {table!r}; wanted a table")
        table[key] = value
    return read_recipe_values(values, where)


def read_recipe_values(values: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain values, every key checked.

    Raises:
        UsageError: an unknown key, or a value that does not fit.
    """
    top = {s.name for s in settings_of(Top)}
    known = [*top, *SHARED, *stages.names()]
    for key in values:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key}{did_you_mean(key, known)}")
    for old, new in RENAMED.items():
        table, _, key = old.partition(".")
        if isinstance(values.get(table), Mapping) and key in values[table]:
            raise UsageError(f"{where}: {old} is now called {new}; rename it")
    seed = read_table(Top, {k: v for k, v in values.items() if k in top}, where, "").seed
    shared = {
        name: read_table(cls, values[name], where, name) if name in values else cls()
        for name, cls in SHARED.items()
    }
    tables = {
        name: read_values(stages.load_stage(name).Settings, values[name], where, name)
        for name in stages.names()
        if name in values
    }
    return Recipe(seed, **shared, where=where, tables=tables)


def shared_settings(name: str) -> tuple[tuple[str, Setting], ...]:
    """The settings that stages share under a name of `Stage.shares`, with their recipe keys."""
    if name in SHARED:
        return tuple((f"{name}.{s.name}", s) for s in settings_of(SHARED[name]))
    return tuple((s.name, s) for s in settings_of(Top) if s.name == name)
