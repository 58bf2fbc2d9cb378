"""Some faces of a part as a part of their own: records, arrays and images, with their lineage."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from curation.labels.store import FILE, LabelStore
from sfhq.errors import IntegrityError, UsageError
from sfhq.images import write_atomic
from sfhq.parts import arrays
from sfhq.parts.files import MOST_RECORDS, read_file
from sfhq.parts.lineage import faces_stage, require_complete, require_found
from sfhq.parts.parquet import table_of
from sfhq.parts.part import FORMAT, Part
from sfhq.parts.photos import MOST_IMAGE
from sfhq.parts.reading import FACE_ID
from sfhq.parts.records import canonical_json, read_mapping
from sfhq.pipeline.counts import count_stage


def write_part(source: Part, ids: Collection[str], target: Path) -> Part:
    """Copy faces and all that they came from into a new part.

    Settings and fingerprints of the stages stay, so the new part can be read, redone and grown as
    the old one. Files of images are copied byte by byte, each checked against its digest. Nothing
    is at `target` before all of it is.

    Args:
        source: the part; it is only read.
        ids: of the faces.
        target: folder of the new part; it must not exist.

    Returns:
        The new part.

    Raises:
        UsageError: no faces, a name that no part can have, a folder that exists or cannot be
            written, or a part of an older format.
        IntegrityError: damaged records or arrays, or an image that is missing or was changed.
    """
    if not ids:
        raise UsageError("new part: no face is chosen")
    if not FACE_ID.fullmatch(target.name):
        raise UsageError(
            f"new part: {target.name[:80]!r} is no name for one; wanted letters, digits, . _ + -"
        )
    if os.path.lexists(target):
        raise UsageError(f"{target}: is there already; give the new part another name")
    require_found(source)
    stages = [s for s in source.stages() if source.stage_info(s)["complete"]]
    for stage in stages:
        require_complete(source, stage)
        if not (source.root / "records" / f"{stage}.json").is_file():
            raise UsageError(
                f"{source.root}: a part of an older format than {FORMAT}; run any stage in it "
                "first, or use: sfhq export"
            )
    kept = _kept(source, stages, ids)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise UsageError(f"{target.parent}: cannot write here ({error.strerror})") from None
    try:
        part = Part.create(work / "part", name=target.name)
        _copy(source, part, stages, kept)
        os.rename(part.root, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Part.open(target)


def _kept(source: Part, stages: list[str], ids: Collection[str]) -> dict[str, set[str]]:
    """Stage -> ids of the faces whose rows stay: the chosen ones and what they came from."""
    kept: dict[str, set[str]] = {}
    wanted = {*ids}
    infos = {s: source.stage_info(s) for s in stages}
    last = faces_stage(source)
    for stage in reversed([s for s in stages if infos[s]["kind"] != "about"]):
        parents: set[str] = set()
        kept[stage] = set()
        for shard in source.shards(stage):
            table = _table(source, stage, shard)
            pairs = zip(table["face_id"].to_pylist(), table["parent_id"].to_pylist(), strict=True)
            for face, parent in pairs:
                if face in wanted:
                    kept[stage].add(face)
                    parents.add(parent)
        if stage == last and len(kept[stage]) != len({*ids}):
            gone = min({*ids} - kept[stage])
            raise UsageError(f"{source.root}: no face {gone[:80]!r}")
        wanted |= parents - {""}
    for stage in stages:
        if infos[stage]["kind"] == "about":
            faces = (s for s in infos[stage]["inputs"] if s in kept and infos[s]["kind"] != "about")
            kept[stage] = kept[next(faces, last)]
    return kept


def _copy(source: Part, part: Part, stages: list[str], kept: Mapping[str, set[str]]) -> None:
    shards = sorted({n for stage in stages for n in source.shards(stage)})
    images: set[tuple[str, str]] = set()
    number = 0
    for shard in shards:
        tables = {}
        for stage in stages:
            if shard in source.shards(stage):
                table = _table(source, stage, shard)
                mask = [face in kept[stage] for face in table["face_id"].to_pylist()]
                tables[stage] = table.filter(mask)
        if any(t.num_rows for t in tables.values()):
            _write_shard(source, part, tables, shard, number)
            for table in tables.values():
                _copy_images(source, part, table, images)
            number += 1
    for stage in stages:
        info = {k: v for k, v in source.stage_info(stage).items() if k != "passed_over"}
        info |= {"shards": len(part.shards(stage)), "rows": part.rows_of(stage)}
        if "sees" in info:
            info["sees"] = number
        part.write_stage_info(stage, info)
    for stage in stages:
        counts = count_stage(part, stage).to_dict()
        part.write_stage_info(stage, {**part.stage_info(stage), "counts": counts})
    part.write_ended(stages)
    if (source.root / FILE).is_file():
        _copy_labels(source.root / FILE, part.root / FILE, set().union(*kept.values()))


def _table(part: Part, stage: str, shard: int) -> Any:
    """A record file as an Arrow table.

    Raises:
        IntegrityError: it is damaged.
    """
    path = part.shard_path(stage, shard)
    try:
        return table_of(read_file(path, MOST_RECORDS))
    except Exception as error:
        raise IntegrityError(
            f"{path}: damaged records ({type(error).__name__}); delete the file and run: "
            f"sfhq {stage} {part.root}"
        ) from None


def _write_shard(
    source: Part, part: Part, tables: Mapping[str, Any], shard: int, number: int
) -> None:
    """The rows of all stages of one shard, and the rows of arrays that they name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {
        s: [read_mapping(t, int) for t in table["rows"].to_pylist()] for s, table in tables.items()
    }
    named: dict[str, set[int]] = {}
    for mapping in (m for some in rows.values() for m in some):
        for name, row in mapping.items():
            named.setdefault(name, set()).add(row)
    order = {name: sorted(some) for name, some in named.items()}
    places = {name: {row: k for k, row in enumerate(some)} for name, some in order.items()}
    sums = {}
    for name, some in order.items():
        values = source.rows(name, shard, some)
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        path = part.array_path(name, number)
        part.make_room(path)
        write_atomic(path, buffer.getvalue())
        sums[name] = arrays.sum_of(values)
    for stage, table in tables.items():
        texts = [canonical_json({n: places[n][r] for n, r in m.items()}) for m in rows[stage]]
        column = table.schema.get_field_index("rows")
        table = table.set_column(column, "rows", pa.array(texts, pa.string()))
        vouched = arrays.footer(source.shard_path(stage, shard)).sums
        own = {name: total for name, total in sums.items() if name in vouched}
        buffer = io.BytesIO()
        told = table.replace_schema_metadata(arrays.to_metadata(own) or None)
        pq.write_table(told, buffer, compression="zstd", write_page_checksum=True)
        path = part.shard_path(stage, number)
        part.make_room(path)
        write_atomic(path, buffer.getvalue())


