"""The model that learns during a session: when a training starts in a worker, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess

import numpy as np

from curation.labels.store import LabelStore
from curation.taste.model import FEWEST, QUICK, TasteModel, fit_taste
from curation.taste.reduction import Blocks
from sfhq.errors import SfhqError
from sfhq.parts.records import Array
from sfhq.pipeline.workers import die_with_parent


def _learn(blocks: Blocks, rows: Array, labels: Array) -> tuple[TasteModel, Array, Array]:
    """In a worker: a model, and its scores and their spread for every face."""
    import os

    os.nice(max(10 - os.nice(0), 0))
    model = fit_taste({n: b[rows] for n, b in blocks.items()}, labels, settings=QUICK)
    return model, *model.judge(blocks)


class Learner:
    """A taste model that is fitted again as labels come. One thread at a time may use it.

    Args:
        store: where labels are.
        index: face_id -> row of the face in the feature sets.
        blocks: feature sets of all faces; without any, there is no training.
        retrain_every: labels between two trainings.
        model: the model to start with; the first training replaces it.

    Attributes:
        model: the latest model, or None.
        scores: (N,) its score of every face; 0.5 without a model.
        spread: (N,) how far its members disagree, 0 to 0.5; 0 without a model.
        trainings: how many trainings have succeeded.
        trouble: why the last training failed; empty if it succeeded.
    """

    def __init__(
        self,
        store: LabelStore,
        index: Mapping[str, int],
        blocks: Blocks,
        retrain_every: int,
        model: TasteModel | None = None,
    ) -> None:
        self.store, self.index, self.blocks = store, index, blocks
        self.retrain_every = retrain_every
        self.model = model
        self.scores, self.spread = np.full(len(index), 0.5), np.zeros(len(index))
        if model is not None:
            self.scores, self.spread = model.judge(blocks)
        self.trainings = 0
        self.trouble = ""
        self._pool: ProcessPoolExecutor | None = None
        self._workers: list[BaseProcess] = []
        self._training: Future[tuple[TasteModel, Array, Array]] | None = None
        self._trained_on = 0

    def close(self) -> None:
        """End the worker."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in self._workers:
                process.terminate()

    def train_if_due(self) -> bool:
        """Start a training if enough labels have come since the last one; whether one started."""
        if len(self.store.labels()) - self._trained_on >= self.retrain_every:
            return self.train()
        return False

    def train(self) -> bool:
        """Start a training in the worker, unless something hinders it; whether it started."""
        if self.hindrance():
            return False
        rows, labels = self._labelled()
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), die_with_parent)
        self._trained_on = len(labels)
        before = set(active_children())
        self._training = self._pool.submit(_learn, self.blocks, rows, labels)
        # The pool starts its worker here, and only newer versions of Python say which it is.
        self._workers += [p for p in active_children() if p not in before]
        return True

    def hindrance(self) -> str:
        """Why no training can start now, in words; empty if one can."""
        if self.under_way():
            return "a training is under way"
        if not self.blocks:
            return "no features to learn from; run: sfhq embed"
        _, labels = self._labelled()
        kept, rejected = int(labels.sum()), int((~labels).sum())
        if min(kept, rejected) < FEWEST:
            return f"{kept} kept and {rejected} rejected; wanted {FEWEST} or more of each"
        return ""

    def under_way(self) -> bool:
        """Whether a training is under way. A finished one is collected first."""
        self.collect()
        return self._training is not None

    def collect(self) -> None:
        """Take the result of a finished training, if there is one."""
        if self._training is None or not self._training.done():
            return
        future, self._training = self._training, None
        try:
            self.model, self.scores, self.spread = future.result()
            self.trainings += 1
            self.trouble = ""
            self.train_if_due()  # for labels that came meanwhile
        except SfhqError as error:
            self.trouble = str(error)
        except Exception as error:  # the worker died; the page goes on without
            self.trouble = f"training failed ({type(error).__name__}); it is tried again"
            self._pool = None

    def _labelled(self) -> tuple[Array, Array]:
        """Rows of the faces that have a label, and whether each is kept."""
        labels = self.store.labels()
        rows = [(self.index[f], kept) for f, kept in sorted(labels.items()) if f in self.index]
        table = np.array(rows, dtype=np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1].astype(bool)
