"""A sitting in front of faces: whom to show next, what was said, what was learned. No HTTP."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context

import numpy as np

from curation.faces import Faces
from curation.labels import Action, LabelEvent, LabelStore, StoredEvent, now
from curation.order import next_faces, spread_out
from curation.taste import FEWEST, QUICK, Blocks, TasteModel, fit_taste
from sfhq.errors import SfhqError, UsageError
from sfhq.records import Array, Json

JUDGED = (Action.KEEP, Action.REJECT)


@dataclass(frozen=True)
class SessionSettings:
    """How faces are dealt.

    Attributes:
        random_share: of faces dealt at random: they measure without bias.
        repeat_share: of faces shown again unannounced: they measure the person.
        repeat_gap: labels between a face and its repeat.
        overlap: share of faces that everybody gets, with several people.
        retrain_every: labels between two trainings.
        seed: of all choices.
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
            raise UsageError("retrain_every is to be 1 or more, repeat_gap 0 or more")


@dataclass(frozen=True)
class Card:
    """A face to be shown.

    Attributes:
        face_id: the face.
        reason: why: "uncertain", "random", "repeat", "spread", "grid" or "review".
        score: what the model gives, if there is one.
        model: its version.
    """

    face_id: str
    reason: str
    score: float | None
    model: str

    def to_dict(self, blind: bool) -> dict[str, Json]:
        """For the page. A repeat looks like any other card, and a blind one has no score."""
        shown = None if blind or self.reason in ("random", "repeat") else self.score
        return {"face": self.face_id, "score": shown}


@dataclass
class _Desk:
    """What one person has in front of them."""

    session: str
    dealt: dict[str, Card] = field(default_factory=dict)
    since_repeat: int = 0


def _learn(blocks: Blocks, rows: Array, labels: Array) -> tuple[TasteModel, Array, Array]:
    """In a worker: a model and what it says of every face."""
    import os

    os.nice(max(10 - os.nice(0), 0))
    model = fit_taste({n: b[rows] for n, b in blocks.items()}, labels, settings=QUICK)
    return model, *model.judge(blocks)


