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
from encoders.flip.studies.arms import found_in, table
from encoders.flip.studies.facts import FaceFacts
from encoders.flip.studies.probe import LEAST as FEW
from encoders.flip.tokens import Tokens
from sfhq.errors import UsageError

AT = 10
RESAMPLES = 2000
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
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
    recall: Floats | None = None
    told: Answers | None = None
    if network is not None and tokens is not None and data is not None:
        gallery = see(network, tokens, data)
        recall = found_in(gallery).by_image(AT)
        told = answers(gallery.whole.double().numpy(), facts, data)
    rng = np.random.default_rng(0)
    groups: dict[str, dict[str, dict[str, Value]]] = {}
    worst: dict[str, dict[str, str]] = {}
    gaps: dict[str, dict[str, Value]] = {}
    for kind in by:
        of = [_group(facts, face, kind) for face in _of(data)]
        names = sorted({_group(facts, face, kind) for face in facts.faces})
        places = {group: np.array([g == group for g in of], bool) for group in names}
        judged = {g: here for g, here in places.items() if g != UNKNOWN}
        probes = {} if told is None else told.by_group(judged, least, rng)
        found: dict[str, dict[str, Value]] = {}
        draws: dict[tuple[str, str], Floats] = {}
        for group in names:
            figures = found[group] = {}
            members = [f for n, f in facts.faces.items() if _group(facts, n, kind) == group]
            alive = [f for f in members if not f.lost]
            values = {
                "recall": [] if recall is None else recall[places[group]],
                "captioned": [f.captioned for f in alive],
                "labels dropped": [f.dropped / f.asked for f in alive if f.asked],
                "lost": [bool(f.lost) for f in members],
            }
            for name, some in values.items():
                own = np.asarray(some, np.float64)
                if not len(own):
                    continue
                drawn = draws[group, name] = own[
                    rng.integers(len(own), size=(RESAMPLES, len(own)))
                ].mean(1)
                whole = name in ("captioned", "lost")
                figures[name] = (
                    share(own.sum(), len(own)) if whole else _value(own.mean(), drawn, len(own))
                )
            if group in probes:
                value, drawn = probes[group]
                figures["probe"] = _value(value, drawn, int(places[group].sum()))
                draws[group, "probe"] = drawn
        groups[kind] = found
        worst[kind], gaps[kind] = _worst(found, draws, least)
    return Fairness(groups, worst, gaps, least)


def _group(facts: FaceFacts, face: str, kind: str) -> str:
    """The group of a face."""
    known = facts.faces.get(face)
    return (known.groups.get(kind) if known else None) or UNKNOWN


def _value(value: float, draws: Floats, count: int) -> Value:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Value(float(value), float(low), float(high), count)


def _of(data: Captioned | None) -> tuple[str, ...]:
    return () if data is None else data.names


def _worst(
    found: Mapping[str, Mapping[str, Value]],
    draws: Mapping[tuple[str, str], Floats],
    least: int,
) -> tuple[dict[str, str], dict[str, Value]]:
    """The worst group of each figure, and how far it is from the best."""
    worst: dict[str, str] = {}
    gaps: dict[str, Value] = {}
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
        apart = draws[low, name] - draws[high, name]
        a, b = found[low][name], found[high][name]
        gaps[name] = _value(a.value - b.value, apart, min(a.count, b.count))
    return worst, gaps


@dataclass(frozen=True, eq=False)
class Answers:
    """What linear models of attributes say of faces that they were not trained on.

    Attributes:
        yes: (N, K) bool, the truth.
        known: (N, K) bool, where the truth is known and a model answered.
        right: (N, K) bool, the answer is the truth.
    """

    yes: Bools
    known: Bools
    right: Bools

    def by_group(
        self, groups: Mapping[str, Bools], least: int, rng: np.random.Generator
    ) -> dict[str, tuple[float, Floats]]:
        """The mean balanced accuracy of each group, and that of resamples of its faces.

        Only attributes count that five faces have and five lack in every group of `least` faces or
        more: so all groups answer the same questions, and none of them by its sex or age alone.

        Args:
            groups: group -> (N,) bool, its faces.
            least: faces that a group needs to be judged.
            rng: of the resamples.

        Returns:
            group -> value and (2000,) values of resamples; without groups that lack such faces.
        """
        fewest = {
            group: np.minimum(
                (self.known & self.yes)[here].sum(0), (self.known & ~self.yes)[here].sum(0)
            )
            for group, here in groups.items()
        }
        judged = [fewest[g] >= FEW for g, here in groups.items() if here.sum() >= least]
        asked = np.flatnonzero(np.all(judged, axis=0)) if judged else np.zeros(0, int)
        found = {}
        for group, here in groups.items():
            if not len(asked) or fewest[group][asked].min() < 1:
                continue
            yes, known, right = (x[here][:, asked] for x in (self.yes, self.known, self.right))
            sides = np.concatenate([known & yes, known & ~yes], 1).astype(np.float64)  # (n, 2K)
            hits = sides * np.concatenate([right, right], 1)
            drawn = []
            for _ in range(RESAMPLES):
                times = np.bincount(rng.integers(len(yes), size=len(yes)), minlength=len(yes))
                drawn.append(_balanced(times @ hits, times @ sides))
            found[group] = _balanced(hits.sum(0), sides.sum(0)), np.array(drawn)
        return found


def _balanced(hits: Floats, asked: Floats) -> float:
    """The mean share of right answers over both sides of attributes that were asked."""
    return float((hits[asked > 0] / asked[asked > 0]).mean())


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

    truth = facts.matrix(data.names, facts.names())
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
