"""Answers views: which faces, in which order, how many of each value. No HTTP."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curation.explore.collection import Collection
from curation.explore.facets import NUMBERS, Facet, facets_of, quoted, told
from curation.explore.maps import Maps
from curation.explore.views import View
from curation.explore.words import Condition, Words, read_words
from sfhq.errors import UsageError
from sfhq.parts.records import Array, Json, Pixels
from sfhq.stages import network

MOST_RANKED = 2000  # faces of a search by vectors, the nearest ones
MASKS, ORDERS, SORTS, UPLOADS = 48, 16, 12, 16  # kept in memory
AVOID = 0.7  # weight of the words behind a "-" against the wanted ones


class Kept:
    """A few values by key, those asked for last."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key, made where it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self.most:
                self._values.popitem(last=False)
        return value


class Explorer:
    """A collection with its facets, searches and maps. Threads may share it.

    Args:
        faces: the faces.
        weights: of the encoder that embedded them; None for the one it finds by itself.
        vocabulary: tokens of FLIP, if its file has none.

    Attributes:
        facets: useful columns by name.
        maps: planes on which faces lie.
    """

    def __init__(
        self, faces: Collection, weights: Path | None = None, vocabulary: Path | None = None
    ) -> None:
        self.faces, self.weights, self.vocabulary = faces, weights, vocabulary
        self.facets = facets_of(faces)
        self.maps = Maps(faces)
        self._masks, self._orders, self._sorts = Kept(MASKS), Kept(ORDERS), Kept(SORTS)
        self._texts = Kept(64)
        self._uploads: OrderedDict[str, Array] = OrderedDict()
        self._lock = threading.Lock()
        self._encoder: Any = None
        self._reader: Any = None
        self.has_captions = bool(
            "caption" in faces.types
            and faces.rows("SELECT 1 FROM faces WHERE caption <> '' LIMIT 1")
        )

    @property
    def knows_words(self) -> bool:
        """Whether text is compared with vectors; otherwise with captions."""
        return bool(self.faces.vectors) and self.faces.vectors.encoder == "flip"

    def how_words(self) -> str:
        """How text is searched, in a sentence for the page."""
        if self.knows_words:
            return "Words are compared with the faces by FLIP."
        encoder = self.faces.vectors.encoder
        why = f"embedded by {encoder}, which knows no words" if encoder else "not embedded"
        root = self.faces.parts[0].root
        advice = f"sfhq embed {root} --encoder flip" + (" --redo" if encoder else "")
        if self.has_captions:
            return f"Words are looked up in the captions ({why}; for FLIP run: {advice})."
        return f"No search by words: {why}, and no captions; run: {advice}"

    def words(self, view: View) -> Words:
        """The search of a view, taken apart."""
        return read_words(view.q, self.facets, self.faces.types)

    def order(self, view: View) -> Array:
        """Numbers of the faces of a view, (M,) int32, in its order.

        Raises:
            UsageError: something in the view is not there or cannot be.
            SfhqError: the encoder cannot be had.
        """
        found: Array = self._orders.get(view, lambda: self._order(view))
        return found

    def _order(self, view: View) -> Array:
        mask = self.mask(view)
        scores = self.scores(view)
        if scores is not None:
            at = np.flatnonzero(mask & np.isfinite(scores))
            if view.like is not None:
                at = at[at != self.faces.find(*view.like)]
            if len(at) > MOST_RANKED:
                at = at[np.sort(np.argpartition(-scores[at], MOST_RANKED - 1)[:MOST_RANKED])]
            if not view.sort:
                return at[np.argsort(-scores[at], kind="stable")].astype(np.int32)
            mask = np.zeros_like(mask)
            mask[at] = True
        if view.sort == "random":
            at = np.flatnonzero(mask)
            return np.random.default_rng(view.seed).permutation(at).astype(np.int32)
        if not view.sort:
            return np.flatnonzero(mask).astype(np.int32)
        order = self._sorted(view.sort, view.down)
        return order[mask[order]]

    def _sorted(self, column: str, down: bool) -> Array:
        if column not in self.faces.types:
            raise UsageError(f"sort: no column {column[:80]!r}")
        way = "DESC" if down else "ASC"
        sql = f"SELECT i FROM faces ORDER BY {quoted(column)} {way} NULLS LAST, i"
        found: Array = self._sorts.get(
            (column, down), lambda: self.faces.column(sql).astype(np.int32)
        )
        return found

    def mask(self, view: View, without: str = "") -> Array:
        """(N,) which faces of the collection the view's filters leave.

        Args:
            view: the view.
            without: a column whose own filter is left out, so that its other values can be counted.
        """
        masks = [self._of(Condition(name, values)) for name, values in view.f if name != without]
        for name, low, high in view.r:
            if name != without:
                masks.append(self._of(Condition(name, low=low, high=high)))
        words = self.words(view)
        masks += [self._of(c) for c in words.conditions if c.column != without]
        if not self.knows_words:
            masks += [self._caption(w, False) for w in words.wanted]
            masks += [self._caption(w, True) for w in words.avoided]
        if view.where:
            masks.append(
                self._mask(("where", view.where), lambda: self._at(self.faces.matching(view.where)))
            )
        if view.lasso is not None:
            lasso = view.lasso
            masks.append(self._mask(("lasso", lasso), lambda: self.maps.inside(lasso)))
        if view.picked:
            for i in view.picked:
                self.faces.require(i)
            masks.append(self._at(np.array(view.picked)))
        out = np.ones(self.faces.count, np.bool_)
        for one in masks:
            out &= one
        return out

    def _facet(self, name: str) -> Facet:
        facet = self.facets.get(name)
        if facet is None or facet.kind == "number":
            raise UsageError(f"filter: {name[:80]!r} is no column of few values")
        return facet

    def _mask(self, key: Hashable, make: Callable[[], Array]) -> Array:
        found: Array = self._masks.get(key, make)
        return found

    def _at(self, places: Array) -> Array:
        out = np.zeros(self.faces.count, np.bool_)
        out[places.astype(np.int64)] = True
        return out

    def _of(self, one: Condition) -> Array:
        def make() -> Array:
            if one.values or not (one.text or one.low is not None or one.high is not None):
                return self._facet(one.column).chosen([*one.values])
            column = quoted(one.column)
            if one.text:
                sql = f"SELECT i FROM faces WHERE contains(lower({column}::VARCHAR), lower(?))"
                return self._at(self.faces.column(sql, [one.text]))
            if self.faces.types.get(one.column) not in NUMBERS:
                raise UsageError(f"filter: {one.column[:80]!r} is no column of numbers")
            more, less = (">", "<") if one.strict else (">=", "<=")
            bounds = [(s, v) for s, v in ((more, one.low), (less, one.high)) if v is not None]
            test = " AND ".join(f"{column} {sign} ?" for sign, _ in bounds) or "true"
            values = [value for _, value in bounds]
            return self._at(self.faces.column(f"SELECT i FROM faces WHERE {test}", values))

        found = self._mask(("condition", one), make)
        return ~found if one.negated else found

    def _caption(self, word: str, avoided: bool) -> Array:
        if not self.has_captions:
            raise UsageError(self.how_words())
        # From the start of a word, so that "man" is not found in "woman".
        pattern = r"\b" + re.escape(word.lower())
        sql = "SELECT i FROM faces WHERE regexp_matches(lower(caption), ?)"
        found = self._mask(("caption", word), lambda: self._at(self.faces.column(sql, [pattern])))
        return ~found if avoided else found

    def scores(self, view: View) -> Array | None:
        """(N,) how well each face fits words, a face or a picture; None where nothing ranks."""
        parts: list[Array] = []
        vectors = self.faces.vectors
        if view.like is not None:
            parts.append(vectors.cosines(vectors.vector(self.faces.find(*view.like))))
        if view.image:
            with self._lock:
                vector = self._uploads.get(view.image)
            if vector is None:
                raise UsageError("the uploaded picture is not here any more; upload it again")
            parts.append(vectors.cosines(vector))
        words = self.words(view)
        if self.knows_words and (words.wanted or words.avoided):
            parts.append(vectors.cosines(self.direction(words)))
        if not parts:
            return None
        found: Array = parts[0] if len(parts) == 1 else np.sum(parts, axis=0)
        return found

    def direction(self, words: Words) -> Array:
        """(D,) vector of words: that of the wanted ones less those of each that is avoided."""
        texts = ([" ".join(words.wanted)] if words.wanted else []) + [*words.avoided]
        vectors = [self.text_vector(t) for t in texts]
        weights = ([1.0] if words.wanted else []) + [-AVOID] * len(words.avoided)
        each = [w * v for w, v in zip(weights, vectors, strict=True)]
        found: Array = np.sum(each, axis=0).astype(np.float32)
        return found

    def text_vector(self, text: str) -> Array:
        """(D,) unit vector of a text by FLIP.

        Raises:
            SfhqError: the weights are missing, damaged, or not those that embedded the part.
        """
        found: Array = self._texts.get(text, lambda: self._read(text))
        return found

    def _read(self, text: str) -> Array:
        with self._lock:
            if self._reader is None:
                reader = network("text encoder")(self.weights, self.vocabulary)
                self._require_digest(reader.digest)
                self._reader = reader
            found: Array = self._reader([text])[0]
        return found

    def _require_digest(self, digest: str) -> None:
        vectors = self.faces.vectors
        if digest != vectors.digest:
            assert vectors.part is not None
            raise UsageError(
                f"{vectors.part.root}: embedded by other weights of {vectors.encoder}; give those "
                f"with --encoder-weights, or run: sfhq embed {vectors.part.root} --redo"
            )

    def upload(self, key: str, pixels: Pixels) -> str:
        """Encode a picture by the encoder that embedded the part; a view names it by its key.

        Raises:
            UsageError: no vectors, an unknown encoder, or other weights than the part's.
            SfhqError: the weights are missing.
        """
        vectors = self.faces.vectors
        vectors.require("search by a picture")
        with self._lock:
            if self._encoder is None:
                encoder = network("image encoder")(vectors.encoder, self.weights)
                self._require_digest(encoder.digest)
                self._encoder = encoder
            vector = np.asarray(self._encoder([pixels]), np.float32)[0]
            length = float(np.linalg.norm(vector))
            if not np.isfinite(length) or length < 1e-12:
                raise UsageError("the encoder finds nothing in this picture; give one of a face")
            self._uploads[key] = vector / length
            while len(self._uploads) > UPLOADS:
                self._uploads.popitem(last=False)
        return key

    def page(self, view: View, offset: int, limit: int) -> dict[str, Json]:
        """Some faces of a view.

        Returns:
            `total`, `ranked` (whether the nearest come first) and `faces`: `i`, `id`, `part`,
            `alive`, `reason`, `caption`, and `value`, what it is sorted by or its cosine.
        """
        order = self.order(view)
        chosen = order[offset : offset + limit]
        scores = None if view.sort else self.scores(view) if len(chosen) else None
        rows = self._cards(chosen.tolist(), view.sort)
        for row in rows:
            if scores is not None:
                row["value"] = round(float(scores[row["i"]]), 4)
        return {"total": len(order), "ranked": scores is not None, "faces": rows}

    def cards(self, chosen: Sequence[int]) -> list[dict[str, Json]]:
        """What the grid shows of faces, in the order given."""
        return self._cards([*chosen], "")

    def _cards(self, chosen: list[int], sort: str) -> list[dict[str, Json]]:
        if not chosen:
            return []
        value = quoted(sort) if sort in self.faces.types else "NULL"
        caption = "caption" if "caption" in self.faces.types else "''"
        rows = self.faces.rows(
            f"SELECT i, face_id, part, alive, reason, coalesce({caption}, ''), {value} FROM faces "
            f"WHERE i IN ({','.join(map(str, chosen))})"
        )
        by_number = {row[0]: row for row in rows}
        names = ("i", "id", "part", "alive", "reason", "caption", "value")
        found = [dict(zip(names, by_number[i], strict=True)) for i in chosen]
        for one in found:
            if isinstance(one["value"], float):
                one["value"] = round(one["value"], 4) if np.isfinite(one["value"]) else None
        return found

    def counts(self, view: View, columns: Sequence[str]) -> list[dict[str, Json]]:
        """Facets with counts; each counts the faces that all other filters leave.

        Raises:
            UsageError: no such column.
        """
        unknown = [c for c in columns if c not in self.facets]
        if unknown:
            raise UsageError(f"facets: no column {unknown[0][:80]!r}")
        everything = self._within(view, self.mask(view))
        own = {n for n, _ in view.f} | {n for n, _, _ in view.r}
        own |= {c.column for c in self.words(view).conditions}
        found = []
        for name in columns:
            mask = self._within(view, self.mask(view, name)) if name in own else everything
            found.append(told(self.facets[name], mask))
        return found

    def _within(self, view: View, mask: Array) -> Array:
        """A mask without the faces that cannot be ranked, where a view ranks."""
        ranks = view.like or view.image or (self.knows_words and self.words(view).wanted)
        return np.asarray(mask & self.faces.vectors.has) if ranks else mask

    def board(self, view: View, column: str, across: int) -> list[dict[str, Json]]:
        """A row of sample faces for each value of a column, the samples spread over the view.

        Args:
            view: which faces.
            column: a facet; numbers are cut at whole steps into at most ten ranges.
            across: faces in a row at most.

        Raises:
            UsageError: no such facet.
        """
        facet = self.facets.get(column)
        if facet is None:
            raise UsageError(f"board: no column {column[:80]!r} that tells faces apart")
        order = self.order(view)
        rows = []
        for label, chosen in self._groups(facet, order):
            spread = chosen[np.linspace(0, len(chosen) - 1, min(across, len(chosen))).astype(int)]
            rows.append({**label, "count": len(chosen), "faces": self.cards(spread.tolist())})
        return rows

    def _groups(self, facet: Facet, order: Array) -> list[tuple[dict[str, Json], Array]]:
        if facet.kind == "category":
            codes = facet.codes[order]
            groups = [(v, order[codes == k]) for k, v in enumerate(facet.values)]
            return [({"label": v, "value": v}, g) for v, g in groups if len(g)]
        if facet.kind == "tags":
            groups = [(v, order[facet.codes[k][order]]) for k, v in enumerate(facet.values)]
            return [({"label": v, "value": v}, g) for v, g in groups if len(g)]
        sql = f"SELECT {quoted(facet.name)}::DOUBLE FROM faces ORDER BY i"
        values = self._sorts.get(("values", facet.name), lambda: self.faces.column(sql))[order]
        step = _step(facet.high - facet.low)
        first, last = int(np.floor(facet.low / step)), int(np.floor(facet.high / step))
        found = []
        for k in range(first, last + 1):
            low, high = round(k * step, 9), round((k + 1) * step, 9)
            group = order[(values >= low) & (values < high)]
            if len(group):
                found.append(({"label": f"{low:g} to {high:g}", "range": [low, high]}, group))
        return found


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten that cuts a span into five to eleven ranges."""
    power = 10.0 ** np.floor(np.log10(span / 10))
    return float(next(k * power for k in (1, 2, 5, 10) if span / (k * power) <= 10))
