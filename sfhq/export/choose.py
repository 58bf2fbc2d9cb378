"""Which photos of which parts an export holds: their names, their splits, their columns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sfhq import stages
from sfhq.errors import UsageError
from sfhq.export.face_files import photo_folder
from sfhq.export.sfhq_layout import require_photos
from sfhq.export.splits import Groups, Shares, in_order, split_groups
from sfhq.parts.lineage import faces_stage, provider
from sfhq.parts.part import Part
from sfhq.parts.photos import photo_digest
from sfhq.parts.records import FaceRecord, Json
from sfhq.parts.table import joint_types

SAME = {"clip": 0.92, "dlib-face": 0.985}  # cosines above which photos are one face (docs/dedup.md)
LARGE = 0.2  # share of the photos; a group above it is worth a word
EMBEDDING = "embedding"


@dataclass(frozen=True)
class Face:
    """One photo of an export.

    Attributes:
        part: where it lies.
        record: with all that is said of it.
        key: its name in the export: "<name>_<8 digits>".
        split: its split.
        label: what people said of it: "keep", "flag", "reject" or "".
        part_name: name of the part.
    """

    part: Part
    record: FaceRecord
    key: str
    split: str
    label: str
    part_name: str


@dataclass(frozen=True)
class Choice:
    """The photos of an export, in the order of their names.

    Attributes:
        parts: in the order they were given.
        name: prefix of all names.
        splits: for each part, face id -> split, of the photos that are exported.
        labels: for each part, face id -> label.
        left_out: number of photos that people rejected.
        same: part's name -> cosine by which photos were taken for one face; "" where vectors lack.
        largest: share of the photos in the largest group.
        types: column of a stage -> Arrow type.
        stated: (provenance, licence) that photos state.
    """

    parts: tuple[Part, ...]
    name: str
    splits: tuple[Mapping[str, str], ...]
    labels: tuple[Mapping[str, str], ...]
    left_out: int
    same: Mapping[str, float | None]
    largest: float
    types: Mapping[str, Any] = field(default_factory=dict)
    stated: frozenset[tuple[str, str]] = frozenset()

    def __len__(self) -> int:
        return sum(len(s) for s in self.splits)

    def names(self) -> Sequence[str]:
        """The splits that have photos."""
        return in_order(split for known in self.splits for split in known.values())

    def counts(self) -> dict[str, int]:
        """Split -> number of photos."""
        everything = [split for known in self.splits for split in known.values()]
        return {name: everything.count(name) for name in self.names()}

    def faces(self, split: str | None = None) -> Iterator[Face]:
        """The photos of a split, or all, one shard of records in memory at a time."""
        number = -1
        for part, splits, labels in zip(self.parts, self.splits, self.labels, strict=True):
            name = part.name
            for record in part.faces():
                found = splits.get(record.face_id)
                if found is None:
                    continue
                number += 1
                if split in (None, found):
                    key = f"{self.name}_{number:08d}"
                    yield Face(part, record, key, found, labels.get(record.face_id, ""), name)

    def identity(self) -> dict[str, Json]:
        """What decides the photos and what is said of them."""
        chosen = hashlib.sha256()
        for splits in self.splits:
            for face, split in splits.items():
                chosen.update(f"{face} {split}\n".encode())
        ended = {}
        for part, labels in zip(self.parts, self.labels, strict=True):
            said = sorted(labels.items())
            ended[part.name] = {
                "labels": hashlib.sha256(repr(said).encode()).hexdigest()[:16],
                "stages": {
                    s: _public(part.stage_info(s)["settings"])
                    for s in part.stages()
                    if part.stage_info(s)["complete"]
                },
            }
        return {"name": self.name, "faces": chosen.hexdigest(), "parts": ended}


def choose(parts: Sequence[Part], name: str, *, shares: Shares, rejected: bool = False) -> Choice:
    """The photos of some parts that stayed, each with a split.

    Photos are one group, and in one split, where they were made from one source, where one was made
    from the other, where they are the same file, and where their vectors are near (`SAME`).

    Args:
        parts: one or several, with different names.
        name: prefix of the names.
        shares: of the splits.
        rejected: also photos that people rejected.

    Raises:
        UsageError: two parts of one name, columns that disagree, or a part without photos.
        IntegrityError: damaged records or arrays.
    """
    names = [part.name for part in parts]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        roots = [str(p.root) for p in parts if p.name == twice]
        raise UsageError(
            f"{' and '.join(roots)}: both are called {twice}, so nobody could tell their photos "
            'apart; give one of them another "name" in its part.json'
        )
    for part in parts:
        require_photos(part)
    labels = [stages.reader("labels")(part) for part in parts]
    groups = Groups()
    left_out, vectors = 0, _Vectors()
    chosen: list[list[str]] = []
    stated: set[tuple[str, str]] = set()
    for number, part in enumerate(parts):
        mine: list[str] = []
        for record in part.faces():
            if not photo_folder(record):
                continue
            if not rejected and labels[number].get(record.face_id) == "reject":
                left_out += 1
                continue
            mine.append(record.face_id)
            stated.add((record.provenance, record.licence))
            me = f"{names[number]}/{record.face_id}"
            groups.place(me)
            if record.parent_id:
                groups.join(me, f"{names[number]}/{record.parent_id}")
            if record.source_sha256:
                groups.join(me, f"source {record.source_sha256}")
            if photo_digest(record):
                groups.join(me, f"source {photo_digest(record)}")
            vectors.add(names[number], part, record, me)
        chosen.append(mine)
    if not any(chosen):
        where = ", ".join(str(p.root) for p in parts)
        why = f"people rejected all {left_out}; to export them: sfhq export --rejected"
        raise UsageError(f"{where}: no photo to export{f': {why}' if left_out else ''}")
    for one, other in vectors.pairs():
        groups.join(one, other)
    named = groups.names()
    splits = []
    counted: dict[str, int] = {}
    for name_of_part, mine in zip(names, chosen, strict=True):
        keys = {face: named[f"{name_of_part}/{face}"] for face in mine}
        for group in keys.values():
            counted[group] = counted.get(group, 0) + 1
        splits.append(split_groups(keys, shares))
    return Choice(
        tuple(parts),
        name,
        tuple(splits),
        tuple(labels),
        left_out,
        vectors.used(parts),
        max(counted.values()) / sum(counted.values()),
        joint_types(parts, "run the stage that writes it again there, or export it alone"),
        frozenset(stated),
    )


class _Vectors:
    """Vectors of photos by encoder, and the pairs among them that show one face."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[list[str], list[Any]]] = {}
        self._encoders: dict[str, str] = {}
        self._shard: tuple[str, int, Any] = ("", -1, None)

    def add(self, name: str, part: Part, record: FaceRecord, key: str) -> None:
        """Take the vector of a face, if its encoder is one whose cosines are known."""
        if name not in self._encoders:
            self._encoders[name] = _encoder(part)
        encoder = self._encoders[name]
        if encoder not in SAME or EMBEDDING not in record.rows:
            return
        if self._shard[:2] != (name, record.shard):
            array = np.asarray(part.array(EMBEDDING, record.shard), np.float32)
            self._shard = (name, record.shard, array)
        keys, rows = self._found.setdefault(encoder, ([], []))
        keys.append(key)
        rows.append(self._shard[2][record.rows[EMBEDDING]].copy())

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Keys of photos that show one face."""
        for encoder, (keys, rows) in self._found.items():
            if len(rows) < 2:
                continue
            find = stages.reader("near-duplicates")
            i, j, _ = find(np.stack(rows), SAME[encoder])
            rows.clear()
            for a, b in zip(i.tolist(), j.tolist(), strict=True):
                yield keys[a], keys[b]

    def used(self, parts: Sequence[Part]) -> dict[str, float | None]:
        """Name of a part -> the cosine that was used there."""
        return {part.name: SAME.get(self._encoders.get(part.name, "")) for part in parts}


def _encoder(part: Part) -> str:
    if provider(part, EMBEDDING, faces_stage(part)) != "embed":
        return ""
    settings = part.stage_info("embed").get("settings")
    return str(settings.get("encoder", "")) if isinstance(settings, dict) else ""


def _public(settings: Mapping[str, Json]) -> dict[str, Json]:
    """Settings of a stage without paths of the machine it ran on."""
    return {k: v for k, v in settings.items() if k not in ("source", "shard_size")}
