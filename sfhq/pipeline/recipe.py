"""A run's settings as a TOML file: a table a stage, every key checked.

seed = 0
[ingest]
only = "*_art.jpg"
[synthesize]
candidates = ["strict", "low"]
"""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from sfhq.errors import UsageError
from sfhq.synthesis.candidates import DEFAULT_CANDIDATES


@dataclass(frozen=True)
class ModelSettings:
    """Weights files, empty for the embedded pack; and "fp32" or "bf16" for their convolutions."""

    generator: str = ""
    e4e: str = ""
    encoder: str = ""
    precision: str = "fp32"


@dataclass(frozen=True)
class IngestSettings:
    """See `sfhq.sources.ingest.Ingest`."""

    only: str = ""
    limit: int = 0
    licence: str = ""
    provenance: str = ""


@dataclass(frozen=True)
class AlignSettings:
    """See `annotate.align.Align`; a size of 0 takes the generator's, at least 256."""

    size: int = 0
    faces: str = "best"
    min_face: int = 64
    max_padding: float = 0.35
    aligned: bool = False


@dataclass(frozen=True)
class SynthesizeSettings:
    """See `sfhq.synthesis.synthesize.Synthesize`; 0 stands for no limit."""

    candidates: tuple[str, ...] = DEFAULT_CANDIDATES
    keep: int = 0
    max_realism: float = 0.0
    batch: int = 8


@dataclass(frozen=True)
class EmbedSettings:
    """See `encoders.embed.Embed`."""

    encoder: str = "dlib-face"


@dataclass(frozen=True)
class DedupSettings:
    """See `curation.dedup.Dedup`; a threshold of 0 takes the encoder's default."""

    threshold: float = 0.0


@dataclass(frozen=True)
class ExportSettings:
    """See `sfhq.export.sfhq_layout.export_sfhq`; an empty name takes the part's."""

    name: str = ""
    image_format: str = "jpg"
    quality: int = 95


@dataclass(frozen=True)
class Recipe:
    """All settings of a run."""

    seed: int = 0
    models: ModelSettings = field(default_factory=ModelSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    align: AlignSettings = field(default_factory=AlignSettings)
    synthesize: SynthesizeSettings = field(default_factory=SynthesizeSettings)
    embed: EmbedSettings = field(default_factory=EmbedSettings)
    dedup: DedupSettings = field(default_factory=DedupSettings)
    export: ExportSettings = field(default_factory=ExportSettings)


def load_recipe(path: Path | None, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe and lay flags over it.

    Args:
        path: a TOML file, or None for the defaults.
        overrides: "table.key" or "key" to values; None values are passed over.

    Raises:
        UsageError: no such file, not TOML, an unknown key, or a value of the wrong type.
    """
    values: dict[str, Any] = {}
    where = "the command line"
    if path is not None:
        where = str(path)
        try:
            values = tomllib.loads(path.read_text())
        except OSError as error:
            raise UsageError(f"{path}: cannot read recipe: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: not TOML: {error}") from None
    for name, value in (overrides or {}).items():
        if value is None:
            continue
        table = values
        *above, key = name.split(".")
        for part in above:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise UsageError(f"{where}: {part} is {table!r}; wanted a table")
        table[key] = value
    built = _build(Recipe, values, where, "")
    assert isinstance(built, Recipe)
    return built


def _build(cls: type[Any], values: Any, where: str, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise UsageError(f"{where}: {prefix.rstrip('.')} is {values!r}; wanted a table")
    known = {f.name for f in fields(cls)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = (
                f"; did you mean {prefix}{near[0]}?"
                if near
                else f"; known: {', '.join(sorted(known))}"
            )
            raise UsageError(f"{where}: unknown key {prefix}{key}{hint}")
    hints = typing.get_type_hints(cls)
    arguments = {}
    for key, value in values.items():
        wanted = hints[key]
        if is_dataclass(wanted):
            assert isinstance(wanted, type)
            arguments[key] = _build(wanted, value, where, f"{prefix}{key}.")
        else:
            arguments[key] = _convert(value, wanted, f"{where}: {prefix}{key}")
    return cls(**arguments)


def _convert(value: Any, wanted: Any, place: str) -> Any:
    if typing.get_origin(wanted) is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise UsageError(f"{place} is {value!r}; wanted a list of names")
        return tuple(value)
    assert not isinstance(wanted, types.UnionType)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise UsageError(f"{place} is {value!r}; wanted {wanted.__name__}")
    return value
