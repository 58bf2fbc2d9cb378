"""Stage: no two photos that stay are near-duplicates."""

from __future__ import annotations

import io
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from curation.pairs.finders import SEARCHES, Dropped, Finder, Search, Tiled, Whole
from curation.pairs.manifest import TileSearch, require_proof
from curation.pairs.search import BLOCK, WAYS, Way, first_violation
from curation.sharpness import Detail, photo_details
from sfhq.errors import IntegrityError, UsageError, apart
from sfhq.images import write_atomic
from sfhq.parts.lineage import require_complete
from sfhq.parts.part import Part
from sfhq.parts.records import Array, ColumnType, FaceRecord, Json
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Scope, Stage
from sfhq.pipeline.workers import engine_in_use

# A threshold means nothing without its encoder. 0.92 is what SFHQ states for CLIP ViT-L/14@336;
# dlib's was set where augmented copies of a face end and other people begin (docs/dedup.md).
THRESHOLDS = {"clip": 0.92, "dlib-face": 0.985, "flip": 0.991}
WORST = float("inf")
PROOF = "dedup.tiles.json"  # of a search by tiles

Order = npt.NDArray[np.int64]
# -score, -resemblance, distance of the person, prior distance, -pixels, `Detail` turned round,
# length of the source's path, face id
Rank = tuple[float, float, float, float, int, tuple[int, ...], int, str]
UNJUDGED = (WORST, WORST, WORST, WORST)  # how ranks begin of photos of which nothing is said


if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe


@dataclass(frozen=True)
class DedupSettings:
    """See `Dedup`."""

    threshold: Annotated[
        float | None,
        option(
            "Cosine above which two photos are near-duplicates.",
            least=-1,
            most=1,
            default="the encoder's own",
        ),
    ] = None
    published: Annotated[
        tuple[Path, ...],
        option("An earlier part: its photos stay, and nothing near them does. May be repeated."),
    ] = ()
    way: Annotated[
        Literal["auto", "int8", "bf16", "f32"],
        option("Arithmetic of the search for pairs; changes the speed only."),
    ] = "auto"
    search: Annotated[
        Literal["auto", "whole", "tiles"],
        option(
            "Whether pairs are looked for in this process or by the workers, in tiles; changes "
            "the speed only. auto: tiles on a Ray cluster."
        ),
    ] = "auto"


