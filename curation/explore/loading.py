"""One shard of a part as columns: what `join_shard` gives as records, ten times as fast."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfhq.parts.about import FRAME
from sfhq.parts.files import MOST_RECORDS, read_file
from sfhq.parts.join import join_shard
from sfhq.parts.parquet import column_names, table_of
from sfhq.parts.part import Part
from sfhq.parts.photos import PHOTO_FOLDERS
from sfhq.parts.reading import FACE_ID
from sfhq.parts.records import Array, record_schema, to_columns

EMBEDDING = "embedding"
REJECTION = ("rejected_by", "reason", "detail")
MAY_LACK = ("seed", "psi", "prior_distance")  # columns of a record without a value
NO_ROW = -1


@dataclass(frozen=True)
class Shard:
    """The faces of one shard, rejected ones too.

    Attributes:
        columns: name -> Arrow array: the wanted columns of `FaceRecord`, what stages say of the
            faces, and `alive`.
        rows: (n,) int64, row in `arrays/embedding/<shard>.npy`; `NO_ROW` without one.
        photos: (n,) uint8, 1 and more for the photo folder of that place in `PHOTO_FOLDERS`; 0
            where only the source has the photo.
        digests: (n, 32) uint8, sha256 of the photo's file; zeros where `photos` is 0.
    """

    columns: Mapping[str, Any]
    rows: Array
    photos: Array
    digests: Array

    def __len__(self) -> int:
        return len(self.rows)


def read_columns(
    part: Part,
    faces: str,
    about: Sequence[str],
    shard: int,
    wanted: Sequence[str],
    types: Mapping[str, Any],
) -> Shard:
    """A shard of faces with what some stages say of them.

    Args:
        part: the part.
        faces: stage that made the faces.
        about: stages that say something about them.
        shard: number of the shard.
        wanted: columns of `FaceRecord`.
        types: column of a stage -> Arrow type.

    Raises:
        IntegrityError: damaged records.
    """
    try:
        return _read(part, faces, about, shard, wanted, types)
    except Exception:  # of an older version, or damaged: this reads the one and names the other
        return _slowly(part, faces, about, shard, wanted, types)


def _read(
    part: Part,
    faces: str,
    about: Sequence[str],
    shard: int,
    wanted: Sequence[str],
    types: Mapping[str, Any],
) -> Shard:
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = {f.name: f.type for f in record_schema()}
    needed = {*wanted, *REJECTION, "face_id", "rows", "hashes"}
    table = _table(part, faces, shard, [n for n in schema if n in needed], schema)
    ids, count = table["face_id"], len(table["face_id"])
    columns = {name: table[name] for name in wanted}
    said = {name: table[name] for name in REJECTION}
    columns |= {name: pa.nulls(count, kind) for name, kind in types.items()}
    rows, hashes = _rows(table["rows"]), [_hashes(table["hashes"], f) for f in PHOTO_FOLDERS]
    for stage in about:
        if not os.path.lexists(part.shard_path(stage, shard)):
            continue
        writes = part.stage_info(stage)["writes"]
        own = [name for name in writes if name in types]
        text = dict.fromkeys(FRAME, pa.string())
        found = _table(part, stage, shard, [*FRAME, *own], {**text, **types})
        if not found["face_id"].equals(ids):
            places = pc.index_in(ids, found["face_id"])
            found = {name: values.take(places) for name, values in found.items()}
        columns |= {name: found[name] for name in own if name in found}
        refused = pc.fill_null(pc.not_equal(found["rejected_by"], ""), False)
        first = pc.and_(pc.equal(said["rejected_by"], ""), refused)
        said = {name: pc.if_else(first, found[name], said[name]) for name in REJECTION}
        if EMBEDDING in writes:
            own_rows = _rows(found["rows"])
            rows = np.where(own_rows == NO_ROW, rows, own_rows)
        for k, folder in enumerate(PHOTO_FOLDERS):
            if folder in writes:
                hashes[k] = pc.coalesce(_hashes(found["hashes"], folder), hashes[k])
    columns |= {name: values for name, values in said.items() if name in wanted}
    columns["alive"] = pc.equal(said["rejected_by"], "")
    photos, digests = np.zeros(count, np.uint8), np.zeros((count, 32), np.uint8)
    for place in reversed(range(len(PHOTO_FOLDERS))):  # the first that a face has is its photo
        there = hashes[place].is_valid().to_numpy(zero_copy_only=False)
        photos[there] = place + 1
        digests[there] = _bytes([h for h in hashes[place].to_pylist() if h is not None])
    return Shard(columns, rows, photos, digests)


def _table(
    part: Part, stage: str, shard: int, names: Sequence[str], types: Mapping[str, Any]
) -> dict[str, Any]:
    """Some columns of a record file, by name; those that it lacks are left out.

    Raises:
        ValueError: it is not as this version writes it.
        Exception: whatever else is wrong with it.
    """
    import pyarrow.compute as pc

    data = read_file(part.shard_path(stage, shard), MOST_RECORDS)
    there = set(column_names(data))
    missing = {n for n in names if n not in there and n in (*FRAME, *record_schema().names)}
    if missing:
        raise ValueError(f"no {min(missing)}")
    found = table_of(data, [n for n in names if n in there])
    columns = {name: found[name].combine_chunks() for name in found.column_names}
    odd = [name for name, values in columns.items() if values.type != types[name]]
    whole = {*FRAME, *record_schema().names} - {*MAY_LACK}
    odd += [n for n in columns if n in whole and columns[n].null_count]
    if odd:
        raise ValueError(f"{odd[0]} is {columns[odd[0]].type}")
    ids = columns["face_id"]
    plain = pc.all(pc.match_substring_regex(ids, f"^(?:{FACE_ID.pattern})$"), min_count=0)
    if not plain.as_py() or pc.count_distinct(ids).as_py() != len(ids):
        raise ValueError("face_id")
    return columns


def _rows(texts: Any) -> Array:
    """Rows of the embedding in mappings that are canonical JSON."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.extract_regex(texts, rf'[{{,]"{EMBEDDING}":(?P<row>[0-9]{{1,9}})[,}}]')
    numbers = pc.struct_field(found, "row").cast(pa.int64())
    rows: Array = pc.fill_null(numbers, NO_ROW).to_numpy(zero_copy_only=False)
    return rows


