"""What is known of a part's faces for a probe: vectors, answers, and who belongs together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from annotate.training.words import read_words
from sfhq.errors import UsageError
from sfhq.parts.lineage import faces_stage, provider
from sfhq.parts.part import Part
from sfhq.parts.records import Array, FaceRecord


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of a part's living faces.

    Attributes:
        records: N faces.
        rows: (N, D) float32.
        digest: sha256 of the network that made them.
        encoder: its name, where the stage says it; else the stage's.
    """

    records: tuple[FaceRecord, ...]
    rows: Array
    digest: str
    encoder: str

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """(N,) what a face came from: its parent, else its source, else itself."""
        return np.array([r.parent_id or r.source or r.face_id for r in self.records])

    def select(self, keep: npt.NDArray[np.bool_]) -> Vectors:
        """Some of them; `keep` is (N,)."""
        chosen = tuple(r for r, k in zip(self.records, keep.tolist(), strict=True) if k)
        return Vectors(chosen, self.rows[keep], self.digest, self.encoder)


def maker(part: Part, array: str) -> tuple[str, str]:
    """Digest and name of the network that made an array.

    Raises:
        UsageError: the part has no such array, or the stage that wrote it names no network.
    """
    stage = provider(part, array, faces_stage(part))
    if stage is None:
        raise UsageError(
            f"{part.root}: has no array {array}; make vectors with: sfhq embed {part.root}"
        )
    settings = part.stage_info(stage)["settings"]
    digest = settings.get("digest")
    if array.startswith("features_"):
        digest = settings.get("features", {}).get(array.removeprefix("features_"), digest)
    if not digest:
        raise UsageError(f"{part.root}: {stage} names no network of {array}; take another array")
    return str(digest), str(settings.get("encoder", stage))


def vectors_of(part: Part, array: str) -> Vectors:
    """The vectors of all living faces that have one of finite numbers.

    Raises:
        UsageError: there is no such array, or no face has a row in it.
    """
    digest, encoder = maker(part, array)
    records, rows = [], []
    for record in part.faces():
        if array in record.rows:
            row = np.asarray(part.row(array, record), np.float32).reshape(-1)
            if np.isfinite(row).all():
                records.append(record)
                rows.append(row)
    if not rows:
        raise UsageError(
            f"{part.root}: no face has a vector in {array}; see: sfhq show {part.root}"
        )
    return Vectors(tuple(records), np.stack(rows), digest, encoder)


def by_condition(part: Part, records: tuple[FaceRecord, ...], condition: str) -> Array:
    """(N,) 1, 0, or NaN where the condition is null.

    Args:
        part: the part.
        records: N of its faces.
        condition: SQL over the columns of `sfhq table`.

    Raises:
        UsageError: DuckDB does not understand it.
    """
    from sfhq.parts.table import query

    found = query(part, f"face_id, CAST(({condition}) AS BOOLEAN) AS answer").to_pylist()
    answers = {row["face_id"]: row["answer"] for row in found}
    return _numbers([answers.get(record.face_id) for record in records])


def by_words(
    records: tuple[FaceRecord, ...], table: Path, yes: str, no: str | None = None
) -> Array:
    """(N,) 1 where the words about a face's source match `yes`, 0 where they match `no`, else NaN.

    Args:
        records: N faces; words are found by the file name of their source.
        table: CSV, see `read_words`.
        yes: regular expression, without regard to case; it goes before `no`.
        no: the same; None takes all other words for a no, and faces without words as unknown.

    Raises:
        UsageError: the table or an expression cannot be read, or no face has words.
    """
    words = read_words(table)
    patterns = []
    for text in (yes, no or ""):
        try:
            patterns.append(re.compile(text, re.IGNORECASE))
        except re.error as error:
            raise UsageError(f"{text!r}: not a regular expression: {error}") from None
    found: list[bool | None] = []
    for record in records:
        said = words.get(Path(record.source).name)
        if said is None:
            found.append(None)
        elif patterns[0].search(said):
            found.append(True)
        else:
            found.append(False if patterns[1].search(said) else None)
    if all(x is None for x in found):
        raise UsageError(f"{table}: no word about these faces; it must name their files")
    return _numbers(found)


def _numbers(found: list[bool | None]) -> Array:
    return np.array([np.nan if x is None else float(x) for x in found])
