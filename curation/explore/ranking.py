"""How near faces are to words, to a face or to a picture: directions among their vectors."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from curation.explore.collection import Collection
from curation.explore.kept import Kept
from curation.explore.views import View
from curation.explore.words import Words
from sfhq.errors import UsageError
from sfhq.parts.records import Array, Pixels
from sfhq.stages import network

MOST_RANKED = 2000  # faces of a search by vectors, the nearest ones
TEXTS, UPLOADS, PRODUCTS = 64, 16, 4  # kept in memory
AVOID = 0.7  # weight of the words behind a "-" against the wanted ones


class Ranking:
    """Searches by vectors. Threads may share it.

    Args:
        faces: the faces.
        weights: of the encoder that embedded them; None for the one that it finds by itself, which
            for FLIP is the embedded one.
        vocabulary: tokens of FLIP, if its file has none.
    """

    def __init__(
        self, faces: Collection, weights: Path | None = None, vocabulary: Path | None = None
    ) -> None:
        self.faces, self.weights, self.vocabulary = faces, weights, vocabulary
        self.vectors = faces.vectors
        self._texts: Kept[Array] = Kept(TEXTS)
        self._products: Kept[Array] = Kept(PRODUCTS)
        self._uploads: OrderedDict[str, Array] = OrderedDict()
        self._lock = threading.Lock()  # of the uploads
        self._network = threading.Lock()  # of the networks, which are slow
        self._encoder: Any = None
        self._reader: Any = None

    @property
    def knows_words(self) -> bool:
        """Whether text is compared with vectors; otherwise with captions."""
        return bool(self.vectors) and self.vectors.encoder == "flip"

    def ranks(self, view: View, words: Words) -> bool:
        """Whether a view puts the nearest first."""
        spoken = self.knows_words and bool(words.wanted or words.avoided)
        return view.like is not None or bool(view.image) or spoken

    def nearest(self, view: View, words: Words, mask: Array) -> tuple[Array, Array, int]:
        """The nearest faces of a view that ranks, up to `MOST_RANKED`.

        Args:
            view: the view.
            words: its search.
            mask: (N,) which faces its filters leave.

        Returns:
            Numbers of faces, the nearest first; the sum of their cosines; and how many faces there
            were to choose from.

        Raises:
            UsageError: no such face or upload, or no vectors.
            SfhqError: the encoder cannot be had.
        """
        mask = mask & self.vectors.has
        if view.like is not None:
            mask[self.faces.find(*view.like)] = False
        # The same search among other faces: the filters have changed, the direction has not.
        key = (view.like, view.image, words.wanted, words.avoided)
        direction = self._direction(view, words)
        rough = self._products.get(key, lambda: self.vectors.rough(direction))
        places, values = self.vectors.nearest(direction, rough, mask, MOST_RANKED)
        return places, values, int(np.count_nonzero(mask))

    def _direction(self, view: View, words: Words) -> Array:
        """(D,) what the vectors of the faces are multiplied with."""
        parts: list[Array] = []
        if view.like is not None:
            parts.append(self.vectors.vector(self.faces.find(*view.like)))
        if view.image:
            with self._lock:
                vector = self._uploads.get(view.image)
            if vector is None:
                raise UsageError("the uploaded picture is not here any more; upload it again")
            parts.append(vector)
        if self.knows_words and (words.wanted or words.avoided):
            parts.append(self.of_words(words))
        found: Array = np.sum(parts, axis=0).astype(np.float32)
        return found

    def of_words(self, words: Words) -> Array:
        """(D,) vector of words: that of the wanted ones less those of each that is avoided."""
        texts = ([" ".join(words.wanted)] if words.wanted else []) + [*words.avoided]
        weights = ([1.0] if words.wanted else []) + [-AVOID] * len(words.avoided)
        each = [w * self.text_vector(t) for w, t in zip(weights, texts, strict=True)]
        found: Array = np.sum(each, axis=0).astype(np.float32)
        return found

    def text_vector(self, text: str) -> Array:
        """(D,) unit vector of a text by FLIP.

        Raises:
            SfhqError: the weights are missing, damaged, or not those that embedded the part.
        """
        return self._texts.get(text, lambda: self._read(text))

    def _read(self, text: str) -> Array:
        with self._network:
            if self._reader is None:
                reader = network("text encoder")(self.weights, self.vocabulary)
                self._require_digest(reader.digest)
                self._reader = reader
            found: Array = self._reader([text])[0]
        return found

    def _require_digest(self, digest: str) -> None:
        if digest != self.vectors.digest:
            assert self.vectors.part is not None
            raise UsageError(
                f"{self.vectors.part.root}: embedded by other weights of {self.vectors.encoder}; "
                "give those with --encoder-weights, or run: "
                f"sfhq embed {self.vectors.part.root} --redo"
            )

    def upload(self, key: str, pixels: Pixels) -> str:
        """Encode a picture by the encoder that embedded the part; a view names it by its key.

        Args:
            key: of the picture.
            pixels: (H, W, 3) uint8 RGB.

        Raises:
            UsageError: no vectors, an unknown encoder, or other weights than the part's.
            SfhqError: the weights are missing.
        """
        self.vectors.require("search by a picture")
        with self._network:
            if self._encoder is None:
                encoder = network("image encoder")(self.vectors.encoder, self.weights)
                self._require_digest(encoder.digest)
                self._encoder = encoder
            vector = np.asarray(self._encoder([pixels]), np.float32)[0]
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length < 1e-12:
            raise UsageError("the encoder finds nothing in this picture; give one of a face")
        with self._lock:
            self._uploads[key] = vector / length
            while len(self._uploads) > UPLOADS:
                self._uploads.popitem(last=False)
        return key


def conditions_only(words: Words) -> Words:
    """The conditions of a search, without the words that rank."""
    return replace(words, wanted=(), avoided=())
