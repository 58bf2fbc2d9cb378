"""Stage: attributes that linear probes read off vectors which are there already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import ColumnType, FaceRecord, Json
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Stage

if TYPE_CHECKING:
    from annotate.probing.probe import Probe
    from sfhq.pipeline.recipe import Recipe


@dataclass(frozen=True)
class ProbeSettings:
    """See `ProbeStage`."""

    probes: Annotated[
        tuple[Path, ...], option("File of a probe; may be repeated.", metavar="FILE")
    ] = ()
    threshold: Annotated[
        float | None,
        option(
            "Probability from which on a face has it.",
            least=0,
            most=1,
            default="each probe's: the share of faces that had it",
        ),
    ] = None


@dataclass(frozen=True)
class ProbeStage(Stage[ProbeSettings]):
    """Writes the names of the probes that say yes of a face, and their probabilities in order.

    `sfhq annotations probe` makes probes. A face without a vector has empty columns.

    Attributes:
        probes: at least one, of different names.
        threshold: see the settings.
    """

    name: ClassVar[str] = "probe"
    columns: ClassVar[Mapping[str, ColumnType]] = {
        "probed": "texts",  # names of the probes that say yes
        "probe_names": "texts",  # of all, in the order of the probabilities
        "probe_probabilities": "numbers",
    }
    Settings: ClassVar[type[Any]] = ProbeSettings
    about: ClassVar[str] = "Probes are made by sfhq annotations probe."
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq probe part-05 --probes headscarf.safetensors",
        "sfhq table part-05 --where \"list_contains(probed, 'headscarf')\"",
    )
    packages: ClassVar[tuple[str, ...]] = ("scikit-learn",)

    probes: tuple[Probe, ...]
    threshold: float | None = None

    def __post_init__(self) -> None:
        names = [probe.name for probe in self.probes]
        if not names or len({*names}) < len(names):
            raise UsageError(
                f"probes {', '.join(names) or 'none'}: wanted one or more, of different names; "
                "give --probes"
            )

    @classmethod
    def build(cls, settings: ProbeSettings, recipe: Recipe, part: Path) -> ProbeStage:
        """The stage that a recipe describes, with its probes."""
        from annotate.probing.probe import Probe

        return cls(tuple(Probe.load(path) for path in settings.probes), settings.threshold)

    def needed(self) -> tuple[str, ...]:
        """The arrays that the probes read."""
        return tuple(dict.fromkeys(probe.array for probe in self.probes))

    def check(self, part: Part) -> None:
        """Refuse vectors of another network than a probe was fitted on."""
        from annotate.probing.known import maker

        for probe in self.probes:
            digest, encoder = maker(part, probe.array)
            if digest != probe.digest:
                raise UsageError(
                    f"{part.root}: {probe.array} is by {encoder} {digest[:12]}; the probe "
                    f"{probe.name} was fitted on that of network {probe.digest[:12]}: make the "
                    "vectors with that network, or the probe anew"
                )

    def settings(self) -> dict[str, Json]:
        """The probes' versions and the threshold."""
        versions = {probe.name: probe.version for probe in self.probes}
        return {"probes": versions, "threshold": self.threshold}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Read the vectors of every face."""
        names = [probe.name for probe in self.probes]
        for record in records:
            if not all(probe.array in record.rows for probe in self.probes):
                yield record.with_columns(probed=[], probe_names=names, probe_probabilities=[])
                continue
            found, said = [], []
            for probe in self.probes:
                row = np.asarray(part.row(probe.array, record), np.float32).reshape(1, -1)
                p = float(probe(row)[0])
                found.append(round(p, 6) if np.isfinite(p) else None)
                limit = probe.cut if self.threshold is None else self.threshold
                if np.isfinite(p) and p >= limit:
                    said.append(probe.name)
            values = found if None not in found else []
            yield record.with_columns(
                probed=said if values else [], probe_names=names, probe_probabilities=values
            )
