"""The largest choice of faces that meets targets: shares of looks, and people far apart.

Faces that no target and no near person tells apart are interchangeable, so the choice is a small
integer programme over kinds of faces, solved exactly (HiGHS, by `scipy.optimize.milp`). Faces that
are too near to another one are variables of their own.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from curation.pairs.search import all_pairs
from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.part import Part
from sfhq.parts.table import query

Flags = npt.NDArray[np.bool_]
SECONDS = 60.0  # for the solver
GAP = 1e-4  # share of the best possible size that may be given away


@dataclass(frozen=True)
class Target:
    """What share of the chosen faces shall meet a condition.

    Attributes:
        condition: SQL over the columns of the part's table, such as "years >= 70".
        least, most: share, 0 to 1.
    """

    condition: str
    least: float = 0.0
    most: float = 1.0


@dataclass(frozen=True)
class Targets:
    """All that is asked of a choice.

    Attributes:
        shares: of looks.
        count: how many faces; None for as many as possible.
        apart: highest cosine of two chosen faces' embeddings; None for any.
        prefer: a column of numbers; of interchangeable faces those with the highest ones are taken.
    """

    shares: tuple[Target, ...] = ()
    count: int | None = None
    apart: float | None = None
    prefer: str = ""

    @classmethod
    def read(cls, path: Path) -> Targets:
        """Targets of a TOML file.

            count = 500
            apart = 0.97
            prefer = "quality"
            [share]
            "years >= 70" = 0.2                        # at least
            "glasses <> 'none'" = { least = 0.1, most = 0.3 }
            "male > 0.5" = { share = 0.5, within = 0.02 }

        Raises:
            UsageError: there is no such file, or it holds something else.
        """
        if not path.is_file():
            raise UsageError(f"{path}: no such file of targets")
        try:
            told = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: {error}") from None
        unknown = set(told) - {"count", "apart", "prefer", "share"}
        if unknown:
            raise UsageError(
                f"{path}: {', '.join(sorted(unknown))} is unknown; wanted count, apart, prefer and "
                "the table share"
            )
        shares = told.get("share", {})
        if not isinstance(shares, dict):
            raise UsageError(f"{path}: share is no table; wanted [share] with conditions")
        return cls(
            tuple(_target(path, condition, value) for condition, value in shares.items()),
            _number(path, told, "count", 1, 10**9, whole=True),
            _number(path, told, "apart", -1, 1),
            str(told.get("prefer", "")),
        )


def _number(
    path: Path, told: Mapping[str, Any], name: str, least: float, most: float, whole: bool = False
) -> Any:
    value = told.get(name)
    if value is None:
        return None
    wanted = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, wanted) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"{path}: {name} is {value!r}; wanted {kind} from {least} to {most:g}")
    return value


def _target(path: Path, condition: str, value: Any) -> Target:
    """A share as a number, or as a table of least and most, or of share and within."""
    if not isinstance(value, dict):
        value = {"least": value}
    names = set(value)
    if names not in ({"least"}, {"most"}, {"least", "most"}, {"share", "within"}):
        has = ", ".join(sorted(names)) or "nothing"
        raise UsageError(
            f"{path}: {condition!r} has {has}; wanted least, most or both, or share and within"
        )
    numbers = {n: _number(path, value, n, 0, 1) for n in names}
    if names == {"share", "within"}:
        share, within = numbers["share"], numbers["within"]
        numbers = {"least": max(share - within, 0.0), "most": min(share + within, 1.0)}
    found = Target(condition, **numbers)
    if found.least > found.most:
        raise UsageError(f"{path}: {condition!r}: least {found.least} is above most {found.most}")
    return found


@dataclass(frozen=True)
class Lack:
    """A target that keeps the choice from being larger.

    Attributes:
        target: which.
        there: faces that meet its condition, of those that are far enough apart.
        wanted: how many of `count` must meet it; fewer must not, where `most` is the limit.
        missing: how many more of them are needed.
    """

    target: Target
    there: int
    wanted: int
    missing: int


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        faces: ids, in the part's order.
        shares: condition -> share of the chosen faces that meet it.
        available: condition -> share of all faces.
        total: living faces.
        lacks: what is missing for `count`; empty where it was reached or nobody asked.
        proven: whether no larger choice exists.
    """

    faces: tuple[str, ...]
    shares: Mapping[str, float]
    available: Mapping[str, float]
    total: int
    lacks: tuple[Lack, ...] = field(default=())
    proven: bool = True