@dataclass(frozen=True)
class Dedup(Stage[DedupSettings]):
    """Keeps the best of every group of near-duplicates.

    Best is the highest `score`; without scores, the highest `resemblance` to the art; without both,
    the candidate that keeps the person, by the smallest `params["person"]` of `synthesize`; then
    the smallest `prior_distance`; without all of them, the source of most pixels, and of equally
    large ones the photo of most detail (`Detail`).
    Ties go by the length of the source's path, because names of copies are mostly longer, then by
    face id.
    The audit table, `audit/dedup.parquet` with `dropped`, `kept`, `similarity` and, where the
    kept one is in a published part, that `part`, names for every dropped photo the one that
    stays in its stead. A search that was killed goes on where it last saved.

    Attributes:
        threshold: photos with a cosine strictly above it are near-duplicates; None takes
            the default of the encoder that `embed` used.
        block: rows compared at a time; bounds the memory, does not change the result.
        published: roots of published parts: their photos are kept first, and no photo near one of
            them is kept.
        way: how pairs are looked for; changes the speed only.
        search: where, see `curation.pairs.finders`. By tiles, `audit/dedup.tiles.json` names each
            tile with the number and digest of its pairs.
    """

    name: ClassVar[str] = "dedup"
    scope: ClassVar[Scope] = "part"
    reads: ClassVar[tuple[str, ...]] = ("embedding",)
    wants: ClassVar[tuple[str, ...]] = ("score", "resemblance")
    columns: ClassVar[Mapping[str, ColumnType]] = {
        "duplicate_of": "text",
        "duplicate_similarity": "number",
    }
    Settings: ClassVar[type[Any]] = DedupSettings
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq dedup part-05",
        "sfhq dedup part-05 --published part-01 --published part-02",
        "sfhq dedup part-05 --verify",
        "sfhq dedup part-05 --calibrate --report calibration.html",
    )

    threshold: float | None = None
    block: int = BLOCK
    published: tuple[Path, ...] = ()
    way: Way = "auto"
    search: Search = "auto"

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise UsageError(f"search is {self.search!r}; wanted one of {', '.join(SEARCHES)}")
        if self.way not in WAYS:
            raise UsageError(f"way is {self.way!r}; wanted one of {', '.join(WAYS)}")
        if self.threshold is not None and not -1.0 <= self.threshold <= 1.0:
            raise UsageError(f"threshold is {self.threshold}; wanted a cosine, -1 to 1")

    @classmethod
    def build(cls, settings: DedupSettings, recipe: Recipe, part: Path) -> Dedup:
        """The stage that a recipe describes."""
        return cls(
            threshold=settings.threshold,
            published=settings.published,
            way=settings.way,
            search=settings.search,
        )

    def check(self, part: Part) -> None:
        """Refuse published parts that cannot be compared, and an encoder without a threshold."""
        self.threshold_for(part)
        for other in published_parts(part, self.published):
            vectors = Vectors(part)
            vectors.add_published(other)
            vectors.require_sound()

    def settings(self) -> dict[str, Json]:
        """The threshold as given, and the names of the published parts."""
        if not self.published:
            return {"threshold": self.threshold}
        names: list[Json] = sorted(Part.open(root).name for root in self.published)
        return {"threshold": self.threshold, "published": names}

    def threshold_for(self, part: Part) -> float:
        """The threshold in force in a part.

        Raises:
            UsageError: none was given and the part's encoder has no default.
        """
        if self.threshold is not None:
            return self.threshold
        encoder = str(part.stage_info("embed")["settings"].get("encoder"))
        if encoder not in THRESHOLDS:
            raise UsageError(f"no default threshold for embeddings of {encoder}; give --threshold")
        return THRESHOLDS[encoder]

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Yield all records in order, near-duplicates rejected."""
        threshold = self.threshold_for(part)
        vectors = Vectors(part)
        names: list[tuple[str, str]] = []  # (published part or "", face id)
        shards: list[int] = []
        for other in published_parts(part, self.published):
            names.extend((other.name, face_id) for face_id in vectors.add_published(other))
        frozen = len(names)
        ranks: list[Rank] = []
        unjudged: dict[int, FaceRecord] = {}  # index -> what its photo is found by
        for record in records:  # of each only what ranking needs
            vectors.add(record.shard, _row(part, record))
            names.append(("", record.face_id))
            ranks.append(rank(record))
            if ranks[-1][:4] == UNJUDGED:
                unjudged[frozen + len(ranks) - 1] = _photo_only(record)
            shards.append(record.shard)

        def ordered(indices: Iterable[int]) -> Order:
            """Published photos, then these, best first."""
            best = sorted(indices, key=lambda i: ranks[i - frozen])
            return np.asarray([*range(frozen), *best], dtype=np.int64)

        order = ordered(range(frozen, len(names)))
        finder = self._finder(part, vectors, threshold, frozen)
        dropped = finder.first(order)
        if unjudged.keys() & dropped.keys():
            near = finder.near(order, dropped)
            blind = [i for i in near if i in unjudged]
            found = photo_details(part, [unjudged[i] for i in blind])
            for i, detail in zip(blind, found, strict=True):
                ranks[i - frozen] = with_detail(ranks[i - frozen], detail)
            dropped = finder.again(ordered(near))
        _write_audit(part, names, dropped)
        finder.finish()
        for index, shard in enumerate(shards, start=frozen):
            record = FaceRecord(names[index][1], shard=shard)
            if index in dropped:
                winner, cosine = dropped[index]
                kept = _full_name(names[winner])
                record = record.with_columns(duplicate_of=kept, duplicate_similarity=cosine)
                said, limit = apart(cosine, threshold, least=4)
                yield record.reject(
                    self.name, "near-duplicate", f"cosine {said} with {kept} is above {limit}"
                )
            else:
                yield record

    def _finder(self, part: Part, vectors: Vectors, threshold: float, frozen: int) -> Finder:
        """What looks for pairs: this process, or the workers of the run."""
        audit = part.root / "audit"
        progress, proof = audit / "dedup.progress.npz", audit / PROOF
        part.make_room(progress)
        engine = engine_in_use()
        if self.search == "whole" or (self.search == "auto" and not engine.spreads):
            return Whole(vectors.rows, threshold, frozen, progress, proof, self.block, self.way)
        folder = audit / "dedup.tiles.part"
        part.make_room(folder / "vectors.npy")
        tiles = TileSearch(part.root, self.name, folder, proof, threshold, frozen, self.way)
        return Tiled(vectors.rows, tiles, vectors.together, engine)


def rank(record: FaceRecord) -> Rank:
    """What near-duplicates are compared by; the smallest one stays. Sharpness is not known yet.

    Raises:
        IntegrityError: a score or distance that is not finite; it would break the order.
    """
    said = {
        "score": record.about.get("score"),
        "resemblance": record.about.get("resemblance"),
        "person": record.params.get("person"),
        "prior_distance": record.prior_distance,
    }
    for name, value in said.items():
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            raise IntegrityError(f"{record.face_id}: {name} is {value}; wanted a finite number")
    score, kept, person, distance = said.values()
    known = (
        WORST if score is None else -score,
        WORST if kept is None else -kept,
        WORST if person is None else person,
        WORST if distance is None else distance,
    )
    if known != UNJUDGED:
        return (*known, 0, (), 0, record.face_id)
    return (*known, -record.width * record.height, (), len(record.source), record.face_id)


def with_detail(known: Rank, detail: Detail) -> Rank:
    """A rank whose photo has been looked at."""
    return (*known[:5], tuple(-number for number in detail), *known[6:])


def _photo_only(record: FaceRecord) -> FaceRecord:
    """Of a record only what its photo is found by."""
    return FaceRecord(
        record.face_id,
        source=record.source,
        source_sha256=record.source_sha256,
        hashes=record.hashes,
    )


def _row(part: Part, record: FaceRecord) -> int:
    """Row of a face's vector in its shard of the embedding."""
    if "embedding" not in record.rows:
        raise IntegrityError(
            f"{part.root}: face {record.face_id} has no embedding; run: sfhq embed {part.root}"
        )
    return record.rows["embedding"]