def _hashes(texts: Any, folder: str) -> Any:
    """Digests of the files in a folder, as hexadecimal text, in such mappings."""
    import pyarrow.compute as pc

    found = pc.extract_regex(texts, rf'[{{,]"{folder}":"(?P<digest>[0-9a-f]{{64}})"')
    return pc.struct_field(found, "digest")


def _bytes(digests: Sequence[str]) -> Array:
    """(n, 32) uint8 of n digests."""
    return np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, 32)


def _slowly(
    part: Part,
    faces: str,
    about: Sequence[str],
    shard: int,
    wanted: Sequence[str],
    types: Mapping[str, Any],
) -> Shard:
    import pyarrow as pa

    records = join_shard(part, faces, about, shard)
    plain, schema = to_columns(records), record_schema()
    columns = {n: pa.array(plain[n], schema.field(n).type) for n in wanted}
    for name, kind in types.items():
        columns[name] = pa.array([r.about.get(name) for r in records], kind)
    columns["alive"] = pa.array([r.alive for r in records], pa.bool_())
    rows = np.array([r.rows.get(EMBEDDING, NO_ROW) for r in records], np.int64)
    photos, digests = np.zeros(len(records), np.uint8), np.zeros((len(records), 32), np.uint8)
    for i, record in enumerate(records):
        folder = next((f for f in PHOTO_FOLDERS if f in record.hashes), None)
        if folder is not None:
            photos[i] = PHOTO_FOLDERS.index(folder) + 1
            digests[i] = _bytes([record.hashes[folder]])[0]
    return Shard(columns, rows, photos, digests)
