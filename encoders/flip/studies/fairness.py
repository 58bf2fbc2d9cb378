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
from encoders.flip.evaluation import see
from encoders.flip.network import Flip
from encoders.flip.studies.arms import found_in, interval, table
from encoders.flip.studies.facts import FaceFacts
from encoders.flip.studies.probe import LEAST as FEW
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
            the held-out images; `probe`, mean balanced accuracy of linear models of
            the attributes that every judged group has and lacks;
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
                searched = str(figures["recall"].count) if "recall" in figures else ""
                rows.append([group, str(figures["lost"].count), searched, *cells])
            gaps = []
            for name in FIGURES:
                gap = self.gaps[kind].get(name)
                sure = gap is not None and (gap.low > 0 or gap.high < 0)
                gaps.append("" if gap is None else _numbers(gap) + (" !" if sure else ""))
            rows.append(["worst - best", "", "", *gaps])
            parts.append(table([kind, "faces", "searched", *FIGURES], rows))
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
    recall: npt.NDArray[np.float64] | None = None
    told: Answers | None = None
    if network is not None and tokens is not None and data is not None:
        gallery = see(network, tokens, data)
        recall = found_in(gallery).by_image(AT)
        told = answers(gallery.whole.double().numpy(), facts, data)
    groups: dict[str, dict[str, dict[str, Value]]] = {}
    worst: dict[str, dict[str, str]] = {}
    gaps: dict[str, dict[str, Value]] = {}
    for kind in by:
        of = [_group(facts, face, kind) for face in _of(data)]
        names = sorted({_group(facts, face, kind) for face in facts.faces})
        places = {group: np.array([g == group for g in of], bool) for group in names}
        judged = {g: here for g, here in places.items() if g != UNKNOWN}
        probes = {} if told is None else told.by_group(judged, least)
        found: dict[str, dict[str, Value]] = {}
        kept: dict[tuple[str, str], npt.NDArray[np.float64]] = {}
        for group in names:
            members = [f for n, f in facts.faces.items() if _group(facts, n, kind) == group]
            figures: dict[str, Value] = {}
            if recall is not None and places[group].any():
                own = recall[places[group]]
                figures["recall"], kept[group, "recall"] = Value(*interval(own), len(own)), own
            if group in probes:
                own = probes[group]
                figures["probe"], kept[group, "probe"] = Value(*interval(own), len(own)), own
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


def _group(facts: FaceFacts, face: str, kind: str) -> str:
    """The group of a face."""
    known = facts.faces.get(face)
    return (known.groups.get(kind) if known else None) or UNKNOWN


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


@dataclass(frozen=True, eq=False)
class Answers:
    """What linear models of attributes say of faces that they were not trained on.

    Attributes:
        yes: (N, K) bool, the truth.
        known: (N, K) bool, where the truth is known and a model answered.
        right: (N, K) bool, the answer is the truth.
    """

    yes: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    right: npt.NDArray[np.bool_]

    def by_group(
        self, groups: Mapping[str, npt.NDArray[np.bool_]], least: int
    ) -> dict[str, npt.NDArray[np.float64]]:
        """For each group the values of its faces, whose mean is its balanced accuracy.

        Only attributes count that five faces have and five lack in every group of `least` faces or
        more: so all groups answer the same questions, and none of them by its sex or age alone.

        Args:
            groups: group -> (N,) bool, its faces.
            least: faces that a group needs to be judged.

        Returns:
            group -> (n,) values of its faces; without groups that lack such faces.
        """
        counts = {
            group: np.minimum(
                (self.known & self.yes)[here].sum(0), (self.known & ~self.yes)[here].sum(0)
            )
            for group, here in groups.items()
        }
        judged = [counts[g] >= FEW for g, here in groups.items() if here.sum() >= least]
        asked = np.flatnonzero(np.all(judged, axis=0)) if judged else np.zeros(0, int)
        found = {}
        for group, here in groups.items():
            if not len(asked) or counts[group][asked].min() < 1:
                continue
            yes, known, right = (x[here][:, asked] for x in (self.yes, self.known, self.right))
            share_of = np.where(yes, (known & yes).sum(0), (known & ~yes).sum(0)) / here.sum()
            found[group] = np.where(known & right, 0.5 / share_of, 0.0).mean(1)
        return found


def answers(
    seen: npt.NDArray[np.float64], facts: FaceFacts, data: Captioned, folds: int = 5
) -> Answers:
    """Linear models of all attributes, cross-validated by face.

    Args:
        seen: (N, C) what a network says of the images.
        facts: of the faces.
        data: the images.
        folds: how many.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    truth = facts.matrix(data.faces, facts.names())
    yes = truth > 0.5
    known, right = np.zeros(truth.shape, bool), np.zeros(truth.shape, bool)
    seen = StandardScaler().fit_transform(seen)
    # By the order of the keys: the keys of held-out faces have a common divisor.
    fold = np.unique(data.face_keys().numpy(), return_inverse=True)[1] % folds
    for k in range(truth.shape[1]):
        asked = ~np.isnan(truth[:, k])
        if min(int((asked & yes[:, k]).sum()), int((asked & ~yes[:, k]).sum())) < folds * FEW:
            continue
        for part in range(folds):
            learn, test = asked & (fold != part), asked & (fold == part)
            if not test.any() or len({*yes[learn, k].tolist()}) < 2:
                continue
            model = LogisticRegression(C=0.05, class_weight="balanced", max_iter=300)
            told = model.fit(seen[learn], yes[learn, k]).predict(seen[test])
            known[test, k], right[test, k] = True, told == yes[test, k]
    return Answers(yes, known, right)
