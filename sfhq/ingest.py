"""Stage: bring images in. A folder, list or zip becomes the first records of a part."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sfhq.errors import UsageError, plain
from sfhq.formats import HEIF, heif
from sfhq.images import BadImage
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.parts.source import WANTED, Listing, Source
from sfhq.parts.walk import record_name
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import SourceStage

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe

MOST_KINDS = 6  # of files passed over, that a message names


@dataclass(frozen=True)
class IngestSettings:
    """See `Ingest`."""

    source: Annotated[
        Path,
        option(
            "A folder of images, a .txt list of paths, a .zip, .tar or .parquet.", argument=True
        ),
    ]
    only: Annotated[str | None, option("Take only files whose name matches.", metavar="GLOB")] = (
        None
    )
    limit: Annotated[int | None, option("Take at most this many files.", least=1)] = None
    licence: Annotated[str, option("Licence of the sources, for the records.")] = ""
    provenance: Annotated[str, option("Where the sources come from, for the records.")] = ""
    opt_out: Annotated[
        Path | None,
        option("Text file of images to leave out: a name or a sha256 a line."),
    ] = None


@dataclass(frozen=True)
class Ingest(SourceStage[IngestSettings]):
    """The stage that starts a part from images.

    Exact copies of an earlier file are rejected here, so that nothing later has to care. Run again
    on a source that has grown, it adds the new images in shards of their own; what is there stays
    as it is.

    Attributes:
        source: a folder, a .txt list of paths or a .zip.
        only: take the file names that match this pattern, such as "keep_*.jpg".
        limit: take only this many, the first ones in sorted order; None for all.
        licence: licence of the images, an SPDX id where there is one.
        provenance: where they come from, in the user's words.
        opted_out: names and digests of images that are rejected.

    A text beside an image, a .txt in a folder or what a collection has, goes into `params` as
    "text".
    """

    name: ClassVar[str] = "ingest"
    grows: ClassVar[bool] = True
    Settings: ClassVar[type[Any]] = IngestSettings
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq ingest paintings/ part-05 --only '*.jpg' --licence CC0-1.0",
    )

    source: str
    only: str | None = None
    limit: int | None = None
    licence: str = ""
    provenance: str = ""
    opted_out: frozenset[str] = frozenset()

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
            opted_out=read_opt_out(settings.opt_out),
        )

    @property
    def root(self) -> Path:
        """The source as an absolute path."""
        return Path(self.source).expanduser().resolve()

    def settings(self) -> dict[str, Json]:
        """What decides the records; not how many images there are, for a source may grow.

        Raises:
            UsageError: as `names`.
        """
        self.names()
        return {
            "source": record_name(str(self.root)),
            "only": self.only,
            "limit": self.limit,
            "licence": self.licence,
            "provenance": self.provenance,
            **({"opted_out": _digest_of(self.opted_out)} if self.opted_out else {}),
        }

    def names(self, skip: Path | None = None) -> list[str]:
        """Names of the images to take, sorted; reads no image.

        Args:
            skip: a folder to leave out.

        Raises:
            UsageError: the source is missing, damaged or empty, nothing matches `only`, or
                `limit` is not positive.
        """
        return list(self._listing(skip).names[: self.limit])

    def _listing(self, skip: Path | None) -> Listing:
        """All that matches `only`, beyond `limit` as well."""
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit}: wanted 1 or more; leave it out for all")
        rendered = rendered_names(self.root)
        if rendered is not None:
            listing = Listing(tuple(rendered))
        else:
            with Source(self.root) as source:
                listing = source.listing(skip)
        if self.only is None:
            return listing
        names = tuple(n for n in listing.names if self._matches(n))
        passed = tuple((kind, n) for kind, n in listing.passed_over if self._matches(n))
        if not names:
            raise UsageError(
                f"{self.root}: none of its {len(listing.names)} images matches --only "
                f"'{self.only}'; the first is {PurePosixPath(listing.names[0]).name}; give a wider "
                f"pattern{_told(passed)}"
            )
        return Listing(names, passed)

    def _matches(self, name: str) -> bool:
        return self.only is None or fnmatchcase(PurePosixPath(name).name, self.only)

    def passed_over(self, part: Part) -> dict[str, int]:
        """Kind -> number of the files that are not taken as images: a suffix, or a few words.

        With `only`, of those that match it.

        Raises:
            UsageError: as `names`.
        """
        listing = self._listing(part.root)
        return dict(sorted(Counter(kind for kind, _ in listing.passed_over).items()))

    def more(self, part: Part) -> bool:
        """Whether the source holds images that the part lacks.

        Raises:
            UsageError: images that the part was made from are not in the source any more.
        """
        names = self._listing(part.root).names
        gone = sorted({r.source for r in part.records(self.name) if r.alive} - {*names})
        if gone:
            raise UsageError(
                f"{part.root}: {len(gone)} of its images are not in {self.root} any more, first "
                f"{gone[0]}; put them back, or leave them out with all that was made of them by: "
                f"sfhq ingest {self.root} {part.root} --redo"
            )
        return bool(self._new(part, names))

    def _new(self, part: Part, names: Iterable[str]) -> list[str]:
        """Names that no finished shard holds, as many as `limit` allows."""
        known = {r.source for r in part.records(self.name)}
        room = None if self.limit is None else max(0, self.limit - len(known))
        return list(itertools.islice((n for n in names if n not in known), room))

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        """One record an image that the part lacks, with the digest of its bytes.

        Copies name the first of them.

        Raises:
            UsageError: as `names`, at the call and not at the first record.
        """
        return self._seeds(part, self._listing(part.root).names)

    def _seeds(self, part: Part, names: Iterable[str]) -> Iterator[FaceRecord]:
        first = {
            r.source_sha256: r.source
            for r in part.records(self.name)
            if r.source_sha256 and "duplicate_of" not in r.params
        }
        new = self._new(part, names)
        with Source(self.root) as source:
            for name in new:
                try:
                    digest = hashlib.sha256(source.read(name)).hexdigest()
                except BadImage:  # rejected with its reason when it is decoded
                    digest = ""
                other = first.setdefault(digest, name) if digest else name
                text = source.text(name)
                yield FaceRecord(
                    face_id=hashlib.sha256((digest + name).encode()).hexdigest()[:16],
                    source=name,
                    source_sha256=digest,
                    licence=self.licence,
                    provenance=self.provenance,
                    params={
                        **({} if other == name else {"duplicate_of": other}),
                        **({"text": text} if text else {}),
                    },
                )

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Decode each image to know that it can be used, and how large it is."""
        with Source(self.root) as source:
            for record in records:
                yield self._check(source, record)

    def _check(self, source: Source, record: FaceRecord) -> FaceRecord:
        if self.opted_out & {
            record.source,
            PurePosixPath(record.source).name,
            record.source_sha256,
        }:
            return record.reject(self.name, "opted out", plain(record.source))
        try:
            image = source.image(record)
        except BadImage as error:  # five copies of a page that says "not found" are no image first
            return record.reject(self.name, error.reason, str(error))
        other = record.params.get("duplicate_of")
        if other is not None:
            detail = plain(f"{record.source}: the same bytes as {other}")
            return record.reject(self.name, "exact duplicate", detail)
        return replace(record, width=image.width, height=image.height)


