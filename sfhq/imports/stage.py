"""Stage: bring in a set of photos that others made, with the labels that came with it.

The photos stay where they are, as those of `ingest` do, and are checked by their digest. Maps of
classes and points are copied into the part; `sfhq.imports.beside` does the rest.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sfhq.errors import UsageError
from sfhq.faces.found import POINTS
from sfhq.faces.points import ARRAY
from sfhq.images import BadImage
from sfhq.imports.facesynthetics import FaceSynthetics
from sfhq.imports.foreign import Came, Layout
from sfhq.imports.imagefolder import ImageFolder
from sfhq.imports.released import Released, TextToImage
from sfhq.parts.folders import FOREIGN_POINTS, IMPORTED, SOURCE_TYPE
from sfhq.parts.part import Part
from sfhq.parts.reading import FACE_ID
from sfhq.parts.records import FaceRecord, Json
from sfhq.parts.source import Source
from sfhq.parts.walk import record_name
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import SourceStage

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe

LAYOUTS: dict[str, Any] = {  # asked in this order
    "sfhq-t2i": TextToImage,
    "facesynthetics": FaceSynthetics,
    "sfhq": Released,
    "imagefolder": ImageFolder,
}
LOST = "mask_without_counterpart"  # in params: class of the foreign map -> pixels
MASKS = "segmentations"
PROBED = 32  # photos that are asked what a set brings


@dataclass(frozen=True)
class ImportSettings:
    """See `Import`."""

    source: Annotated[Path, option("The folder of the set.", argument=True)]
    layout: Annotated[
        Literal["auto", "sfhq", "sfhq-t2i", "facesynthetics", "imagefolder"],
        option("What the folder looks like."),
    ] = "auto"
    limit: Annotated[int | None, option("Take at most this many photos.", least=1)] = None
    licence: Annotated[
        str, option("Licence of the set, for the records; default: what its sheets state.")
    ] = ""
    provenance: Annotated[str, option("Where the set comes from, for the records.")] = ""


@dataclass(frozen=True)
class Import(SourceStage[ImportSettings]):
    """The stage that starts a part from a foreign set.

    Exact copies of an earlier photo are rejected, as `ingest` does. Each record names the set's
    layout in `params` under "imported", and the mark that photos of its kind deserve.

    Attributes:
        source: folder of the set.
        layout: of `LAYOUTS`.
        limit: take only this many photos, the first ones in sorted order; None for all.
        licence: of the set; "" takes what a row of its sheets states.
        provenance: where it comes from, in the user's words.
    """

    name: ClassVar[str] = "import"
    grows: ClassVar[bool] = True
    arrays: ClassVar[tuple[str, ...]] = (ARRAY, FOREIGN_POINTS)
    images: ClassVar[tuple[str, ...]] = (MASKS,)
    Settings: ClassVar[type[Any]] = ImportSettings

    source: str
    layout: str
    limit: int | None = None
    licence: str = ""
    provenance: str = ""

    @classmethod
    def build(cls, settings: ImportSettings, recipe: Recipe, part: Path) -> Import:
        """The stage that a recipe describes."""
        root = settings.source.expanduser().resolve()
        layout = layout_of(root) if settings.layout == "auto" else settings.layout
        return cls(str(root), layout, settings.limit, settings.licence, settings.provenance)

    @classmethod
    def forecast(cls, settings: ImportSettings, faces: int | None) -> int | None:
        """The number of photos in the set; reads none."""
        return len(cls.build(settings, None, Path()).names())  # type: ignore[arg-type]

    @property
    def root(self) -> Path:
        """Folder of the set."""
        return Path(self.source)

    @cached_property
    def opened(self) -> Layout:
        """The set."""
        return _opened(self.root, self.layout)

    def __getstate__(self) -> dict[str, Any]:
        """Without the set, which a worker opens itself."""
        return {k: v for k, v in self.__dict__.items() if k != "opened"}

    def settings(self) -> dict[str, Json]:
        """What decides the records."""
        return {
            "source": record_name(self.source),
            "layout": self.layout,
            "limit": self.limit,
            "licence": self.licence,
            "provenance": self.provenance,
        }

    def written(self) -> tuple[str, ...]:
        """The arrays and images that this set brings, as some of its photos show."""
        names = self.names()
        step = max(1, len(names) // PROBED)
        found: set[str] = set()
        for name in names[::step]:
            came = self.opened.came(name)
            found |= {*came.points} | ({MASKS} if came.mask is not None else set())
        return tuple(n for n in (*self.arrays, *self.images) if n in found)

    def names(self) -> list[str]:
        """The photos to take, sorted.

        Raises:
            UsageError: there are none.
        """
        found = self.opened.names()
        if not found:
            raise UsageError(f"{self.root}: no photos of the layout {self.layout} in it")
        return found[: self.limit]

    def more(self, part: Part) -> bool:
        """Whether the set holds photos that the part lacks.

        Raises:
            UsageError: photos that the part was made from are not in the set any more.
        """
        names = self.names()
        known = {r.source for r in part.records(self.name)}
        gone = sorted(known - {*self.opened.names()})
        if gone:
            raise UsageError(
                f"{part.root}: {len(gone)} of its photos are not in {self.root} any more, first "
                f"{gone[0]}; put them back, or leave them out with all that was made of them by: "
                f"sfhq import {self.root} {part.root} --redo"
            )
        return bool({*names} - known)

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        """One record a photo that the part lacks, with the digest of its bytes."""
        return self._seeds(part, self.names())

    def _seeds(self, part: Part, names: list[str]) -> Iterator[FaceRecord]:
        known = list(part.records(self.name))
        first = {r.source_sha256: r.source for r in known if r.source_sha256 and r.alive}
        taken = {r.source for r in known}
        stems = Counter(PurePosixPath(name).stem for name in names)
        with Source(self.root) as source:
            for name in itertools.filterfalse(taken.__contains__, names):
                try:
                    digest = hashlib.sha256(source.read(name)).hexdigest()
                except BadImage:  # rejected with its reason when it is decoded
                    digest = ""
                other = first.setdefault(digest, name) if digest else name
                stem = PurePosixPath(name).stem
                unique = stems[stem] == 1 and FACE_ID.fullmatch(stem)
                yield FaceRecord(
                    face_id=stem if unique else hashlib.sha256(name.encode()).hexdigest()[:16],
                    source=name,
                    source_sha256=digest,
                    licence=self.licence,
                    provenance=self.provenance,
                    params={
                        IMPORTED: self.layout,
                        **({} if other == name else {"duplicate_of": other}),
                    },
                )

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Decode each photo to know that it can be used, and take what came with it."""
        with Source(self.root) as source:
            for record in records:
                yield self._take(source, record)

    def _take(self, source: Source, record: FaceRecord) -> FaceRecord:
        try:
            image = source.image(record)
        except BadImage as error:
            return record.reject(self.name, error.reason, str(error))
        other = record.params.get("duplicate_of")
        if other is not None:
            detail = f"{record.source}: the same bytes as {other}"
            return record.reject(self.name, "exact duplicate", detail)
        came = self.opened.came(record.source)
        if came.mask is not None and came.mask.shape != (image.height, image.width):
            height, width = came.mask.shape
            return record.reject(
                self.name,
                "mask of another size",
                f"{record.source}: {image.width} x {image.height}, its map {width} x {height}",
            )
        done = replace(
            record,
            width=image.width,
            height=image.height,
            seed=came.seed,
            params={**record.params, **self._params(came)},
            licence=record.licence or _text(came, "licence") or _text(came, "license"),
            provenance=record.provenance or _text(came, "provenance") or self._from(),
        )
        if came.mask is not None:
            done = done.with_image(MASKS, came.mask)
        for name, points in came.points.items():
            if name != POINTS:  # those are what `detect` would have found; see `beside`
                done = done.with_array(name, points)
        return done

    def _params(self, came: Came) -> dict[str, Json]:
        mark = _text(came, SOURCE_TYPE) or self.opened.mark
        return {
            **({SOURCE_TYPE: mark} if mark else {}),
            **({"text": came.text} if came.text else {}),
            **({LOST: dict(came.lost)} if came.lost else {}),
        }

    def _from(self) -> str:
        return f"imported from {record_name(self.root.name)}, a set in the layout {self.layout}"


def _text(came: Came, column: str) -> str:
    value = came.columns.get(column)
    return value if isinstance(value, str) else ""


@lru_cache(maxsize=2)
def _opened(root: Path, layout: str) -> Layout:
    made: Layout = LAYOUTS[layout](root)
    return made


def layout_of(root: Path) -> str:
    """What a folder looks like.

    Raises:
        UsageError: it is none, or like nothing that is known.
    """
    if root.is_file():
        raise UsageError(
            f"{root}: a file; wanted the folder of a set; shards and archives are read by: "
            f"sfhq ingest {root} PART"
        )
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; wanted the folder of a set of photos")
    for name, kind in LAYOUTS.items():
        if kind.fits(root):
            return name
    raise UsageError(
        f"{root}: has none of the layouts {', '.join(LAYOUTS)}; name one with --layout, or take "
        "the images alone by: sfhq ingest"
    )