def _copy_images(source: Part, part: Part, table: Any, done: set[tuple[str, str]]) -> None:
    """The files that the rows of a table name by their digests; `done` are not copied again."""
    parents: Iterable[str] = [""] * table.num_rows
    if "parent_id" in table.column_names:
        parents = table["parent_id"].to_pylist()
    columns = table["face_id"].to_pylist(), parents, table["hashes"].to_pylist()
    for face, parent, text in zip(*columns, strict=True):
        for folder, digest in read_mapping(text, str).items():
            # A candidate names the crop that it was made from, which has its parent's name.
            name = next(
                (n for n in (face, parent) if n and source.image_path(folder, n).is_file()), face
            )
            if (folder, name) in done:
                continue
            path = source.image_path(folder, name)
            try:
                data = read_file(path, MOST_IMAGE)
            except OSError:
                raise IntegrityError(
                    f"{path}: missing; put it back, or run the stage that made it with --redo"
                ) from None
            if hashlib.sha256(data).hexdigest() != digest:
                raise IntegrityError(
                    f"{path}: not the file that was written here (sha256 differs); put it back, or "
                    "run the stage that made it again with --redo"
                )
            copy = part.image_path(folder, name)
            part.make_room(copy)
            write_atomic(copy, data)
            done.add((folder, name))


def _copy_labels(source: Path, target: Path, ids: Collection[str]) -> None:
    """What people decided of the faces, event by event."""
    with LabelStore(source, readonly=True) as old:
        stored = [s for s in old.events() if s.event.face_id in ids]
    numbers: dict[int, int] = {}
    with LabelStore(target) as new, new.batch():
        for one in stored:
            undone = one.event.undoes
            event = replace(one.event, undoes=None if undone is None else numbers[undone])
            numbers[one.number] = new.append([event])[0]
