"""A stage in one file, as a newcomer would add it: how bright each photo's rim is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from sfhq.parts.part import Part
from sfhq.parts.photos import read_photo
from sfhq.parts.records import ColumnType, FaceRecord, Json
from sfhq.pipeline.recipe import Recipe
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Stage


@dataclass(frozen=True)
class HaloSettings:
    """See `Halo`."""

    rim: Annotated[int, option("Pixels of the rim.", least=1, most=9)] = 2
    limit: Annotated[float | None, option("Reject photos with a brighter rim.", least=0)] = None


@dataclass(frozen=True)
class Halo(Stage[HaloSettings]):
    """Writes the column `halo`, the mean brightness of the rim, 0 to 255."""

    name: ClassVar[str] = "halo"
    columns: ClassVar[Mapping[str, ColumnType]] = {"halo": "number"}
    Settings: ClassVar[type[Any]] = HaloSettings
    examples: ClassVar[tuple[str, ...]] = ("sfhq halo part-05 --rim 3",)

    rim: int = 2
    limit: float | None = None

    @classmethod
    def build(cls, settings: HaloSettings, recipe: Recipe, part: Path) -> Halo:
        return cls(settings.rim, settings.limit)

    def settings(self) -> dict[str, Json]:
        return {"rim": self.rim, "limit": self.limit}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for record in records:
            pixels = read_photo(part, record).astype(np.float64)
            inside = pixels[self.rim : -self.rim, self.rim : -self.rim]
            count = pixels.size - inside.size
            halo = float((pixels.sum() - inside.sum()) / count)
            said = record.with_columns(halo=halo)
            if self.limit is not None and halo > self.limit:
                yield said.reject(self.name, "bright rim", f"{halo:.1f} is above {self.limit}")
            else:
                yield said
