"""The figures beside the face: counts, rate, histograms, accuracy, agreement."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from curation.labels.agreement import Agreement, Share, overall_alpha, pairwise_kappa
from curation.labels.events import JUDGED, Action, LabelEvent, person
from curation.page.session import Session
from curation.taste.judge import auc_with_interval
from sfhq.parts.records import Array, Json

BINS = 25
ENOUGH = 30  # random faces; with fewer no accuracy is given


def figures(session: Session, annotator: str, tab: str = "") -> dict[str, Json]:
    """What a page of a person shows beside the face: counts, rate, histograms, agreement."""
    annotator = person(annotator)
    with session.at_rest():
        desk = session.desk(annotator, tab)
        standing = session.store.standing(annotator)
        mine = [s.event for s in standing if s.event.action in JUDGED]
        labels = session.store.labels()
        last = [e for e in mine if e.session == desk.session]
        judged = {f for f in labels if f in session.index}
        return {
            "faces": len(session.faces),
            "labelled": len(judged),
            "kept": sum(labels[f] for f in judged),
            "mine": len(mine),
            "flagged": sum(s.event.action == Action.FLAG for s in session.store.current()),
            "rate": _rate([e.at for e in last[-50:]]),
            "conflicts": len(session.store.conflicts()),
            "people": session.store.annotators(),
            "trouble": session.trouble,
            "training": session.training,
            "trainings": session.trainings,
            "model": _about(session),
            "random": _share_dict(_random_accuracy(session, annotator), ENOUGH),
            "consistency": _share_dict(_consistency(session, annotator), 1),
            "histograms": _histograms(session, labels, last),
            "agreement": _agreement(session),
        }


def _about(session: Session) -> dict[str, Json] | None:
    if session.model is None:
        return None
    found: dict[str, Json] = {
        "version": session.model.version,
        "kept": session.model.counts[0],
        "rejected": session.model.counts[1],
        "accept": _finite(session.model.accept),
        "reject": _finite(session.model.reject),
    }
    if len(session.model.out_of_fold) == sum(session.model.counts):
        known = _known_labels(session)
        if known is not None:
            value, low, high = auc_with_interval(session.model.out_of_fold, known)
            found["auc"] = {"value": value, "low": low, "high": high}
    return found


def _known_labels(session: Session) -> Array | None:
    """The labels that the model was fitted on, in the order of its out-of-fold scores."""
    return None if session.model is None else session.model.labels


def _random_accuracy(session: Session, annotator: str) -> Share:
    """How often the model was right on faces drawn at random, whose score nobody saw."""
    events = [
        s.event
        for s in session.store.standing(annotator)
        if s.event.reason == "random" and s.event.action in JUDGED
    ]
    scored = [e for e in events if e.score is not None]
    right = sum(((e.score or 0) >= 0.5) == (e.action == Action.KEEP) for e in scored)
    return Share.of(right, len(scored))


def _consistency(session: Session, annotator: str) -> Share:
    repeats = session.store.repeats(annotator)
    return Share.of(sum(r.first == r.again for r in repeats), len(repeats))


def _histograms(
    session: Session, labels: dict[str, bool], last: list[LabelEvent]
) -> dict[str, Json]:
    """Histograms of cross-validated scores by label, of unlabelled faces, and of this session."""
    edges = np.linspace(0, 1, BINS + 1)

    def bars(values: Sequence[float] | Array) -> list[int]:
        counts: list[int] = np.histogram(np.clip(values, 0, 1), edges)[0].tolist()
        return counts

    if session.model is None:
        return {}
    known = _known_labels(session)
    assert known is not None
    free = np.array([i for f, i in session.index.items() if f not in labels], dtype=np.int64)
    shown = [(e.score, e.action == Action.KEEP) for e in last if e.score is not None]
    return {
        "kept": bars(session.model.out_of_fold[known]),
        "rejected": bars(session.model.out_of_fold[~known]),
        "pool": bars(session.scores[free]),
        "session_kept": bars([s for s, kept in shown if kept]),
        "session_rejected": bars([s for s, kept in shown if not kept]),
    }


def _agreement(session: Session) -> dict[str, Json] | None:
    by_person: dict[str, dict[str, bool]] = {}
    for stored in session.store.current():
        event = stored.event
        if event.action in JUDGED:
            by_person.setdefault(event.annotator, {})[event.face_id] = event.action == Action.KEEP
    people = sorted(by_person)
    if len(people) < 2:
        return None
    if len(people) == 2:
        found: Agreement = pairwise_kappa(by_person, people[0], people[1])
        name = "Cohen's kappa"
    else:
        found, name = overall_alpha(by_person), "Krippendorff's alpha"
    values = {k: _finite(getattr(found, k)) for k in ("value", "low", "high")}
    return {"name": name, "count": found.count, **values}


def conflicts(session: Session) -> list[dict[str, Json]]:
    """Faces on which people disagree, for the review."""
    return [
        {"face": c.face_id, "labels": {k: str(v) for k, v in sorted(c.labels.items())}}
        for c in session.store.conflicts()
        if c.face_id in session.index
    ]


def _rate(times: list[float]) -> float | None:
    """Labels an hour at the given times; gaps of 30 s and more do not count."""
    gaps = [b - a for a, b in itertools.pairwise(times) if b - a < 30]
    return round(3600 * len(gaps) / sum(gaps), 1) if gaps and sum(gaps) > 0 else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _share_dict(share: Share, enough: int) -> dict[str, Any]:
    known = share.count >= enough
    return {
        "count": share.count,
        "wanted": enough,
        "value": share.value if known else None,
        "low": share.low if known else None,
        "high": share.high if known else None,
    }
