"""What is known of the faces of a part: attributes, and the groups that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord

CELEBA = 40  # attributes that captions are made of
AGES = ((0, 13), (13, 20), (20, 35), (35, 55), (55, 70), (70, 200))  # years: from, below
Known = Mapping[str, Any]  # column -> value


def _age(known: Known) -> str:
    years = known.get("years")
    if not isinstance(years, int | float) or years != years:
        return ""
    low, high = next((a for a in AGES if a[0] <= years < a[1]), AGES[-1])
    return f"{low} to {high - 1}" if high < 200 else f"{low} and older"


def _sex(known: Known) -> str:
    male = known.get("male")
    if not isinstance(male, int | float) or male != male:
        return ""
    return "male" if male > 0.85 else "female" if male < 0.15 else "between"


def _ancestry(known: Known) -> str:
    shares = {k[9:]: v for k, v in known.items() if k.startswith("ancestry_")}
    best = max(shares, key=lambda k: float(shares[k]), default="")
    return best if best and float(shares[best]) > 0.5 else ""


def _yes(name: str) -> Callable[[Known], str]:
    def read(known: Known) -> str:
        value = known.get(name)
        return "" if value in (None, "") else "none" if value == "none" else "some"

    return read


# Groups that are read off several columns; every other name is a column whose words are groups.
GROUPS: dict[str, Callable[[Known], str]] = {
    "sex": _sex,
    "age": _age,
    "ancestry": _ancestry,  # of rendered heads
    "glasses": _yes("glasses"),
    "hat": _yes("hat"),
}


@dataclass(frozen=True)
class Face:
    """What is known of a face.

    Attributes:
        attributes: name -> True or False; what is unknown is not there.
        dropped: how many attributes are known only too unsurely to count.
        asked: how many were asked for; 0 where nobody asked.
        groups: kind -> group; empty where unknown.
        captioned: whether it has a caption.
        lost: stage that rejected it; empty while it is alive.
    """

    attributes: Mapping[str, bool]
    dropped: int = 0
    asked: int = 0
    groups: Mapping[str, str] = field(default_factory=dict)
    captioned: bool = False
    lost: str = ""


@dataclass(frozen=True)
class FaceFacts:
    """What is known of the faces of parts.

    Attributes:
        faces: name -> what is known.
    """

    faces: Mapping[str, Face]

    def names(self) -> tuple[str, ...]:
        """Names of all attributes that are known of somebody, sorted."""
        return tuple(sorted({a for face in self.faces.values() for a in face.attributes}))

    def matrix(self, faces: Sequence[str], names: Sequence[str]) -> npt.NDArray[np.float64]:
        """(N, K) 1, 0 or NaN: attributes of faces."""
        none = Face({})
        rows = [self.faces.get(f, none).attributes for f in faces]
        return np.array(
            [[float(row[n]) if n in row else np.nan for n in names] for row in rows], np.float64
        ).reshape(len(faces), len(names))


def facts_of(parts: Iterable[Path], by: Sequence[str] = ()) -> FaceFacts:
    """What parts say of their faces, the rejected ones included.

    Rendered heads are known by their truth; other faces by what `attribute` says: what is present
    is true, what is absent is false, and, unless `--two-sided` was asked for, what is not present
    is false as well.

    Args:
        parts: folders of parts.
        by: kinds of groups: names of `GROUPS`, columns, or several of them joined by " x ".

    Raises:
        UsageError: nothing is known, or a kind of groups is known of nobody.
    """
    folders = list(parts)
    found: dict[str, Face] = {}
    for folder in folders:
        apart = f"{folder}/" if len(folders) > 1 else ""
        opened = Part.open(folder)
        records = list(opened.faces(rejected=True))
        here = {apart + record.face_id: _face(record, by) for record in records}
        if not any(r.about.get("attributes_absent") for r in records):
            here = _absent_is_false(here)
        found |= here
    if not any(f.attributes for f in found.values()):
        raise UsageError(
            f"{', '.join(map(str, folders))}: nothing is known of the faces; run: sfhq attribute "
            f"{folders[0] if folders else 'PART'}"
        )
    for kind in by:
        if not any(f.groups[kind] for f in found.values()):
            raise UsageError(
                f"--by {kind}: no face has such a group; wanted {', '.join(GROUPS)}, a column, or "
                'several joined by " x "'
            )
    return FaceFacts(found)


def _absent_is_false(faces: Mapping[str, Face]) -> dict[str, Face]:
    """Faces of which only present attributes are told: what others have, they lack.

    How many of the absent ones were unsure is unknown then: nobody asked.
    """
    every = {n for face in faces.values() if face.dropped for n in face.attributes}
    return {
        name: replace(
            face,
            attributes=dict.fromkeys(every, False) | dict(face.attributes),
            dropped=0,
            asked=0,
        )
        if face.dropped
        else face
        for name, face in faces.items()
    }


def _face(record: FaceRecord, by: Sequence[str]) -> Face:
    about = record.about
    truth = record.params.get("attributes")
    details = record.params.get("details")
    known = {**about, **(details if isinstance(details, dict) else {})}
    attributes: dict[str, bool] = {}
    dropped = asked = 0
    if isinstance(truth, dict):
        attributes = {n: v for n, v in truth.items() if isinstance(v, bool)}
        asked = len(attributes)
    elif "attributes_present" in about:
        attributes = dict.fromkeys(_names(about["attributes_present"]), True)
        attributes |= dict.fromkeys(_names(about.get("attributes_absent")), False)
        asked = CELEBA
        dropped = max(asked - len(attributes), 0)
    groups = {
        kind: " x ".join(parts)
        if all(parts := [_group(known, one) for one in kind.split(" x ")])
        else ""
        for kind in by
    }
    captioned = bool(about.get("caption") or about.get("captions"))
    return Face(attributes, dropped, asked, groups, captioned, record.rejected_by)


def _group(known: Known, kind: str) -> str:
    if kind in GROUPS:
        return GROUPS[kind](known)
    value = known.get(kind)
    return str(value) if isinstance(value, str | bool | int) and value != "" else ""


def _names(text: object) -> list[str]:
    return [name for name in str(text or "").split(", ") if name]