def _full_name(name: tuple[str, str]) -> str:
    return "/".join(part for part in name if part)


def published_parts(part: Part, roots: Sequence[Path]) -> list[Part]:
    """Open published parts, in the order of their names.

    Raises:
        UsageError: one is the part itself, is named twice, or was embedded by another encoder.
    """
    opened = sorted((Part.open(root) for root in roots), key=lambda p: (p.name, str(p.root)))
    mine = part.stage_info("embed")["settings"]
    for i, other in enumerate(opened):
        if other.root.resolve() in [p.root.resolve() for p in (part, *opened[:i])]:
            raise UsageError(f"{other.root}: published and compared with itself; name it once")
        theirs = other.stage_info("embed")["settings"]
        for key in ("encoder", "digest"):
            if theirs.get(key) != mine.get(key):
                raise UsageError(
                    f"{other.root}: embedded with {key} {theirs.get(key)}, {part.root} with "
                    f"{mine.get(key)}; cosines cannot be compared: sfhq embed --redo one of them"
                )
    return opened


class Vectors:
    """Embeddings and records of parts by index, one shard cached; rows stay on disk.

    Args:
        part: whose `embed` records and arrays to read.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self._parts = [part]
        self._width = 0
        self._places = array("q")  # part, shard, row of each

    def add(self, shard: int, row: int) -> None:
        """Register the next index: its shard, and its row in the embedding's array."""
        self._places.extend((0, shard, row))

    def add_published(self, other: Part) -> list[str]:
        """Register all photos of another part that stayed; their face ids."""
        self._parts.append(other)
        ids = []
        for record in other.faces():
            if "embedding" in record.rows:
                self._places.extend((len(self._parts) - 1, record.shard, record.rows["embedding"]))
                ids.append(record.face_id)
        return ids

    def require_sound(self) -> None:
        """Read the vectors of all that was registered, a block at a time.

        Raises:
            IntegrityError: as `rows`.
        """
        count = len(self._places) // 3
        for start in range(0, count, BLOCK):
            self.rows(np.arange(start, min(start + BLOCK, count), dtype=np.int64))

    def _of(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(n, 3): part, shard and row of some indices."""
        places = np.frombuffer(self._places, dtype=np.int64).reshape(-1, 3)
        found: npt.NDArray[np.int64] = places[indices]
        return found

    def together(self, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The places of an order, those whose vectors lie in one file after each other."""
        part, shard, _ = self._of(order).T
        return np.lexsort((shard, part))

    def rows(self, indices: npt.NDArray[np.int64]) -> Array:
        """(n, D) float32 embeddings, finite and of unit length.

        Raises:
            IntegrityError: an array is missing, damaged or was changed, or has another width.
        """
        by_shard: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
        for place, (part, shard, row) in enumerate(self._of(indices).tolist()):
            some = by_shard.setdefault((part, shard), ([], []))
            some[0].append(place)
            some[1].append(row)
        result: Array | None = None
        for (part, shard), (places, rows) in by_shard.items():
            values = self._parts[part].rows("embedding", shard, rows)
            self._width = self._width or values.shape[1]
            if values.shape[1] != self._width:
                raise IntegrityError(
                    f"{self._parts[part].array_path('embedding', shard)}: vectors of "
                    f"{values.shape[1]} numbers, others have {self._width}; run: sfhq embed "
                    f"{self._parts[part].root} --redo"
                )
            if result is None:
                result = np.empty((len(indices), values.shape[1]), dtype=np.float32)
            result[places] = values
        return np.empty((0, 0), dtype=np.float32) if result is None else result


def _write_audit(part: Part, names: list[tuple[str, str]], dropped: Dropped) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = sorted(dropped.items())
    table = pa.table(
        {
            "dropped": pa.array([names[i][1] for i, _ in rows], pa.string()),
            "kept": pa.array([names[k][1] for _, (k, _) in rows], pa.string()),
            "similarity": pa.array([c for _, (_, c) in rows], pa.float64()),
            "part": pa.array([names[k][0] for _, (k, _) in rows], pa.string()),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomic(part.root / "audit" / "dedup.parquet", buffer.getvalue())


def verify(part: Part, threshold: float, published: Sequence[Path] = ()) -> int:
    """Check the guarantee on what stayed, independently of how it was chosen.

    Args:
        part: the part.
        threshold: the cosine.
        published: roots of parts that nothing here may be near either.

    Returns:
        The number of photos that stayed.

    Raises:
        IntegrityError: two of them are closer than the threshold.
    """
    vectors = Vectors(part)
    names: list[str] = []
    proof = part.root / "audit" / PROOF
    if proof.exists():
        require_proof(proof)
    for other in published_parts(part, published):
        names.extend(f"{other.name}/{i}" for i in vectors.add_published(other))
    frozen = len(names)
    require_complete(part, "dedup")
    for record in part.faces():
        vectors.add(record.shard, _row(part, record))
        names.append(record.face_id)
    if len(names) == frozen:
        return 0
    everything = vectors.rows(np.arange(len(names)))
    pair = first_violation(everything, threshold, frozen=frozen)
    if pair is not None:
        raise IntegrityError(
            f"{part.root}: {names[pair[0]]} and {names[pair[1]]} are closer than {threshold}; "
            "run: sfhq dedup --redo"
        )
    return len(names) - frozen
