"""Parts in memory: one DuckDB table of all their faces, and what it takes to read each again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curation.explore.loading import read_columns
from curation.explore.vectors import Vectors
from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.join import join_shard
from sfhq.parts.lineage import about_stages, faces_stage, require_found
from sfhq.parts.part import Part
from sfhq.parts.photos import PHOTO_FOLDERS
from sfhq.parts.records import Array, FaceRecord, record_schema
from sfhq.parts.table import joint_types

# Long columns that the grid, the facets and conditions do without; a face's details have them all.
LEFT_OUT = (
    *("rows", "hashes", "quad", "captions", "caption_facts"),
    *("caption_derivations", "caption_log_probabilities"),
)
SECONDS = 10.0  # a condition that takes longer is given up
RECORDS = 20_000  # kept in memory, for details
MEMORY = "600MB"  # that DuckDB may take


class Collection:
    """The faces of one or several parts, rejected ones too. Threads may share it.

    The table `faces` has the columns of `sfhq table` but for `LEFT_OUT`, and two more: `part`, the
    part's name, and `i`, the number of the face in this collection, from 0.

    Args:
        parts: at least one; their faces follow each other.

    Attributes:
        parts: the parts.
        names: of the parts, each once.
        vectors: embeddings of the faces.

    Raises:
        UsageError: a part has no faces, or two parts have columns of one name and other types.
        IntegrityError: damaged records or arrays.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        import duckdb

        self.parts = tuple(parts)
        self.names = _names(self.parts)
        self._stamps = [_stamp(p) for p in self.parts]
        self._lock = threading.Lock()
        self._shards: OrderedDict[tuple[int, int], dict[str, FaceRecord]] = OrderedDict()
        # Nothing is written: what does not fit into the memory is refused.
        config: dict[str, Any] = {"threads": "2", "temp_directory": ""}
        self._base = duckdb.connect(":memory:", config=config)
        self._base.execute("ATTACH ':memory:' AS kept (COMPRESS)")
        self._base.execute("USE kept")
        self._base.execute("SET enable_external_access=false")
        self._base.execute(f"SET memory_limit='{MEMORY}'")
        self._stages = [(faces_stage(p), about_stages(p, faces_stage(p))) for p in self.parts]
        self.count = sum(p.rows_of(s[0]) for p, s in zip(self.parts, self._stages, strict=True))
        if not self.count:
            raise UsageError(f"{self.parts[0].root}: no faces yet; run: sfhq run")
        self.part_of = np.zeros(self.count, np.uint16)
        self.shard_of = np.zeros(self.count, np.int32)
        self._photos = np.zeros(self.count, np.uint8)
        self._digests = np.zeros((self.count, 32), np.uint8)
        self.vectors = Vectors(self.parts, self.count)
        self._load()
        self._base.execute("CHECKPOINT kept")
        self._base.execute("SET lock_configuration=true")
        told = self._base.execute("DESCRIBE faces").fetchall()
        self.types: dict[str, str] = {row[0]: row[1] for row in told}

    def _load(self) -> None:
        import pyarrow as pa

        types = {
            k: v
            for k, v in joint_types(self.parts, "explore them one at a time").items()
            if k not in LEFT_OUT
        }
        fields = [f for f in record_schema() if f.name not in LEFT_OUT]
        extra = {"alive": pa.bool_(), "shard": pa.int64(), "part": pa.string(), "i": pa.int32()}
        schema = pa.schema([*fields, *(pa.field(k, v) for k, v in {**extra, **types}.items())])
        self._base.register("empty", schema.empty_table())
        self._base.execute("CREATE TABLE faces AS SELECT * FROM empty")
        self._base.unregister("empty")
        wanted, first = [f.name for f in fields], 0
        ids: list[list[Any]] = [[] for _ in self.parts]
        for number, (part, (faces, about)) in enumerate(zip(self.parts, self._stages, strict=True)):
            require_found(part)
            for shard in part.shards(faces):
                found = read_columns(part, faces, about, shard, wanted, types)
                count, end = len(found), first + len(found)
                if end > self.count:
                    raise self._changing(part)
                self.part_of[first:end], self.shard_of[first:end] = number, shard
                self._photos[first:end], self._digests[first:end] = found.photos, found.digests
                self.vectors.add(number, shard, first, found.rows)
                ids[number].append(found.columns["face_id"])
                more = {
                    "shard": pa.repeat(pa.scalar(shard, pa.int64()), count),
                    "part": pa.repeat(self.names[number], count),
                    "i": pa.array(np.arange(first, end, dtype=np.int32)),
                }
                columns = {**found.columns, **more}
                rows = pa.table([columns[name] for name in schema.names], schema=schema)
                self._base.register("rows", rows)
                self._base.execute("INSERT INTO faces SELECT * FROM rows")
                self._base.unregister("rows")
                first = end
        if first != self.count:
            raise self._changing(self.parts[-1])
        self._ids = [pa.chunked_array(some, pa.string()).combine_chunks() for some in ids]
        self._starts = np.cumsum([0, *(len(some) for some in self._ids)])

    @staticmethod
    def _changing(part: Part) -> IntegrityError:
        return IntegrityError(
            f"{part.root}: changes while it is read; wait until sfhq has ended there, then run: "
            f"sfhq explore {part.root}"
        )

    def cursor(self) -> Any:
        """A connection of one thread to the table."""
        found = self._base.cursor()
        found.execute("USE kept")
        return found

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of our own SQL, whose values are bound."""
        found: list[tuple[Any, ...]] = self.cursor().execute(sql, list(values)).fetchall()
        return found

    def column(self, sql: str, values: Sequence[Any] = ()) -> Array:
        """One column of our own SQL as an array."""
        found = self.cursor().execute(sql, list(values)).fetchnumpy()
        column: Array = np.ma.filled(next(iter(found.values())))
        return column

    def matching(self, condition: str) -> Array:
        """Numbers of the faces for which an SQL condition of the user holds.

        Raises:
            UsageError: DuckDB does not understand it, it is more than one condition, or it takes
                longer than `SECONDS`.
        """
        import duckdb

        cursor = self.cursor()
        sql = f"SELECT i FROM faces WHERE (\n{condition}\n)"
        timer = threading.Timer(SECONDS, cursor.interrupt)
        try:
            statements = cursor.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise UsageError("where: wanted one SQL condition, such as years > 60")
            timer.start()
            found: Array = np.ma.filled(cursor.execute(sql).fetchnumpy()["i"])
            return found
        except duckdb.InterruptException:
            raise UsageError(f"where: took longer than {SECONDS:.0f} s; ask for less") from None
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise UsageError(f"where: {first}; the columns are: {', '.join(self.types)}") from None
        finally:
            timer.cancel()

    def require_unchanged(self) -> None:
        """Refuse to go on where a part has changed since it was read.

        Raises:
            IntegrityError: names the file and what to do.
        """
        for part, stamps in zip(self.parts, self._stamps, strict=True):
            now = _stamp(part)
            if now != stamps:
                changed = sorted(
                    p for p in {*now, *stamps} if now.get(p, (0, 0)) != stamps.get(p, (0, 0))
                )
                raise IntegrityError(
                    f"{part.root / changed[0]}: changed since this server read it; stop the "
                    f"server with Ctrl-C and start it again: sfhq explore {part.root}"
                )

    def find(self, name: str, face_id: str) -> int:
        """Number of a face.

        Raises:
            UsageError: no part of that name has such a face.
        """
        import pyarrow.compute as pc

        number = self.names.index(name) if name in self.names else -1
        place = -1 if number < 0 else pc.index(self._ids[number], face_id).as_py()
        if place < 0:
            raise UsageError(f"no face {face_id[:80]!r} in a part named {name[:80]!r}")
        return int(self._starts[number]) + int(place)

    def require(self, i: int) -> None:
        """Refuse a number that no face has.

        Raises:
            UsageError: it is out of range.
        """
        if not 0 <= i < self.count:
            raise UsageError(f"face {str(i)[:20]}: wanted a number from 0 to {self.count - 1}")

    def face_id(self, i: int) -> str:
        """The id of a face.

        Raises:
            UsageError: no face has that number.
        """
        self.require(i)
        number = int(self.part_of[i])
        return str(self._ids[number][i - int(self._starts[number])].as_py())

    def part(self, i: int) -> Part:
        """The part of a face."""
        return self.parts[int(self.part_of[i])]

    def record(self, i: int) -> FaceRecord:
        """The whole record of a face, read from its shard.

        Raises:
            UsageError: no face has that number.
            IntegrityError: damaged records.
        """
        face_id = self.face_id(i)
        key = int(self.part_of[i]), int(self.shard_of[i])
        with self._lock:
            records = self._shards.get(key)
            if records is None:
                faces, about = self._stages[key[0]]
                found = join_shard(self.parts[key[0]], faces, about, key[1])
                records = self._shards[key] = {r.face_id: r for r in found}
                while len(self._shards) > 1 and sum(map(len, self._shards.values())) > RECORDS:
                    self._shards.popitem(last=False)
            self._shards.move_to_end(key)
        if face_id not in records:
            raise IntegrityError(f"{self.part(i).root}: face {face_id} is gone; start anew")
        return records[face_id]

    def photo_record(self, i: int) -> FaceRecord:
        """Enough of a record to read the photo of a face; a whole one where only the source is."""
        self.require(i)
        place = int(self._photos[i])
        if not place:
            return self.record(i)
        hashes = {PHOTO_FOLDERS[place - 1]: self._digests[i].tobytes().hex()}
        return FaceRecord(self.face_id(i), hashes=hashes, shard=int(self.shard_of[i]))


def _names(parts: Sequence[Part]) -> tuple[str, ...]:
    """Names of parts; those of one name are told apart by numbers."""
    names: list[str] = []
    for part in parts:
        name, number = part.name, 1
        while name in names:
            number += 1
            name = f"{part.name}-{number}"
        names.append(name)
    return tuple(names)


def _stamp(part: Part) -> Mapping[Path, tuple[int, int]]:
    """Size and time of the files that say what a part holds."""
    files = [part.root / "part.json", *(part.root / "records").glob("*.json")]
    found = {}
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            continue
        found[path.relative_to(part.root)] = stat.st_size, stat.st_mtime_ns
    return found
