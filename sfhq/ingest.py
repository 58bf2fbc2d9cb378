"""Stage: bring images in. A folder, list or zip becomes the first records of a part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sfhq.errors import UsageError
from sfhq.images import BadImage
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.parts.source import WANTED, Source
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import SourceStage

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe


@dataclass(frozen=True)
class IngestSettings:
    """See `Ingest`."""

    source: Annotated[
        Path, option("A folder of images, a .zip, or a .txt list of paths.", argument=True)
    ]
    only: Annotated[str | None, option("Take only files whose name matches.", metavar="GLOB")] = (
        None
    )
    limit: Annotated[int | None, option("Take at most this many files.", least=1)] = None
    licence: Annotated[str, option("Licence of the sources, for the records.")] = ""
    provenance: Annotated[str, option("Where the sources come from, for the records.")] = ""


@dataclass(frozen=True)
class Ingest(SourceStage[IngestSettings]):
    """The stage that starts a part from images.

    Exact copies of an earlier file are rejected here, so that nothing later has to care.

    Attributes:
        source: a folder, a .txt list of paths or a .zip.
        only: take the file names that match this pattern, such as "keep_*.jpg".
        limit: take only this many, the first ones in sorted order; None for all.
        licence: licence of the images, an SPDX id where there is one.
        provenance: where they come from, in the user's words.
    """

    name: ClassVar[str] = "ingest"
    Settings: ClassVar[type[Any]] = IngestSettings
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq ingest paintings/ part-05 --only '*.jpg' --licence CC0-1.0",
    )

    source: str
    only: str | None = None
    limit: int | None = None
    licence: str = ""
    provenance: str = ""

    @classmethod
    def build(cls, settings: IngestSettings, recipe: Recipe, part: Path) -> Ingest:
        """The stage that a recipe describes."""
        return cls._of(settings)

    @classmethod
    def forecast(cls, settings: IngestSettings, faces: int | None) -> int | None:
        """The number of images in the source; reads none."""
        return len(cls._of(settings).names())

    @classmethod
    def _of(cls, settings: IngestSettings) -> Ingest:
        return cls(
            source=str(settings.source),
            only=settings.only or None,
            limit=settings.limit,
            licence=settings.licence,
            provenance=settings.provenance,
        )

    @property
    def root(self) -> Path:
        """The source as an absolute path."""
        return Path(self.source).expanduser().resolve()

    def settings(self) -> dict[str, Json]:
        """What decides the records; `files` tells when the source has gained or lost some."""
        listed = "\0".join(self.names()).encode(errors="surrogateescape")
        return {
            "source": str(self.root),
            "files": hashlib.sha256(listed).hexdigest(),
            "only": self.only,
            "limit": self.limit,
            "licence": self.licence,
            "provenance": self.provenance,
        }

    def names(self, skip: Path | None = None) -> list[str]:
        """Names of the images to take, sorted; reads no image.

        Args:
            skip: a folder to leave out.

        Raises:
            UsageError: the source is missing, damaged or empty, nothing matches `only`, or
                `limit` is not positive.
        """
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit}: wanted 1 or more; leave it out for all")
        names = rendered_names(self.root)
        if names is None:
            with Source(self.root) as source:
                names = source.names(skip)
        if self.only is not None:
            matching = [n for n in names if fnmatchcase(PurePosixPath(n).name, self.only)]
            if not matching:
                raise UsageError(
                    f"{self.root}: none of its {len(names)} images matches --only '{self.only}'; "
                    f"the first is {PurePosixPath(names[0]).name}; give a wider pattern"
                )
            names = matching
        return names[: self.limit]

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        """One record an image, with the digest of its bytes; copies name the first of them.

        Raises:
            UsageError: as `names`, at the call and not at the first record.
        """
        return self._seeds(self.names(skip=part.root))

    def _seeds(self, names: list[str]) -> Iterator[FaceRecord]:
        first: dict[str, str] = {}
        with Source(self.root) as source:
            for name in names:
                try:
                    digest = hashlib.sha256(source.read(name)).hexdigest()
                except BadImage:  # rejected with its reason when it is decoded
                    digest = ""
                other = first.setdefault(digest, name) if digest else name
                yield FaceRecord(
                    face_id=hashlib.sha256((digest + name).encode()).hexdigest()[:16],
                    source=name,
                    source_sha256=digest,
                    licence=self.licence,
                    provenance=self.provenance,
                    params={} if other == name else {"duplicate_of": other},
                )

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Decode each image to know that it can be used, and how large it is."""
        with Source(self.root) as source:
            for record in records:
                yield self._check(source, record)

    def _check(self, source: Source, record: FaceRecord) -> FaceRecord:
        other = record.params.get("duplicate_of")
        if other is not None:
            detail = f"{record.source}: the same bytes as {other}"
            return record.reject(self.name, "exact duplicate", detail)
        try:
            image = source.image(record)
        except BadImage as error:
            return record.reject(self.name, error.reason, str(error))
        return replace(record, width=image.width, height=image.height)


def rendered_names(root: Path) -> list[str] | None:
    """Names of the pictures of a rendered part, each face in its style; None if this is no part.

    Raises:
        UsageError: a part that was not rendered, or one without a face.
    """
    if not (root / "part.json").is_file():
        return None
    part = Part.open(root)
    if "render" not in part.stages():
        raise UsageError(
            f"{root}: a part; wanted {WANTED}, or a part made by sfhq render; "
            "give its images/ folder"
        )
    names = sorted(r.source for r in part.records("render") if r.alive)
    if not names:
        raise UsageError(f"{root}: no face was rendered; run: sfhq render {root}")
    return names
