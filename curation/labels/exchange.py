"""Labels in and out: folders of the visual taste approximator, CSV, JSON, Parquet."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from curation.labels.events import COLUMNS, JUDGED, Action, LabelEvent, StoredEvent, now
from curation.labels.matching import KnownFaces
from curation.labels.reading import Row, moment_of, number_of, read_rows, text_of, whole_of
from curation.labels.store import LabelStore
from sfhq.errors import UsageError
from sfhq.formats import suffixes
from sfhq.images import write_atomic

FORMATS = ("csv", "jsonl", "parquet")
POSITIVE = ("positively_labeled", "positive", "keep", "kept")
NEGATIVE = ("negatively_labeled", "negative", "reject", "rejected")


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
            if file.suffix.lower() in suffixes() and file.is_file():
                yield file, kept


@dataclass(frozen=True)
class Imported:
    """What became of the rows of a source.

    Attributes:
        new: labels that were stored.
        known: rows that say what counts already, or that were stored before.
        unmatched: rows that name no face of the part.
    """

    new: int
    known: int
    unmatched: int


def import_labels(
    store: LabelStore,
    source: Path,
    faces: Mapping[str, str],
    annotator: str,
    sources: Mapping[str, str] | None = None,
) -> Imported:
    """Store labels from elsewhere: those that differ from what counts now.

    So importing the same source twice changes nothing, and importing it after a change of mind
    makes it count again.

    Args:
        store: where to.
        source: a folder pair of the visual taste approximator; or a file that `export_labels`
            wrote, or one with a column `face_id`, `image_hash` or `file` and a column `label` or
            `action`.
        faces: face_id -> sha256 of its image, or of its source's bytes.
        annotator: who made the labels, if the source does not say.
        sources: face_id -> path of the file it was made from, for rows that name files.

    Raises:
        UsageError: a row cannot be a label, or names a file that several faces have; nothing is
            stored.
        IntegrityError: the source is damaged.
    """
    known = KnownFaces(faces, sources or {})
    session = f"import-{uuid.uuid5(uuid.NAMESPACE_URL, str(source.name)).hex[:8]}"
    events: list[LabelEvent] = []
    unmatched = 0
    found = _of_folder(source, known) if source.is_dir() else _of_file(source, known)
    for event in found:
        if event is None:
            unmatched += 1
            continue
        event = replace(event, annotator=event.annotator or annotator)
        events.append(replace(event, session=event.session or session))
    differing = _differing(store, events)
    store.append(differing)
    return Imported(len(differing), len(events) - len(differing), unmatched)


def _of_folder(root: Path, known: KnownFaces) -> Iterator[LabelEvent | None]:
    for file, kept in folder_labels(root):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        name = file.relative_to(root).parts[1:]  # below the folder of its label
        face = known.find("", digest, "/".join(name))
        if face is None:
            yield None
            continue
        action = Action.KEEP if kept else Action.REJECT
        yield LabelEvent(
            face, known.digests.get(face, ""), action, "", "", "", now(), reason="import"
        )


WORDS = {
    **dict.fromkeys(("keep", "kept", "positive", "1", "1.0", "true", "yes"), Action.KEEP),
    **dict.fromkeys(("reject", "rejected", "negative", "0", "0.0", "false", "no"), Action.REJECT),
    "flag": Action.FLAG,
    "skip": Action.SKIP,
}
NAMING = ("face_id", "image_hash", "file")


def _of_file(source: Path, known: KnownFaces) -> Iterator[LabelEvent | None]:
    rows = read_rows(source)
    columns = {name for row in rows for name in row}
    if rows and not (columns & {*NAMING} and columns & {"action", "label"}):
        have = ", ".join(sorted(columns))[:200]
        raise UsageError(
            f"{source}: has the columns {have}; wanted one of {', '.join(NAMING)}, and action "
            "or label"
        )
    for line, row in enumerate(rows, start=1):
        try:
            yield _event(row, known)
        except (ValueError, UsageError) as error:
            raise UsageError(f"{source}: row {line}: {error}") from None


def _event(row: Row, known: KnownFaces) -> LabelEvent | None:
    """The event of a row; annotator, session and client id are empty where it has none."""
    word = (text_of(row, "action") or text_of(row, "label")).lower()
    if word == "undo":
        raise ValueError("is an undo; import what counts now: sfhq labels export")
    if word not in WORDS:
        raise ValueError(f"says {word!r:.60}; wanted an action or label keep or reject")
    digest = text_of(row, "image_hash")
    face = known.find(text_of(row, "face_id"), digest.lower(), text_of(row, "file"))
    at = moment_of(row, "at")
    event = LabelEvent(
        face_id=face or "",
        image_hash=digest or known.digests.get(face or "", ""),
        action=WORDS[word],
        annotator=text_of(row, "annotator"),
        session=text_of(row, "session"),
        client_id=text_of(row, "client_id"),
        at=now() if at is None else at,
        score=number_of(row, "score", 0, 1),
        model=text_of(row, "model"),
        reason=text_of(row, "reason") or "import",
        reaction_ms=whole_of(row, "reaction_ms"),
    )
    return None if face is None else event


def _differing(store: LabelStore, events: Sequence[LabelEvent]) -> list[LabelEvent]:
    """The events that change what counts, and what leads up to them; each with an id of its own.

    Of one person and one face the last decision counts, so the earlier ones are stored only if
    the last one is. A skip or a hidden repeat decides nothing; it is stored once.
    """
    counts = {(s.event.annotator, s.event.face_id): _said(s.event) for s in store.current()}
    stored = store.events()
    used = {s.event.client_id for s in stored}
    base = stored[-1].number if stored else 0
    last = {(e.annotator, e.face_id): _said(e) for e in events if _decides(e)}
    running = dict(counts)
    found = []
    for place, event in enumerate(events):
        key = (event.annotator, event.face_id)
        told = f"{event.session}\0{event.annotator}\0{event.face_id}\0{event.action}"
        client = event.client_id
        if not _decides(event):
            client = client or uuid.uuid5(uuid.NAMESPACE_OID, told).hex
            if client in used:
                continue
        else:
            if last[key] == counts.get(key):
                continue
            if not client or client in used:  # stored before, and another decision since
                if _said(event) == running.get(key):
                    continue
                client = uuid.uuid5(uuid.NAMESPACE_OID, f"{told}\0{base}\0{place}").hex
            running[key] = _said(event)
        used.add(client)
        found.append(replace(event, client_id=client))
    return found


def _decides(event: LabelEvent) -> bool:
    """Whether an event can be what counts: see the view `current` of the labels' file."""
    return event.action in (*JUDGED, Action.FLAG) and event.reason != "repeat"


def _said(event: LabelEvent) -> tuple[Action, bool]:
    """What was decided, and whether it settles a disagreement."""
    return event.action, event.reason == "review"
