"""What a person says about a face, as an event; and what follows from events."""

from __future__ import annotations

import time
import unicodedata
from dataclasses import dataclass, fields
from enum import StrEnum

from sfhq.errors import UsageError


class Action(StrEnum):
    """What a person can say about a face. Keep and reject are labels; the others are not."""

    KEEP = "keep"
    REJECT = "reject"
    SKIP = "skip"
    FLAG = "flag"
    UNDO = "undo"


JUDGED = (Action.KEEP, Action.REJECT)


@dataclass(frozen=True)
class LabelEvent:
    """One decision of one person about one face.

    Attributes:
        face_id: the face; of an undo, that of the event it undoes.
        image_hash: sha256 of the image that was shown; "" where it is not known.
        action: see `Action`.
        annotator: who.
        session: id of one session of one person.
        client_id: chosen by the sender; two events with the same id are one event.
        at: when, seconds since 1970.
        score: what the model gave, whether it was shown or not; None without a model.
        model: version of that model; "" without one.
        reason: why this face was shown: "uncertain", "random", "repeat", "grid", "review",
            "import" and so on.
        reaction_ms: time from the image to the decision; None where nobody looked at it.
        undoes: number of the event that an undo takes back.
    """

    face_id: str
    image_hash: str
    action: Action
    annotator: str
    session: str
    client_id: str
    at: float
    score: float | None = None
    model: str = ""
    reason: str = ""
    reaction_ms: int | None = None
    undoes: int | None = None


@dataclass(frozen=True)
class StoredEvent:
    """An event with its number in the file, from 1 on, ascending."""

    number: int
    event: LabelEvent


@dataclass(frozen=True)
class Repeat:
    """The same face judged twice by one person."""

    face_id: str
    annotator: str
    first: Action
    again: Action


@dataclass(frozen=True)
class Conflict:
    """A face on which people disagree: annotator -> label."""

    face_id: str
    labels: dict[str, Action]


MOST_NAME = 64  # code points
# Letters that turn the direction of all text after them: a name with one misleads its reader.
TURNING = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def person(name: object) -> str:
    """A person's name as it is stored: without spaces around it.

    Joiners, which Persian, Indian scripts and emoji need, are letters of a name like others.

    Raises:
        UsageError: it is no text, has no visible letter, or has control characters.
    """
    text = name.strip() if isinstance(name, str) else ""
    kinds = [unicodedata.category(letter) for letter in text]
    plain = not TURNING & set(text) and not {"Cc", "Cs", "Zl", "Zp"} & set(kinds)
    if not plain or len(text) > MOST_NAME or not set(kinds) - {"Cf", "Zs"}:
        raise UsageError(
            f"annotator {text[:80]!r}; wanted a name of 1 to {MOST_NAME} letters, "
            "without control characters"
        )
    return text


COLUMNS = tuple(f.name for f in fields(LabelEvent))


def now() -> float:
    """Seconds since 1970, in thousandths: what is stored is what is exported."""
    return round(time.time(), 3)