def select(part: Part, targets: Targets) -> Choice:
    """The largest choice of a part's living faces that meets targets.

    Raises:
        UsageError: a condition is no SQL over the part's columns, or a column is not there, or
            faces must be apart and have no embedding, or nothing meets all targets.
        IntegrityError: embeddings are damaged.
    """
    columns = ["face_id", *(f"coalesce(({t.condition}), false)" for t in targets.shares)]
    if targets.prefer:
        columns.append(f"cast({targets.prefer} as double)")
    told = query(part, ", ".join(f"{c} as c{i}" for i, c in enumerate(columns)), "alive")
    faces = told.column("c0").to_pylist()
    if not faces:
        raise UsageError(f"{part.root}: no face is left to choose from")
    meets = np.array(
        [told.column(f"c{i + 1}").to_pylist() for i in range(len(targets.shares))], bool
    ).reshape(len(targets.shares), len(faces))
    worth = np.zeros(len(faces))
    if targets.prefer:
        values = told.column(f"c{len(columns) - 1}").to_pylist()
        worth = np.array([-math.inf if v is None else float(v) for v in values])
    near = np.zeros((0, 2), np.int64)
    if targets.apart is not None:
        i, j, _ = all_pairs(_embeddings(part, faces), targets.apart)
        near = np.stack([i, j], 1)
    chosen, proven = choose(meets, targets.shares, near, targets.count, worth)
    if not chosen.any():
        raise UsageError(
            f"{part.root}: no choice meets all targets; of {len(faces)} faces "
            + ", ".join(
                f"{int(m.sum())} meet {t.condition!r}"
                for t, m in zip(targets.shares, meets, strict=True)
            )
        )
    lacks: tuple[Lack, ...] = ()
    if targets.count is not None and chosen.sum() < targets.count:
        lacks = tuple(_lacks(meets, targets, near, targets.count))
    names = [t.condition for t in targets.shares]
    return Choice(
        tuple(face for face, kept in zip(faces, chosen, strict=True) if kept),
        {n: float(m[chosen].mean()) for n, m in zip(names, meets, strict=True)},
        {n: float(m.mean()) for n, m in zip(names, meets, strict=True)},
        len(faces),
        lacks,
        proven,
    )


def _embeddings(part: Part, faces: Sequence[str]) -> npt.NDArray[np.float32]:
    rows = {}
    for record in part.faces():
        if "embedding" not in record.rows:
            raise UsageError(
                f"{part.root}: face {record.face_id} has no embedding, which `apart` needs; run: "
                f"sfhq embed {part.root}"
            )
        rows[record.face_id] = part.row("embedding", record)
    found = np.stack([rows[face] for face in faces]).astype(np.float32)
    if not np.isfinite(found).all():
        raise IntegrityError(f"{part.root}: embeddings are not finite; run: sfhq embed --redo")
    return found


