"""Checks that look at a whole part: its records and arrays, near-duplicates, its export."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sfhq import stages
from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.parts.lineage import outdated, require_complete, require_found
from sfhq.parts.part import Part
from sfhq.publish.checks.context import Context, embeddings
from sfhq.publish.checks.result import Result

# Cosines that `sfhq dedup` uses by itself, by encoder.
THRESHOLDS = {"clip": 0.92, "dlib-face": 0.985}
PIECES = "export.pieces"  # lies in an export until it has ended
LISTED = 20  # missing files that are named


def records(context: Context, result: Result) -> None:
    """Records of all stages can be read, and none is lost or older than what it read."""
    part = context.part
    for stage in part.stages():
        try:
            require_complete(part, stage)
        except SfhqError as error:
            result.add(stage, str(error) + _absent(part, stage))
        if list(_read(part, stage, result)):
            continue
        for name in outdated(part, stage):
            result.add(stage, f"{name} has changed since; run: sfhq {stage} {part.root} --redo")
    try:
        require_found(part)
    except IntegrityError as error:
        if not any(f.what.startswith(str(error)) for f in result.findings):
            result.add("records", str(error))
    for text in _empty(context):
        result.add("records", text)
    result.figures["stages"] = part.stages()


def _absent(part: Part, stage: str) -> str:
    """The record files that a stage wrote and that are gone, for the end of a finding."""
    there = {*part.shards(stage)}
    wanted = part.stage_info(stage).get("shards") or 0
    gone = [f"{shard:05d}.parquet" for shard in range(wanted) if shard not in there]
    more = f" and {len(gone) - LISTED} more" if len(gone) > LISTED else ""
    return f"; missing: {', '.join(gone[:LISTED])}{more}" if gone else ""


def _read(part: Part, stage: str, result: Result) -> Iterator[int]:
    """The shards of a stage that cannot be read; each is a finding."""
    read = part.read_about if part.stage_info(stage)["kind"] == "about" else part.read_shard
    for shard in part.shards(stage):
        try:
            read(stage, shard)
        except SfhqError as error:
            result.add(stage, str(error))
            yield shard


def _empty(context: Context) -> list[str]:
    return [] if context.alive else ["no face stayed"]


def arrays(context: Context, result: Result) -> None:
    """Every shard of every array is what its records vouch for."""
    part, count = context.part, 0
    for folder in sorted(p for p in (part.root / "arrays").glob("*") if p.is_dir()):
        for path in sorted(folder.glob("[0-9]*.npy")):
            count += 1
            try:
                part.array(folder.name, int(path.stem))
            except (SfhqError, ValueError) as error:
                result.add(f"{folder.name}/{path.name}", str(error))
    named = {name for r in context.records for name in r.rows}
    for name in sorted(named):
        shards = {r.shard for r in context.records if name in r.rows}
        for shard in sorted(s for s in shards if not part.array_path(name, s).is_file()):
            result.add(f"{name}/{shard:05d}.npy", "missing, but records name rows of it")
    result.figures["shards"] = count


def strays(context: Context, result: Result) -> None:
    """No image lies in the part that no record names."""
    part = context.part
    known: dict[str, set[str]] = {}
    for stage in part.stages():
        about = part.stage_info(stage)["kind"] == "about"
        for shard in part.shards(stage):
            rows = part.read_about(stage, shard) if about else part.read_shard(stage, shard)
            for row in rows:
                for folder in row.hashes:
                    known.setdefault(folder, set()).add(row.face_id)
    for folder, names in sorted(known.items()):
        place = part.root / folder
        there = {p.stem for p in place.glob("*.png")} if place.is_dir() else set()
        for name in sorted(there - names):
            result.add(f"{folder}/{name}.png", "no record names it")


def sizes(context: Context, result: Result) -> None:
    """All photos have one size, and are square."""
    counts = Counter(context.sizes.values())
    result.figures["sizes"] = {f"{w} x {h}": n for (h, w), n in counts.most_common()}
    if not counts:
        return
    usual = counts.most_common(1)[0][0]
    for face, size in context.sizes.items():
        if size != usual:
            result.add(
                face, f"{size[1]} x {size[0]} pixels; the others have {usual[1]} x {usual[0]}"
            )
    if usual[0] != usual[1]:
        result.add("all photos", f"{usual[1]} x {usual[0]} pixels; wanted squares")


def duplicates(context: Context, result: Result) -> None:
    """No two photos are the same or near-duplicates, here or in earlier parts."""
    for digest, faces in context.digests.items():
        for face in faces[1:]:
            result.add(face, f"the same file as {faces[0]} (sha256 {digest[:16]})")
    if not context.has("embedding"):
        run = f"run: sfhq embed {context.part.root}"
        result.note = f"files compared; near-duplicates not checked: no embedding; {run}"
        return
    threshold = threshold_of(context)
    if threshold is None:
        result.note = "near-duplicates not checked: give --threshold, or run: sfhq dedup"
        return
    ids, vectors = context.vectors
    names = list(ids)
    for root in context.options.earlier:
        other = Part.open(root)
        more, rows = embeddings(other, [r for r in other.faces() if r.alive])
        if len(rows) and rows.shape[1] != vectors.shape[1]:
            raise UsageError(
                f"{root}: its vectors have {rows.shape[1]} numbers, those here "
                f"{vectors.shape[1]}; embed both with one encoder"
            )
        names += [f"{other.name}/{i}" for i in more]
        vectors = np.concatenate([vectors, rows.reshape(len(more), -1)]) if more else vectors
    found = stages.reader("near-duplicates")(vectors, threshold)
    pairs = [(i, j, c) for i, j, c in zip(*found, strict=True) if j < len(ids) or i < len(ids)]
    for i, j, cosine in sorted(pairs, key=lambda p: -p[2]):
        result.add(names[j], f"cosine {cosine:.4f} with {names[i]}; wanted at most {threshold}")
    result.tell(
        {
            "threshold": threshold,
            "encoder": context.settings("embed").get("encoder"),
            "compared": len(names),
            "above": len(pairs),
            "largest_cosine": largest(vectors, len(ids)),
        },
        f"largest cosine {largest(vectors, len(ids)):.4f} among {len(names)} photos",
    )


def threshold_of(context: Context) -> float | None:
    """The cosine that separates near-duplicates here; None where nobody said."""
    given = context.options.threshold
    if given is None:
        given = context.settings("dedup").get("threshold")
    if given is None and context.has("embedding"):
        given = THRESHOLDS.get(str(context.settings("embed").get("encoder")))
    return None if given is None else float(given)


def largest(vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]], count: int) -> float:
    """The largest cosine of one of the first `count` vectors with any other."""
    best, block = -1.0, 2048
    for start in range(0, count, block):
        some = vectors[start : min(start + block, count)]
        for other in range(start, len(vectors), block):
            products = some @ vectors[other : other + block].T
            if other == start:
                np.fill_diagonal(products, -1.0)
            best = max(best, float(products.max(initial=-1.0)))
    return round(best, 6)


def exports(context: Context, result: Result) -> None:
    """Every file of the export is what its SHA256SUMS says."""
    folder = context.export
    if folder is None:
        result.skip(f"no export; run: sfhq export {context.part.root} TARGET, and --export")
        return
    path = folder / "SHA256SUMS"
    if not path.is_file():
        what = "an export that has not ended" if (folder / PIECES).is_file() else "not an export"
        result.add(
            str(folder),
            f"no SHA256SUMS, so this is {what}; run: sfhq export {context.part.root} {folder}",
        )
        return
    count = 0
    for line in path.read_text(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        count += 1
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            result.add(name, "leads out of the export")
        elif not file.is_file():
            result.add(name, "missing")
        elif _sha256(file) != digest:
            result.add(name, "changed since it was written (sha256 differs)")
    result.figures["files"] = count


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def splits(context: Context, result: Result) -> None:
    """No source is in two splits of the export."""
    rows = _split_rows(context)
    if not rows:
        return result.skip(NO_SPLITS)
    keyed = []
    for row in rows:
        part = str(row.get("part") or context.part.name)
        source = str(row.get("parent_id") or row.get("source") or "")
        there = part == context.part.name or not source
        keyed.append((source if there else f"{part}/{source}", row))
    _in_several(result, "source", keyed)
    counts = Counter(str(row["split"]) for row in rows)
    result.tell({"splits": dict(sorted(counts.items()))})
    return None


def split_people(context: Context, result: Result) -> None:
    """No identity, at a false-match rate that is stated, is in two splits of the export."""
    from sfhq.publish.checks.people import groups

    rows = _split_rows(context)
    if not rows:
        return result.skip(NO_SPLITS)
    group = groups(context)
    if not group:
        return result.skip("false-match rates of the encoder are not measured")
    name = context.part.name
    ours = [r for r in rows if str(r.get("part") or name) == name]
    _in_several(result, "identity", [(group.get(str(r.get("face_id", "")), ""), r) for r in ours])
    result.tell({"false_match_rate": context.options.rate})
    return None


NO_SPLITS = "no export with splits; give --export FOLDER"


def _split_rows(context: Context) -> list[dict[str, object]]:
    rows = [] if context.export is None else manifest_rows(context.export)
    return rows if rows and "split" in rows[0] else []


def _in_several(result: Result, kind: str, keyed: Sequence[tuple[str, dict[str, object]]]) -> None:
    """Find the keys whose rows are in several splits."""
    found: dict[str, dict[str, list[str]]] = {}
    for key, row in keyed:
        if key:
            faces = found.setdefault(key, {}).setdefault(str(row["split"]), [])
            faces.append(str(row.get("face_id", "")))
    for key, where in sorted(found.items()):
        if len(where) > 1:
            faces_by = ", ".join(f"{v[0]} in {k}" for k, v in sorted(where.items()))
            result.add(f"{kind} {key}", f"in {len(where)} splits: {faces_by}")


def manifest_rows(folder: Path) -> list[dict[str, object]]:
    """Rows of an export's manifest; empty where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "manifest.parquet"
    if not os.path.lexists(path):
        return []
    try:
        names = {*pq.read_schema(path).names}
        wanted = [n for n in ("face_id", "parent_id", "source", "split", "part") if n in names]
        found: list[dict[str, object]] = pq.read_table(path, columns=wanted).to_pylist()
    except (pa.ArrowException, OSError, ValueError):
        return []
    return found
