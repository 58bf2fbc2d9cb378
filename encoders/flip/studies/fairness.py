"""Whom a data set and a network serve worse: figures by group, with intervals and the worst group.

Groups are how faces look, as rendered or predicted; they are no facts about people. A group with
fewer faces than `least` is shown, but never named as the worst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from encoders.flip.data import Captioned
from encoders.flip.network import Flip
from encoders.flip.studies.arms import interval, searched, table
from encoders.flip.studies.facts import FaceFacts
from encoders.flip.studies.probe import LEAST as FEW
from encoders.flip.studies.probe import vectors
from encoders.flip.tokens import Tokens
from sfhq.errors import UsageError

AT = 10
RESAMPLES = 2000
UNKNOWN = "unknown"
# Figure -> whether more is better.
FIGURES = {
    "recall": True,
    "probe": True,
    "captioned": True,
    "labels dropped": False,
    "lost": False,
}


@dataclass(frozen=True)
class Value:
    """A figure with its 95 % interval and the number of faces that it is of."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Fairness:
    """Figures by group.

    Attributes:
        groups: kind -> group -> figure -> value. Figures: `recall`, R@10 of a face's texts among
            the held-out images; `probe`, balanced accuracy of a linear model of all attributes;
            `captioned`, share of faces with a caption; `labels dropped`, share of attributes too
            unsure to count; `lost`, share that a stage rejected.
        worst: kind -> figure -> the worst group among those with enough faces.
        gaps: kind -> figure -> the worst minus the best group's value, with its interval.
        least: faces that a group needs to be judged.
    """

    groups: Mapping[str, Mapping[str, Mapping[str, Value]]]
    worst: Mapping[str, Mapping[str, str]]
    gaps: Mapping[str, Mapping[str, Value]]
    least: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def lines(self) -> str:
        """Tables in Markdown."""
        parts = []
        for kind, groups in self.groups.items():
            rows = []
            for group, figures in groups.items():
                cells = []
                for name in FIGURES:
                    found = figures.get(name)
                    worst = self.worst[kind].get(name) == group
                    cells.append("" if found is None else _cell(found, worst, self.least))
                count = max((v.count for v in figures.values()), default=0)
                rows.append([group, str(count), *cells])
            gaps = []
            for name in FIGURES:
                gap = self.gaps[kind].get(name)
                sure = gap is not None and (gap.low > 0 or gap.high < 0)
                gaps.append("" if gap is None else _numbers(gap) + (" !" if sure else ""))
            rows.append(["worst - best", "", *gaps])
            parts.append(table([kind, "faces", *FIGURES], rows))
        parts.append(
            f"95 % intervals in brackets; * the worst group with {self.least} faces or more; ! a "
            "gap beyond chance; (few) fewer faces than that"
        )
        return "\n\n".join(parts)


def _numbers(value: Value) -> str:
    return f"{100 * value.value:.1f} ({100 * value.low:.1f} to {100 * value.high:.1f})"


def _cell(value: Value, worst: bool, least: int) -> str:
    few = "" if value.count >= least else " (few)"
    return f"{_numbers(value)}{' *' if worst else ''}{few}"


def share(hits: float, count: int) -> Value:
    """A share with Wilson's interval."""
    ci = binomtest(round(hits), count).proportion_ci(method="wilson")
    return Value(hits / count, float(ci.low), float(ci.high), count)


