"""What people say of each face of a part, in one word."""

from __future__ import annotations

from curation.labels.events import JUDGED, Action
from curation.labels.store import FILE, LabelStore
from sfhq.parts.folders import SYNTHETIC_FOLDER
from sfhq.parts.part import Part


def part_labels(part: Part) -> dict[str, str]:
    """face_id -> "keep", "reject" or "flag"; no entry where people say nothing, or disagree.

    Keep and reject are what a review settled, else the majority (`LabelStore.labels`); a flag
    counts where there is neither. A label of a face that is not here any more goes to the face
    that shows the same image, if that one has no label of its own.

    Raises:
        IntegrityError: the labels or the records are damaged.
    """
    if not (part.root / FILE).is_file():
        return {}
    with LabelStore(part.root / FILE, readonly=True) as store:
        settled, current = store.labels(), store.current()
    words = {face: str(Action.KEEP if kept else Action.REJECT) for face, kept in settled.items()}
    judged = {s.event.face_id for s in current if s.event.action in JUDGED}
    for stored in current:
        face = stored.event.face_id
        if stored.event.action == Action.FLAG and face not in judged:
            words[face] = str(Action.FLAG)
    by_digest = {s.event.image_hash: words.get(s.event.face_id) for s in current}
    found = {}
    for record in part.faces(rejected=True):
        digest = record.hashes.get(SYNTHETIC_FOLDER) or record.source_sha256
        word = words.get(record.face_id) or (by_digest.get(digest) if digest else None)
        if word:
            found[record.face_id] = word
    return found
