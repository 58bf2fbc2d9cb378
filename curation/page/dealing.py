"""Which face a person sees next: one that teaches most, one at random, or a repeat."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from curation.faces import Faces
from curation.labels.events import JUDGED, Action, person
from curation.labels.store import LabelStore
from curation.page.learning import Learner
from curation.page.order import next_faces, spread_out
from curation.taste.reduction import unit_vectors
from sfhq.errors import UsageError
from sfhq.parts.records import Array, Json

LEASE_SECONDS = 180.0  # without a sign of life a page gives its faces back; pages ask every few s
MOST_DESKS = 500  # of those that are kept in memory
TAB = re.compile(r"[0-9A-Za-z-]{0,40}", re.ASCII)


@dataclass(frozen=True)
class SessionSettings:
    """How faces are dealt.

    Attributes:
        random_share: share of faces drawn at random; they measure the model without bias.
        repeat_share: share of faces shown a second time without saying so; they measure how
            consistent the person is.
        repeat_gap: labels between a face and its repeat.
        overlap: share of faces that everybody gets, if several people label.
        retrain_every: labels between two trainings.
        seed: of all random choices.
    """

    random_share: float = 0.08
    repeat_share: float = 0.03
    repeat_gap: int = 50
    overlap: float = 0.1
    retrain_every: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("random_share", "repeat_share", "overlap"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"{name} is {value}; wanted a share, 0 to 1")
        if self.retrain_every < 1 or self.repeat_gap < 0:
            raise UsageError("retrain_every must be 1 or more, and repeat_gap 0 or more")


@dataclass(frozen=True)
class Card:
    """A face to show.

    Attributes:
        face_id: the face.
        reason: why it is shown: "uncertain", "random", "repeat", "spread", "grid" or "review".
        score: what the model gives it; None without a model.
        model: version of the model; "" without one.
    """

    face_id: str
    reason: str
    score: float | None
    model: str

    def to_dict(self, blind: bool) -> dict[str, Json]:
        """As JSON for the page. Repeats look like other cards; blind pages get no score."""
        shown = None if blind or self.reason in ("random", "repeat") else self.score
        return {"face": self.face_id, "score": shown}


@dataclass
class Desk:
    """The faces that one page of one person has been dealt.

    Attributes:
        session: id of this session of this person.
        dealt: face_id -> its card, until it is answered.
        seen: when the page last asked for something, in seconds of the dealer's clock.
    """

    session: str
    dealt: dict[str, Card] = field(default_factory=dict)
    seen: float = 0.0


class Dealer:
    """Deals faces to people. One thread at a time may use it.

    Args:
        faces: the faces to judge.
        index: face_id -> place of the face in `faces`.
        store: where labels are.
        learner: its scores say which labels teach most.
        settings: how faces are dealt.
        clock: seconds, of which only differences count.
    """

    def __init__(
        self,
        faces: Faces,
        index: Mapping[str, int],
        store: LabelStore,
        learner: Learner,
        settings: SessionSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.faces, self.index, self.store = faces, index, store
        self.learner, self.settings = learner, settings
        blocks, n = learner.blocks, len(faces)
        self._alike = unit_vectors(blocks) if blocks else np.zeros((n, 1), dtype=np.float32)
        self._rng = np.random.default_rng(settings.seed)
        self._common = np.random.default_rng(settings.seed + 1).random(n)
        self._desks: dict[tuple[str, str], Desk] = {}  # by person and page

    def sit_down(self, annotator: str, tab: str = "") -> None:
        """A person opens a page: what this page was dealt and did not answer is free again.

        Raises:
            UsageError: a name or an id of a page that cannot be.
        """
        if not TAB.fullmatch(tab):
            raise UsageError(f"tab {tab[:80]!r}; wanted up to 40 letters and digits")
        name = person(annotator)
        if (name, tab) not in self._desks and len(self._desks) >= MOST_DESKS:
            self._desks.pop(min(self._desks, key=lambda k: self._desks[k].seen))
        self._desks[name, tab] = Desk(session=uuid.uuid4().hex[:12], seen=self.clock())

    def desk(self, annotator: str, tab: str = "") -> Desk:
        """The desk of a person's page, which is hereby alive; a new one if there is none."""
        key = person(annotator), tab
        if key not in self._desks:
            self.sit_down(annotator, tab)
        desk = self._desks[key]
        desk.seen = self.clock()
        return desk

    def leave(self, annotator: str, tab: str = "") -> None:
        """A page is closed: its faces can be dealt to others at once."""
        desk = self._desks.get((person(annotator), tab))
        if desk is not None:
            desk.seen = -np.inf

    def held(self, annotator: str, face: str, tab: str = "") -> Card | None:
        """The card by which a person got a face, on this page or another; None without one."""
        pages = [self.desk(annotator, tab), *self._of(annotator)]
        return next((d.dealt[face] for d in pages if face in d.dealt), None)

    def answered(self, annotator: str, face: str) -> None:
        """A face is answered: no page of this person holds it any more."""
        for desk in self._of(annotator):
            desk.dealt.pop(face, None)

    def deal(
        self,
        annotator: str,
        count: int,
        band: tuple[float, float] | None,
        mode: str,
        tab: str = "",
    ) -> list[Card]:
        """The next faces for a page of a person; see `Session.deal`."""
        annotator, desk = person(annotator), self.desk(annotator, tab)
        mine = [d for d in self._of(annotator) if self._alive(d)]
        sessions = {d.session for d in mine}
        taken = {s.event.face_id for s in self.store.current(annotator)}
        taken |= {f for d in mine for f in d.dealt} | self._elsewhere(annotator)
        taken |= {
            s.event.face_id
            for s in self.store.standing(annotator)
            if s.event.action == Action.SKIP and s.event.session in sessions
        }
        free = np.array([i for f, i in self.index.items() if f not in taken], dtype=np.int64)
        if mode == "grid":
            cards = self._grid(free, count, band)
        else:
            cards = self._single(annotator, free, count, band)
        desk.dealt.update({c.face_id: c for c in cards})
        return cards

    def _of(self, annotator: str) -> list[Desk]:
        name = person(annotator)
        return [desk for (who, _), desk in self._desks.items() if who == name]

    def _alive(self, desk: Desk) -> bool:
        return self.clock() - desk.seen <= LEASE_SECONDS

    def card(self, index: int, reason: str) -> Card:
        """A card of a face, with the score that the model gives it now."""
        model, scores = self.learner.model, self.learner.scores
        version = model.version if model else ""
        score = round(float(scores[index]), 4) if model else None
        return Card(self.faces.records[index].face_id, reason, score, version)

    def _elsewhere(self, annotator: str) -> set[str]:
        """Faces that other people have judged or hold, except for those that everybody gets."""
        others = {s.event.face_id for s in self.store.current() if s.event.annotator != annotator}
        for (name, _), desk in self._desks.items():
            if name != annotator and self._alive(desk):
                others |= desk.dealt.keys()
        return {f for f in others if self._common[self.index.get(f, 0)] >= self.settings.overlap}

    def _single(
        self, annotator: str, free: Array, count: int, band: tuple[float, float] | None
    ) -> list[Card]:
        cards: list[Card] = []
        draws = self._rng.random(count)
        random = draws < self.settings.random_share
        repeat = draws > 1 - self.settings.repeat_share
        again = self._to_repeat(annotator) if repeat.any() else []
        wanted = int((~random).sum())
        scores, spread = self.learner.scores, self.learner.spread
        if self.learner.model is not None:
            reason = "uncertain"
            best = next_faces(scores, spread, self._alike, free, wanted, self._rng, band)
        else:
            reason = "spread"
            best = spread_out(self._alike, free, wanted, self._rng)
        left = set(free.tolist())
        for i in range(count):
            if repeat[i] and again:
                cards.append(self.card(self.index[again.pop()], "repeat"))
                continue
            if not left:
                break
            while best and best[0] not in left:
                best.pop(0)
            drawn = random[i] or not best
            index = int(self._rng.choice(sorted(left))) if drawn else best.pop(0)
            left.discard(index)
            cards.append(self.card(index, "random" if random[i] else reason))
        return cards

    def _to_repeat(self, annotator: str) -> list[str]:
        """Faces judged at least `repeat_gap` labels ago and never repeated, in random order."""
        standing = [s.event for s in self.store.standing(annotator) if s.event.action in JUDGED]
        old = standing[: max(len(standing) - self.settings.repeat_gap, 0)]
        repeated = {e.face_id for e in standing if e.reason == "repeat"}
        for desk in self._of(annotator):
            repeated |= desk.dealt.keys() if self._alive(desk) else set()
        faces = sorted({e.face_id for e in old} - repeated)
        faces = [f for f in faces if f in self.index]
        return [faces[i] for i in self._rng.permutation(len(faces))]

    def _grid(self, free: Array, count: int, band: tuple[float, float] | None) -> list[Card]:
        scores = self.learner.scores
        if band is not None:
            free = free[(scores[free] >= band[0]) & (scores[free] <= band[1])]
        sure = np.abs(scores[free] - 0.5)
        best = free[np.argsort(-sure, kind="stable")][:count]
        # Shuffled: in a row of similar faces people press on without looking.
        return [self.card(int(i), "grid") for i in self._rng.permutation(best)]