def choose(
    meets: Flags,
    targets: Sequence[Target],
    near: npt.NDArray[np.int64],
    count: int | None,
    worth: npt.NDArray[np.float64],
) -> tuple[Flags, bool]:
    """Which faces to take.

    Args:
        meets: (T, N) whether each face meets each condition.
        targets: T of them.
        near: (P, 2) pairs of faces of which at most one may be taken.
        count: at most so many; None for as many as possible.
        worth: (N,) of interchangeable faces those with the highest are taken.

    Returns:
        (N,) chosen, and whether it is proven that there is no larger choice.
    """
    total = meets.shape[1]
    bound = np.zeros(total, bool)
    bound[near.ravel()] = True
    # A kind is a set of targets that are met; a face that is near another is a kind of its own.
    keys: dict[bytes, int] = {}
    kind = np.empty(total, np.int64)
    for face in range(total):
        own = meets[:, face].tobytes() + (face.to_bytes(8) if bound[face] else b"")
        kind[face] = keys.setdefault(own, len(keys))
    sizes = np.bincount(kind, minlength=len(keys)).astype(float)
    first = np.zeros(len(keys), np.int64)
    first[kind[::-1]] = np.arange(total)[::-1]
    of_kind = meets[:, first].astype(float)  # (T, K)
    limits = []
    for target, row in zip(targets, of_kind, strict=True):
        if target.least > 0:
            limits.append(LinearConstraint(csr_array((row - target.least)[None]), 0, np.inf))
        if target.most < 1:
            limits.append(LinearConstraint(csr_array((row - target.most)[None]), -np.inf, 0))
    if count is not None:
        limits.append(LinearConstraint(csr_array(np.ones((1, len(keys)))), 0, count))
    if len(near):
        sets = _cliques(near, total)
        rows = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
        at = kind[np.concatenate([np.array(s) for s in sets])]
        matrix = coo_array((np.ones(len(at)), (rows, at)), shape=(len(sets), len(keys)))
        limits.append(LinearConstraint(csr_array(matrix), -np.inf, 1))
    # Among the largest choices the one with the most worth: a small share of one face decides.
    finite = np.where(np.isfinite(worth), worth, np.nan)
    spread = np.nanmax(finite) - np.nanmin(finite) if np.isfinite(finite).any() else 0.0
    bonus = np.zeros(len(keys))
    if spread > 0:
        rank = np.nan_to_num((finite - np.nanmin(finite)) / spread)
        single = bound[first]
        bonus[single] = rank[first[single]] * 0.5 / total
    found = milp(
        -(1 + bonus),
        constraints=limits,
        bounds=Bounds(0, sizes),
        integrality=np.ones(len(keys)),
        options={"time_limit": SECONDS, "mip_rel_gap": GAP if not len(near) else 1e-9},
    )
    taken = np.zeros(len(keys)) if found.x is None else np.round(found.x)
    chosen = np.zeros(total, bool)
    order = np.lexsort((np.arange(total), -worth))
    left = taken.copy()
    for face in order:
        if left[kind[face]] > 0:
            chosen[face] = True
            left[kind[face]] -= 1
    return chosen, found.status == 0


def _cliques(near: npt.NDArray[np.int64], total: int) -> list[list[int]]:
    """Sets of faces of which at most one may be taken, covering all pairs.

    Where all of a connected group are near each other one set says it all, and the solver needs no
    search.
    """
    graph = coo_array((np.ones(len(near)), (near[:, 0], near[:, 1])), shape=(total, total))
    _, group = connected_components(graph, directed=False)
    members: dict[int, list[int]] = {}
    for face in np.unique(near).tolist():
        members.setdefault(int(group[face]), []).append(face)
    pairs: dict[int, list[list[int]]] = {}
    for i, j in near.tolist():
        pairs.setdefault(int(group[i]), []).append([i, j])
    found = []
    for key, faces in members.items():
        whole = len(faces) * (len(faces) - 1) // 2 == len(pairs[key])
        found += [faces] if whole else pairs[key]
    return found


def _lacks(meets: Flags, targets: Targets, near: npt.NDArray[np.int64], count: int) -> list[Lack]:
    """Which targets, each alone, keep the choice below `count`, and by how many faces."""
    found = []
    total = meets.shape[1]
    nothing = np.zeros(total)
    every, _ = choose(meets[:0], (), near, None, nothing)
    if every.sum() < count:
        found.append(
            Lack(
                Target("faces far enough apart"), int(every.sum()), count, count - int(every.sum())
            )
        )
    for target, row in zip(targets.shares, meets, strict=True):
        for condition, flags, share in (
            (target.condition, row, target.least),
            (f"not ({target.condition})", ~row, 1 - target.most),
        ):
            wanted = math.ceil(share * count - 1e-9)
            if wanted <= 0:
                continue
            inside = near[flags[near].all(1)] if len(near) else near
            place = np.cumsum(flags) - 1
            size = int(flags.sum())
            kept, _ = choose(meets[:0, :size], (), place[inside], None, nothing[:size])
            there = int(kept.sum())
            if there < wanted:
                found.append(Lack(Target(condition, share), there, wanted, wanted - there))
    return found
