"""A labelling session: faces dealt, decisions stored, a model trained. No HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from curation.faces import Faces
from curation.labels.events import Action, LabelEvent, StoredEvent, now
from curation.labels.store import LabelStore
from curation.page.dealing import Card, Dealer, Desk, SessionSettings
from curation.page.learning import Learner
from curation.taste.model import TasteModel
from sfhq.errors import UsageError
from sfhq.parts.records import Array, Json

__all__ = ["Session", "SessionSettings"]


class Session:
    """Labels of a part, and the model that learns from them. Threads may share it.

    Args:
        faces: the faces to judge.
        store: where labels go.
        settings: how faces are dealt.
        model: the model to start with; the first training replaces it.
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
        every = self.settings.retrain_every
        self._learner = Learner(store, self.index, self.blocks, every, model)
        self._dealer = Dealer(faces, self.index, store, self._learner, self.settings)

    def close(self) -> None:
        """End the worker."""
        self._learner.close()

    def sit_down(self, annotator: str) -> None:
        """A person opens the page: faces dealt but not answered can be dealt again."""
        with self._lock:
            self._dealer.sit_down(annotator)

    def desk(self, annotator: str) -> Desk:
        """The person's desk; a new one if there is none."""
        with self._lock:
            return self._dealer.desk(annotator)

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
            count: how many faces, at most.
            band: lowest and highest score of interest; None for all.
            mode: "single" gives the faces whose labels teach most, with random faces and repeats
                among them; "grid" gives the faces with the surest scores, for many at once.
        """
        with self._lock:
            self._learner.collect()
            return self._dealer.deal(annotator, count, band, mode)

    def answer(self, annotator: str, answers: Sequence[dict[str, Json]]) -> dict[str, Json]:
        """Store decisions; they are on the disk when this returns.

        Args:
            annotator: who.
            answers: each with `face`, `action` and `client`, and maybe `reaction` in ms,
                or with `undo`, the client id of the event to undo.

        Returns:
            `numbers` of the events, and `training`: whether one started.

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
            began = self._learner.train_if_due()
        return {"numbers": numbers, "training": began}

    def _event(self, annotator: str, desk: Desk, one: dict[str, Json]) -> LabelEvent:
        face, word = str(one.get("face", "")), str(one.get("action", ""))
        client = str(one.get("client", ""))
        if face not in self.index:
            raise UsageError(f"face {face[:80]!r} is not in this part")
        if word not in (Action.KEEP, Action.REJECT, Action.SKIP, Action.FLAG):
            raise UsageError(f"action {word[:40]!r}; wanted keep, reject, skip or flag")
        if not 1 <= len(client) <= 80:
            raise UsageError("an answer without a client id of 1 to 80 letters")
        reaction = one.get("reaction")
        card = desk.dealt.pop(face, None) or self._dealer.card(self.index[face], "again")
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
                return []  # undone already: the request came twice
            raise UsageError(f"no event {undone[:80]!r} of {annotator} to undo")
        return self._take_back(annotator, found, client)

    def undo(self, annotator: str, client: str) -> list[Card]:
        """Undo the person's last decision, or a whole page of the grid, of any session.

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

    def train(self) -> bool:
        """Start a training in the worker, unless something hinders it; whether it started."""
        with self._lock:
            return self._learner.train()

    def hindrance(self) -> str:
        """Why no training can start now, in words; empty if one can."""
        with self._lock:
            return self._learner.hindrance()

    @property
    def training(self) -> bool:
        """Whether a training is under way."""
        with self._lock:
            return self._learner.under_way()

    def wait(self, seconds: float = 60) -> None:
        """Wait for the training that is under way."""
        end = time.monotonic() + seconds
        while self.training and time.monotonic() < end:
            time.sleep(0.02)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """A context in which nothing changes; the result of a finished training is in."""
        with self._lock:
            self._learner.collect()
            yield

    @property
    def model(self) -> TasteModel | None:
        """The latest model, or the one it started with, or None."""
        return self._learner.model

    @property
    def scores(self) -> Array:
        """(N,) the model's score of every face; 0.5 without a model."""
        return self._learner.scores

    @property
    def trainings(self) -> int:
        """How many trainings have succeeded."""
        return self._learner.trainings

    @property
    def trouble(self) -> str:
        """Why the last training failed; empty if it succeeded."""
        return self._learner.trouble
