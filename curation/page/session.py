"""A labelling session: faces dealt, decisions stored, a model trained. No HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from curation.faces import Faces
from curation.labels.events import person
from curation.labels.store import LabelStore
from curation.page.dealing import Card, Dealer, Desk, SessionSettings
from curation.page.deciding import Clerk
from curation.page.learning import Learner
from curation.taste.model import TasteModel
from sfhq.parts.records import Array, Json

__all__ = ["Session", "SessionSettings"]


class Session:
    """Labels of a part, and the model that learns from them. Threads may share it.

    Args:
        faces: the faces to judge.
        store: where labels go.
        settings: how faces are dealt.
        model: the model to start with; the first training replaces it.
        clock: seconds, by which pages that are gone lose their faces.
    """

    def __init__(
        self,
        faces: Faces,
        store: LabelStore,
        settings: SessionSettings | None = None,
        model: TasteModel | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.faces, self.store = faces, store
        self.settings = settings or SessionSettings()
        self.index = {r.face_id: i for i, r in enumerate(faces.records)}
        self.blocks = faces.feature_sets()
        self._lock = threading.RLock()
        every = self.settings.retrain_every
        self._learner = Learner(store, self.index, self.blocks, every, model)
        self._dealer = Dealer(faces, self.index, store, self._learner, self.settings, clock)
        self._clerk = Clerk(faces, self.index, store, self._dealer)

    def close(self) -> None:
        """End the worker."""
        self._learner.close()

    def sit_down(self, annotator: str, tab: str = "") -> None:
        """A person opens a page: what it was dealt and did not answer can be dealt again.

        Args:
            annotator: who.
            tab: id of the page; one person may have several open.
        """
        with self._lock:
            self._dealer.sit_down(annotator, tab)

    def leave(self, annotator: str, tab: str = "") -> None:
        """A page is closed: what it was dealt can be dealt to others at once."""
        with self._lock:
            self._dealer.leave(annotator, tab)

    def desk(self, annotator: str, tab: str = "") -> Desk:
        """The desk of a person's page; a new one if there is none."""
        with self._lock:
            return self._dealer.desk(annotator, tab)

    def deal(
        self,
        annotator: str,
        count: int,
        band: tuple[float, float] | None = None,
        mode: str = "single",
        tab: str = "",
    ) -> list[Card]:
        """The next faces for a page of a person. Each is dealt once, until its page is gone.

        Args:
            annotator: who asks.
            count: how many faces, at most.
            band: lowest and highest score of interest; None for all.
            mode: "single" gives the faces whose labels teach most, with random faces and repeats
                among them; "grid" gives the faces with the surest scores, for many at once.
            tab: id of the page.
        """
        with self._lock:
            self._learner.collect()
            return self._dealer.deal(annotator, count, band, mode, tab)

    def answer(
        self, annotator: str, answers: Sequence[dict[str, Json]], tab: str = ""
    ) -> dict[str, Json]:
        """Store decisions; those that are stored are on the disk when this returns.

        Args:
            annotator: who.
            answers: each with `face`, `action` and `client`, and maybe `reaction` in ms,
                or with `undo`, the client id of the event to undo, and `client`.
            tab: id of the page.

        Returns:
            `results`, one for each answer, see `Clerk.decide`; and `training`: whether one started.

        Raises:
            UsageError: a name that cannot be; nothing is stored.
        """
        with self._lock:
            results = self._clerk.decide(person(annotator), answers, tab)
            began = self._learner.train_if_due()
        return {"results": results, "training": began}

    def undo(self, annotator: str, client: str, tab: str = "") -> list[Card]:
        """Undo the person's last decision, or a whole page of the grid, of any session.

        Args:
            annotator: who.
            client: id of this undo; asked for twice with the same id, it is done once.
            tab: id of the page, which gets the faces.

        Returns:
            The faces that are open again; empty where there is nothing to undo.

        Raises:
            Reused: the id is that of something else.
        """
        with self._lock:
            return self._clerk.undo_last(person(annotator), client, tab)

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