def fairness(
    network: Flip | None,
    tokens: Tokens | None,
    data: Captioned | None,
    facts: FaceFacts,
    by: Sequence[str],
    least: int = 30,
) -> Fairness:
    """Figures of each group.

    Args:
        network, tokens: a FLIP and its vocabulary; None leaves out `recall` and `probe`.
        data: images with texts, none of them trained on; None as well.
        facts: of the faces, with their groups.
        by: kinds of groups.
        least: faces that a group needs to be judged.

    Raises:
        UsageError: no kind of groups.
    """
    if not by:
        raise UsageError("no kind of groups; wanted such as --by sex --by age")
    scores: dict[str, npt.NDArray[np.float64]] = {}
    if network is not None and tokens is not None and data is not None:
        scores["recall"] = searched(network, tokens, data).by_image(AT)
        scores["probe"] = probe_by_face(network, facts, data)
    groups: dict[str, dict[str, dict[str, Value]]] = {}
    worst: dict[str, dict[str, str]] = {}
    gaps: dict[str, dict[str, Value]] = {}
    for kind in by:
        of = [facts.faces[f].groups.get(kind, "") if f in facts.faces else "" for f in _of(data)]
        found: dict[str, dict[str, Value]] = {}
        kept: dict[tuple[str, str], npt.NDArray[np.float64]] = {}
        for group in sorted({f.groups.get(kind, "") or UNKNOWN for f in facts.faces.values()}):
            members = [f for f in facts.faces.values() if (f.groups.get(kind) or UNKNOWN) == group]
            here = np.array([(g or UNKNOWN) == group for g in of], bool)
            figures: dict[str, Value] = {}
            for name, every in scores.items():
                own = every[here]
                own = own[~np.isnan(own)]
                if len(own):
                    figures[name] = Value(*interval(own), len(own))
                    kept[group, name] = own
            lost = np.array([bool(f.lost) for f in members], float)
            figures["lost"] = share(lost.sum(), len(lost))
            kept[group, "lost"] = lost
            alive = [f for f in members if not f.lost]
            if alive:
                said = np.array([f.captioned for f in alive], float)
                figures["captioned"] = share(said.sum(), len(said))
                kept[group, "captioned"] = said
            asked = [f for f in alive if f.asked]
            if asked:
                dropped = np.array([f.dropped / f.asked for f in asked])
                figures["labels dropped"] = Value(*interval(dropped), len(dropped))
                kept[group, "labels dropped"] = dropped
            found[group] = figures
        groups[kind] = found
        worst[kind], gaps[kind] = _worst(found, kept, least)
    return Fairness(groups, worst, gaps, least)


def _of(data: Captioned | None) -> tuple[str, ...]:
    return () if data is None else data.faces


def _worst(
    found: Mapping[str, Mapping[str, Value]],
    kept: Mapping[tuple[str, str], npt.NDArray[np.float64]],
    least: int,
) -> tuple[dict[str, str], dict[str, Value]]:
    """The worst group of each figure, and how far it is from the best."""
    worst: dict[str, str] = {}
    gaps: dict[str, Value] = {}
    rng = np.random.default_rng(0)
    for name, more in FIGURES.items():
        judged = {
            group: figures[name].value
            for group, figures in found.items()
            if group != UNKNOWN and name in figures and figures[name].count >= least
        }
        if len(judged) < 2:
            continue
        order = sorted(judged, key=lambda group: judged[group], reverse=not more)
        low, high = order[0], order[-1]
        if judged[low] == judged[high]:
            continue
        worst[name] = low
        a, b = kept[low, name], kept[high, name]
        apart = [
            a[rng.integers(len(a), size=len(a))].mean()
            - b[rng.integers(len(b), size=len(b))].mean()
            for _ in range(2000)
        ]
        ends = np.quantile(apart, [0.025, 0.975])
        gaps[name] = Value(
            float(a.mean() - b.mean()), float(ends[0]), float(ends[1]), min(len(a), len(b))
        )
    return worst, gaps


def probe_by_face(
    network: Flip, facts: FaceFacts, data: Captioned, folds: int = 5
) -> npt.NDArray[np.float64]:
    """(N,) how right a linear model is about each face's attributes, weighted by rarity.

    Cross-validated by face. Each answer of an attribute weighs as much as the other, so the mean
    over faces is a balanced accuracy; NaN for a face of which nothing is judged.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    names = facts.names()
    truth = facts.matrix(data.faces, names)
    seen = StandardScaler().fit_transform(vectors(network, data))
    fold = np.array([key % folds for key in data.face_keys().tolist()])
    right, weight = np.zeros(len(data)), np.zeros(len(data))
    for k in range(len(names)):
        known = ~np.isnan(truth[:, k])
        yes = truth[:, k] > 0.5
        if min(int((known & yes).sum()), int((known & ~yes).sum())) < folds * FEW:
            continue
        told = np.zeros(len(data), bool)
        for part in range(folds):
            learn, test = known & (fold != part), known & (fold == part)
            if not test.any() or len({*yes[learn].tolist()}) < 2:
                continue
            model = LogisticRegression(C=0.05, class_weight="balanced", max_iter=300)
            told[test] = model.fit(seen[learn], yes[learn]).predict(seen[test])
        share_of = np.where(yes, yes[known].mean(), 1 - yes[known].mean())
        each = np.where(known, 0.5 / np.maximum(share_of, 1e-9), 0.0)
        right += each * (told == yes)
        weight += each
    return np.where(weight > 0, right / np.maximum(weight, 1e-9), np.nan)