def read_opt_out(path: Path | None) -> frozenset[str]:
    """The lines of a list of images to leave out; none for None.

    Raises:
        UsageError: the list cannot be read.
    """
    if path is None:
        return frozenset()
    try:
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: cannot read the opt-out list ({error}); wanted UTF-8 text, one name or "
            "sha256 a line"
        ) from None
    return frozenset(line.strip() for line in text.splitlines() if line.strip())


def _digest_of(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def passed_over_line(passed: Mapping[str, int]) -> str:
    """What was passed over, as a message of one line.

    Args:
        passed: kind -> number, as `Ingest.passed_over` gives it.
    """
    most = sorted(passed.items(), key=lambda item: (-item[1], item[0]))
    kinds = ", ".join(f"{number} {plain(kind)}" for kind, number in most[:MOST_KINDS])
    if len(most) > MOST_KINDS:
        kinds += f", {sum(n for _, n in most[MOST_KINDS:])} of {len(most) - MOST_KINDS} other kinds"
    line = f"{sum(passed.values())} files passed over: {kinds}"
    if not heif() and any(kind in HEIF for kind in passed):
        line += f"; to read {' '.join(HEIF)}: pip install 'sfhq[heif]'"
    return line


def _told(passed: tuple[tuple[str, str], ...]) -> str:
    return f"; {passed_over_line(Counter(kind for kind, _ in passed))}" if passed else ""


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
