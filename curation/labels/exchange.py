"""Labels in and out: folders of the visual taste approximator, CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curation.labels.events import COLUMNS, Action, LabelEvent, StoredEvent, now
from curation.labels.store import LabelStore
from sfhq.errors import IntegrityError, UsageError
from sfhq.images import write_atomic

FORMATS = ("csv", "jsonl", "parquet")
POSITIVE = ("positively_labeled", "positive", "keep", "kept")
NEGATIVE = ("negatively_labeled", "negative", "reject", "rejected")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def format_of(path: Path) -> str:
    """The format that a file's name asks for: one of `FORMATS`.

    Raises:
        UsageError: the name ends otherwise.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise UsageError(
            f"{path}: cannot tell the format; wanted a name in .csv, .jsonl or .parquet"
        )
    return kind


def rows_of(events: Iterable[StoredEvent]) -> list[dict[str, Any]]:
    """Events as plain values, in order."""
    return [{"number": s.number, **asdict(s.event), "action": str(s.event.action)} for s in events]


def encode(rows: list[dict[str, Any]], kind: str) -> bytes:
    """Rows as a file; the same rows give the same bytes."""
    columns = ("number", *COLUMNS)
    if kind == "jsonl":
        lines = (json.dumps(r, sort_keys=True, ensure_ascii=False) for r in rows)
        return "".join(f"{line}\n" for line in lines).encode()
    if kind == "csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v is None else v for k, v in r.items()} for r in rows)
        return text.getvalue().encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "number": pa.int64(),
        "at": pa.float64(),
        "score": pa.float64(),
        "reaction_ms": pa.int64(),
        "undoes": pa.int64(),
    }
    schema = pa.schema([(c, kinds.get(c, pa.string())) for c in columns])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def export_labels(store: LabelStore, target: Path, current: bool = True) -> int:
    """Write labels to a file; the format goes by its name.

    Args:
        store: the labels.
        target: .csv, .jsonl or .parquet.
        current: only what counts now; False for every event.

    Returns:
        The number of rows.
    """
    kind = format_of(target)
    rows = rows_of(store.current() if current else store.events())
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, encode(rows, kind))
    return len(rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV, JSONL or Parquet file.

    Raises:
        UsageError: it is missing or of no known format.
        IntegrityError: it is damaged.
    """
    kind = format_of(path)
    try:
        if kind == "parquet":
            import pyarrow.parquet as pq

            rows: list[dict[str, Any]] = pq.read_table(path, partitioning=None).to_pylist()
            return rows
        text = path.read_text(encoding="utf-8-sig")
        if kind == "csv":
            return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except Exception as error:
        raise IntegrityError(
            f"{path}: cannot be read as {kind} ({type(error).__name__}: {error})"
        ) from None


def folder_labels(root: Path) -> Iterator[tuple[Path, bool]]:
    """Images of a labelled folder pair, as the visual taste approximator keeps them.

    Args:
        root: holds `positively_labeled` and `negatively_labeled` (or keep and reject).

    Raises:
        UsageError: one of the two is missing.
    """
    for names, kept in ((POSITIVE, True), (NEGATIVE, False)):
        found = [root / n for n in names if (root / n).is_dir()]
        if not found:
            raise UsageError(
                f"{root}: no folder {names[0]}; wanted {POSITIVE[0]} and {NEGATIVE[0]}"
            )
        for file in sorted(found[0].rglob("*")):
            if file.suffix.lower() in SUFFIXES:
                yield file, kept


def import_labels(
    store: LabelStore,
    source: Path,
    faces: Mapping[str, str],
    annotator: str,
    names: Mapping[str, str] | None = None,
) -> tuple[int, int]:
    """Store labels from elsewhere; importing the same source twice changes nothing.

    Args:
        store: where to.
        source: a folder pair of the visual taste approximator; or a file that `export_labels`
            wrote, or one with a column `face_id`, `image_hash` or `file` and a column `label` or
            `action`.
        faces: face_id -> sha256 of its image, or of its source's bytes.
        annotator: who made the labels, if the source does not say.
        names: file name -> face_id, for sources that name files.

    Returns:
        Number of labels stored now or before, and number of rows that name no face of this part.
    """
    by_hash = {digest: face for face, digest in faces.items() if digest}
    events: list[LabelEvent] = []
    unknown = 0
    session = f"import-{uuid.uuid5(uuid.NAMESPACE_URL, str(source.name)).hex[:8]}"
    if source.is_dir():
        for file, kept in folder_labels(source):
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            face = by_hash.get(digest) or (names or {}).get(file.name)
            if face is None:
                unknown += 1
                continue
            action = Action.KEEP if kept else Action.REJECT
            events.append(_imported(face, faces.get(face, ""), action, annotator, session))
    else:
        events, unknown = _events_of(
            read_rows(source), source, faces, by_hash, names or {}, annotator, session
        )
    store.append(events)
    return len(events), unknown


def _imported(face: str, digest: str, action: Action, annotator: str, session: str) -> LabelEvent:
    client = uuid.uuid5(uuid.NAMESPACE_OID, f"{session}\0{annotator}\0{face}\0{action}").hex
    return LabelEvent(face, digest, action, annotator, session, client, now(), reason="import")


WORDS = {
    **dict.fromkeys(("keep", "kept", "positive", "1", "true", "yes"), Action.KEEP),
    **dict.fromkeys(("reject", "rejected", "negative", "0", "false", "no"), Action.REJECT),
    "flag": Action.FLAG,
    "skip": Action.SKIP,
}


def _events_of(
    rows: list[dict[str, Any]],
    source: Path,
    faces: Mapping[str, str],
    by_hash: Mapping[str, str],
    names: Mapping[str, str],
    annotator: str,
    session: str,
) -> tuple[list[LabelEvent], int]:
    events, unknown = [], 0
    for line, row in enumerate(rows, start=1):
        word = str(row.get("action", row.get("label", ""))).strip().lower()
        if word == "undo":
            raise UsageError(
                f"{source}: row {line} is an undo; import what counts now: sfhq labels export"
            )
        if word not in WORDS:
            raise UsageError(
                f"{source}: row {line} says {word!r}; wanted an action or label keep or reject"
            )
        face = str(row.get("face_id") or "")
        if face not in faces:
            named = names.get(Path(str(row.get("file") or "")).name)
            face = by_hash.get(str(row.get("image_hash") or ""), "") or named or ""
        if face not in faces:
            unknown += 1
            continue
        who = str(row.get("annotator") or annotator)
        action = WORDS[word]
        client = (
            str(row.get("client_id") or "") or _imported(face, "", action, who, session).client_id
        )
        score, reaction = row.get("score"), row.get("reaction_ms")
        events.append(
            LabelEvent(
                face_id=face,
                image_hash=str(row.get("image_hash") or faces[face]),
                action=action,
                annotator=who,
                session=str(row.get("session") or session),
                client_id=client,
                at=float(row.get("at") or now()),
                score=float(score) if score not in (None, "") else None,
                model=str(row.get("model") or ""),
                reason=str(row.get("reason") or "import"),
                reaction_ms=int(reaction) if reaction not in (None, "") else None,
            )
        )
    return events, unknown