class Session:
    """Labels of a part, and the model that learns from them. Safe between threads.

    Args:
        faces: who is judged.
        store: where labels go.
        settings: how faces are dealt.
        model: to begin with; it is replaced once there are labels enough.
    """

    def __init__(
        self,
        faces: Faces,
        store: LabelStore,
        settings: SessionSettings | None = None,
        model: TasteModel | None = None,
    ) -> None:
        self.faces, self.store = faces, store
        self.settings = settings or SessionSettings()
        self.index = {r.face_id: i for i, r in enumerate(faces.records)}
        self.blocks = faces.feature_sets()
        self._lock = threading.RLock()
        self._rng = np.random.default_rng(self.settings.seed)
        self._desks: dict[str, _Desk] = {}
        self._pool: ProcessPoolExecutor | None = None
        self._training: Future[tuple[TasteModel, Array, Array]] | None = None
        self._trained_on = 0
        self.trouble = ""
        self.trainings = 0
        n = len(faces)
        self._distance = _distances(self.blocks, n)
        self.model: TasteModel | None = None
        self.scores, self.spread = np.full(n, 0.5), np.zeros(n)
        if model is not None:
            self.scores, self.spread = model.judge(self.blocks)
            self.model = model
        self._common = np.random.default_rng(self.settings.seed + 1).random(n)

    def close(self) -> None:
        """End the worker."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in list((self._pool._processes or {}).values()):
                process.terminate()

    # Dealing.

    def sit_down(self, annotator: str) -> None:
        """A person opens the page: what was dealt and not answered goes back."""
        name = annotator.strip()
        if not name or len(name) > 64 or not name.isprintable():
            raise UsageError(f"annotator {annotator!r}; wanted a name of 1 to 64 letters")
        with self._lock:
            self._desks[name] = _Desk(session=uuid.uuid4().hex[:12])

    def desk(self, annotator: str) -> _Desk:
        """The person's desk; made if need be."""
        with self._lock:
            if annotator not in self._desks:
                self.sit_down(annotator)
            return self._desks[annotator]

    def deal(
        self,
        annotator: str,
        count: int,
        band: tuple[float, float] | None = None,
        mode: str = "single",
    ) -> list[Card]:
        """The next faces for a person; each is dealt once.

        Args:
            annotator: who asks.
            count: at most so many.
            band: scores of interest.
            mode: "single" asks what teaches most, with random faces and repeats among them;
                "grid" gives faces by score, the surest first, for many at once.
        """
        with self._lock:
            self._collect()
            desk = self.desk(annotator)
            judged = {s.event.face_id for s in self.store.current(annotator)}
            taken = judged | desk.dealt.keys() | self._elsewhere(annotator)
            skipped = {
                s.event.face_id
                for s in self.store.standing(annotator, desk.session)
                if s.event.action == Action.SKIP
            }
            free = np.array(
                [i for f, i in self.index.items() if f not in taken and f not in skipped],
                dtype=np.int64,
            )
            cards = self._grid(free, count, band) if mode == "grid" else []
            if mode != "grid":
                cards = self._single(annotator, desk, free, count, band)
            desk.dealt.update({c.face_id: c for c in cards})
            return cards

    def _elsewhere(self, annotator: str) -> set[str]:
        """Faces that others have judged or hold, but for the common share."""
        others = {s.event.face_id for s in self.store.current() if s.event.annotator != annotator}
        for name, desk in self._desks.items():
            if name != annotator:
                others |= desk.dealt.keys()
        return {f for f in others if self._common[self.index.get(f, 0)] >= self.settings.overlap}

    def _card(self, index: int, reason: str) -> Card:
        version = self.model.version if self.model else ""
        score = round(float(self.scores[index]), 4) if self.model else None
        return Card(self.faces.records[index].face_id, reason, score, version)

    def _single(
        self,
        annotator: str,
        desk: _Desk,
        free: Array,
        count: int,
        band: tuple[float, float] | None,
    ) -> list[Card]:
        cards: list[Card] = []
        draws = self._rng.random(count)
        random = draws < self.settings.random_share
        repeat = draws > 1 - self.settings.repeat_share
        again = self._to_repeat(annotator) if repeat.any() else []
        wanted = int((~random).sum())
        if self.model is not None:
            best = next_faces(
                self.scores, self.spread, self._distance, free, wanted, self._rng, band
            )
        else:
            best = spread_out(self._distance, free, wanted, self._rng)
        left = set(free.tolist())
        for i in range(count):
            if repeat[i] and again:
                cards.append(self._card(self.index[again.pop()], "repeat"))
                continue
            if not left:
                break
            if random[i]:
                index, reason = int(self._rng.choice(sorted(left))), "random"
            else:
                while best and best[0] not in left:
                    best.pop(0)
                index = best.pop(0) if best else int(self._rng.choice(sorted(left)))
                reason = "uncertain" if self.model is not None else "spread"
            left.discard(index)
            cards.append(self._card(index, reason))
        return cards

    def _to_repeat(self, annotator: str) -> list[str]:
        """Faces judged long enough ago and never repeated, in random order."""
        standing = [s.event for s in self.store.standing(annotator) if s.event.action in JUDGED]
        old = standing[: max(len(standing) - self.settings.repeat_gap, 0)]
        repeated = {e.face_id for e in standing if e.reason == "repeat"}
        repeated |= self.desk(annotator).dealt.keys()
        faces = sorted({e.face_id for e in old} - repeated)
        faces = [f for f in faces if f in self.index]
        return [faces[i] for i in self._rng.permutation(len(faces))]

    def _grid(self, free: Array, count: int, band: tuple[float, float] | None) -> list[Card]:
        if band is not None:
            inside = (self.scores[free] >= band[0]) & (self.scores[free] <= band[1])
            free = free[inside]
        sure = np.abs(self.scores[free] - 0.5)
        best = free[np.argsort(-sure, kind="stable")][:count]
        # Never sorted by kind: a run of one kind makes people press on without looking.
        return [self._card(int(i), "grid") for i in self._rng.permutation(best)]

    # Answers.

    def answer(self, annotator: str, answers: Sequence[dict[str, Json]]) -> dict[str, Json]:
        """Store decisions; they are on the disk when this returns.

        Args:
            annotator: who.
            answers: each with `face`, `action` and `client`, and maybe `reaction` in ms,
                or with `undo`, the client id of the event to take back.

        Returns:
            numbers of the events, and whether a training began.

        Raises:
            UsageError: an unknown face or action; nothing is stored.
        """
        with self._lock:
            desk = self.desk(annotator)
            numbers: list[int] = []
            events: list[LabelEvent] = []
            for one in answers:
                if "undo" in one:
                    numbers += self.store.append(events)
                    events = []
                    numbers += self._undo_one(annotator, str(one["undo"]), str(one["client"]))
                else:
                    events.append(self._event(annotator, desk, one))
            numbers += self.store.append(events)
            began = self._maybe_train()
        return {"numbers": numbers, "training": began}

    def _event(self, annotator: str, desk: _Desk, one: dict[str, Json]) -> LabelEvent:
        face, word = str(one.get("face", "")), str(one.get("action", ""))
        client = str(one.get("client", ""))
        if face not in self.index:
            raise UsageError(f"face {face[:80]!r} is not in this part")
        if word not in (Action.KEEP, Action.REJECT, Action.SKIP, Action.FLAG):
            raise UsageError(f"action {word[:40]!r}; wanted keep, reject, skip or flag")
        if not 1 <= len(client) <= 80:
            raise UsageError("an answer without a client id of 1 to 80 letters")
        reaction = one.get("reaction")
        card = desk.dealt.pop(face, None) or self._card(self.index[face], "again")
        if one.get("review") is True:
            card = Card(face, "review", card.score, card.model)
        return LabelEvent(
            face_id=face,
            image_hash=self.faces.hash_of(self.index[face]),
            action=Action(word),
            annotator=annotator,
            session=desk.session,
            client_id=client,
            at=now(),
            score=card.score,
            model=card.model,
            reason=card.reason,
            reaction_ms=min(int(reaction), 3_600_000)
            if isinstance(reaction, int | float)
            else None,
        )

    def _undo_one(self, annotator: str, undone: str, client: str) -> list[int]:
        standing = self.store.standing(annotator)
        found = [s for s in standing if s.event.client_id == undone]
        if not found:
            known = {s.event.client_id for s in self.store.events(annotator=annotator)}
            if undone in known:
                return []  # it is undone already: the request came twice
            raise UsageError(f"no event {undone[:80]!r} of {annotator} to undo")
        return self._take_back(annotator, found, client)

    def undo(self, annotator: str, client: str) -> list[Card]:
        """Take back the person's last decision, or the whole page of a grid, of any session.

        Returns:
            The faces that are open again; empty where there is nothing to undo.
        """
        with self._lock:
            last = self.store.last_to_undo(annotator)
            if last is None:
                return []
            together = [last]
            page, dot, _ = last.event.client_id.partition(".")
            if dot:
                standing = self.store.standing(annotator)
                together = [s for s in standing if s.event.client_id.partition(".")[0] == page]
            self._take_back(annotator, together, client)
            dealt = self.desk(annotator).dealt
            return [dealt[s.event.face_id] for s in together if s.event.face_id in dealt]

    def _take_back(self, annotator: str, found: list[StoredEvent], client: str) -> list[int]:
        desk = self.desk(annotator)
        events = []
        for i, stored in enumerate(found):
            event = stored.event
            events.append(
                LabelEvent(
                    face_id=event.face_id,
                    image_hash=event.image_hash,
                    action=Action.UNDO,
                    annotator=annotator,
                    session=desk.session,
                    client_id=f"{client}.{i}" if len(found) > 1 else client,
                    at=now(),
                    undoes=stored.number,
                )
            )
        numbers = self.store.append(events)
        for stored in found:
            event = stored.event
            if event.face_id in self.index:
                card = Card(event.face_id, event.reason, event.score, event.model)
                desk.dealt[event.face_id] = card
        return numbers

    # Learning.

    def _labelled(self) -> tuple[Array, Array]:
        labels = self.store.labels()
        rows = [(self.index[f], kept) for f, kept in sorted(labels.items()) if f in self.index]
        table = np.array(rows, dtype=np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1].astype(bool)

    def _maybe_train(self) -> bool:
        count = len(self.store.labels())
        if count - self._trained_on >= self.settings.retrain_every:
            return self.train()
        return False

    def train(self) -> bool:
        """Begin a training in the worker, if there are labels enough and none is under way."""
        with self._lock:
            if self.hindrance():
                return False
            rows, labels = self._labelled()
            if self._pool is None:
                self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
            self._trained_on = len(labels)
            self._training = self._pool.submit(_learn, self.blocks, rows, labels)
            return True

    def hindrance(self) -> str:
        """Why no training can begin now, in words; empty where one can."""
        with self._lock:
            self._collect()
            if self._training is not None:
                return "a training is under way"
            if not self.blocks:
                return "no features to learn from; run: sfhq embed"
            _, labels = self._labelled()
            kept, rejected = int(labels.sum()), int((~labels).sum())
            if min(kept, rejected) < FEWEST:
                return f"{kept} kept and {rejected} rejected; wanted {FEWEST} or more of each"
            return ""

    def _collect(self) -> None:
        """Take over a finished training."""
        if self._training is None or not self._training.done():
            return
        future, self._training = self._training, None
        try:
            self.model, self.scores, self.spread = future.result()
            self.trainings += 1
            self.trouble = ""
            self._maybe_train()  # for what was said meanwhile
        except SfhqError as error:
            self.trouble = str(error)
        except Exception as error:  # the worker died; the page goes on without
            self.trouble = f"training failed ({type(error).__name__}); it is tried again"
            self._pool = None

    def wait(self, seconds: float = 60) -> None:
        """Wait for the training that is under way."""
        end = time.monotonic() + seconds
        while self._training is not None and time.monotonic() < end:
            with self._lock:
                self._collect()
            time.sleep(0.02)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Nothing changes inside; a finished training has been taken over."""
        with self._lock:
            self._collect()
            yield

    @property
    def training(self) -> bool:
        """Whether one is under way."""
        with self._lock:
            self._collect()
            return self._training is not None


def _distances(blocks: Blocks, count: int) -> Array:
    """(N, D) features for how unlike two faces are."""
    if not blocks:
        return np.zeros((count, 1), dtype=np.float32)
    block = blocks.get("embedding", next(iter(blocks.values())))
    lengths = np.linalg.norm(block, axis=1, keepdims=True)
    found: Array = block / np.maximum(lengths, 1e-9)
    return found
