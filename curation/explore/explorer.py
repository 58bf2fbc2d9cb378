"""Answers views: which faces, in which order, how many of each value. No HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.explore.collection import Collection
from curation.explore.facets import NUMBERS, facets_of, finite, quoted, told
from curation.explore.filters import Filters
from curation.explore.kept import Kept
from curation.explore.maps import Maps
from curation.explore.ranking import Ranking, conditions_only
from curation.explore.views import View
from curation.explore.words import Words, read_words
from sfhq.errors import UsageError
from sfhq.parts.records import Array, Json, Pixels

ORDERS, SORTS = 16, 12  # kept in memory


@dataclass(frozen=True)
class Found:
    """The faces of a view.

    Attributes:
        order: (M,) int32 numbers of faces.
        values: (M,) how well each fits; None where nothing ranks, or a column sorts.
        of: how many faces the filters leave; more than M where only the nearest are shown.
    """

    order: Array
    values: Array | None
    of: int


class Explorer:
    """A collection with its facets, searches and maps. Threads may share it.

    Args:
        faces: the faces.
        weights: of the encoder that embedded them; None for the one it finds by itself.
        vocabulary: tokens of FLIP, if its file has none.

    Attributes:
        facets: useful columns by name.
        maps: planes on which faces lie.
        ranking: searches by vectors.
        has_captions: whether any face has one.
    """

    def __init__(
        self, faces: Collection, weights: Path | None = None, vocabulary: Path | None = None
    ) -> None:
        self.faces = faces
        self.facets = facets_of(faces)
        self.maps = Maps(faces)
        self.ranking = Ranking(faces, weights, vocabulary)
        self._filters = Filters(faces, self.facets, self.maps)
        self._found: Kept[Found] = Kept(ORDERS)
        self._sorts: Kept[Array] = Kept(SORTS)
        self.has_captions = bool(
            "caption" in faces.types
            and faces.rows("SELECT 1 FROM faces WHERE caption <> '' LIMIT 1")
        )

    @property
    def knows_words(self) -> bool:
        """Whether text is compared with vectors; otherwise with captions."""
        return self.ranking.knows_words

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
        """The search of a view, taken apart.

        Raises:
            UsageError: it names what is not there, or nothing here knows words.
        """
        words = read_words(view.q, self.facets, self.faces.types)
        if (words.wanted or words.avoided) and not (self.knows_words or self.has_captions):
            raise UsageError(self.how_words())
        return words

    def order(self, view: View) -> Array:
        """Numbers of the faces of a view, (M,) int32, in its order.

        Raises:
            UsageError: something in the view is not there or cannot be.
            SfhqError: the encoder cannot be had.
        """
        return self.found(view).order

    def found(self, view: View) -> Found:
        """The faces of a view.

        Raises:
            UsageError: something in the view is not there or cannot be.
            SfhqError: the encoder cannot be had.
        """
        return self._found.get(view, lambda: self._find(view))

    def _find(self, view: View) -> Found:
        words, mask = self.words(view), self._mask(view)
        of = int(np.count_nonzero(mask))
        if self.ranking.ranks(view, words):
            at, values, of = self.ranking.nearest(view, words, mask)
            if not view.sort:
                return Found(at.astype(np.int32), values, of)
            mask = np.zeros_like(mask)
            mask[at] = True
        if view.sort == "random":
            at = np.flatnonzero(mask)
            order = np.random.default_rng(view.seed).permutation(at).astype(np.int32)
        elif view.sort:
            every = self._sorted(view.sort, view.down)
            order = every[mask[every]]
        else:
            order = np.flatnonzero(mask).astype(np.int32)
        return Found(order, None, of)

    def _mask(self, view: View, without: str = "") -> Array:
        """(N,) which faces the filters of a view leave; see `Filters.mask`."""
        words = self.words(view)
        if self.knows_words:
            words = conditions_only(words)
        return self._filters.mask(view, words, without)

    def _sorted(self, column: str, down: bool) -> Array:
        kind = self.faces.types.get(column, "")
        if kind not in (*NUMBERS, "VARCHAR", "BOOLEAN"):
            raise UsageError(f"sort: no column {column[:80]!r} that can be sorted by")
        plain = finite(column) if kind in NUMBERS else quoted(column)
        way = "DESC" if down else "ASC"
        sql = f"SELECT i FROM faces ORDER BY {plain} {way} NULLS LAST, i"
        return self._sorts.get((column, down), lambda: self.faces.column(sql).astype(np.int32))

    def text_vector(self, text: str) -> Array:
        """(D,) unit vector of a text; see `Ranking.text_vector`."""
        return self.ranking.text_vector(text)

    def upload(self, key: str, pixels: Pixels) -> str:
        """Encode a picture; see `Ranking.upload`."""
        return self.ranking.upload(key, pixels)

    def page(self, view: View, offset: int, limit: int) -> dict[str, Json]:
        """Some faces of a view.

        Returns:
            `total`; `of`, how many faces the filters leave; `ranked`, whether the nearest come
            first; and `faces`: `i`, `id`, `part`, `alive`, `reason`, `caption`, and `value`, what
            it is sorted by or its cosine.

        Raises:
            UsageError: something in the view is not there or cannot be.
            SfhqError: the encoder cannot be had.
        """
        found = self.found(view)
        rows = self._cards(found.order[offset : offset + limit].tolist(), view.sort)
        if found.values is not None:
            for row, value in zip(rows, found.values[offset : offset + limit], strict=True):
                row["value"] = round(float(value), 4)
        ranked = found.values is not None
        return {"total": len(found.order), "of": found.of, "ranked": ranked, "faces": rows}

    def cards(self, chosen: Sequence[int]) -> list[dict[str, Json]]:
        """What the grid shows of faces, in the order given."""
        return self._cards([*chosen], "")

    def _cards(self, chosen: list[int], sort: str) -> list[dict[str, Json]]:
        if not chosen:
            return []
        value = quoted(sort) if sort in self.faces.types else "NULL"
        caption = "caption" if "caption" in self.faces.types else "''"
        rows = self.faces.rows(
            f"SELECT i, alive, reason, coalesce({caption}, ''), {value} FROM faces "
            f"WHERE i IN ({','.join(map(str, chosen))})"
        )
        by_number = {row[0]: row[1:] for row in rows}
        names, part_of = ("alive", "reason", "caption", "value"), self.faces.part_of
        found: list[dict[str, Json]] = [
            {
                "i": i,
                "id": self.faces.face_id(i),  # the table takes longest for these
                "part": self.faces.names[int(part_of[i])],
                **dict(zip(names, by_number[i], strict=True)),
            }
            for i in chosen
        ]
        for one in found:
            if isinstance(one["value"], float):
                one["value"] = round(one["value"], 4) if np.isfinite(one["value"]) else None
        return found

    def counts(self, view: View, columns: Sequence[str]) -> list[dict[str, Json]]:
        """Facets with counts; each counts the faces that all other filters leave.

        Raises:
            UsageError: no such column, or something in the view cannot be.
        """
        unknown = [c for c in columns if c not in self.facets]
        if unknown:
            raise UsageError(f"facets: no column {unknown[0][:80]!r}")
        words = self.words(view)
        ranks = self.ranking.ranks(view, words)
        own = {n for n, _ in view.f} | {n for n, _, _ in view.r}
        own |= {c.column for c in words.conditions}

        def left(without: str = "") -> Array:
            """Faces that can be ranked, where a view ranks."""
            mask = self._mask(view, without)
            if ranks:
                mask &= self.faces.vectors.has
                if view.like is not None:
                    mask[self.faces.find(*view.like)] = False
            return mask

        everything = left()
        return [told(self.facets[n], left(n) if n in own else everything) for n in columns]
