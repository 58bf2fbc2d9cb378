"""Which faces a view leaves: conditions on columns, words in captions, SQL, a lasso."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np

from curation.explore.collection import Collection
from curation.explore.facets import NUMBERS, Facet, finite, quoted
from curation.explore.kept import Kept
from curation.explore.maps import Maps
from curation.explore.views import View
from curation.explore.words import Condition, Words
from sfhq.errors import UsageError
from sfhq.parts.records import Array

MASKS = 48  # kept in memory


class Filters:
    """The filters of a collection. Threads may share it.

    Args:
        faces: the faces.
        facets: their useful columns by name.
        maps: planes for lassos.
    """

    def __init__(self, faces: Collection, facets: dict[str, Facet], maps: Maps) -> None:
        self.faces, self.facets, self.maps = faces, facets, maps
        self._masks: Kept[Array] = Kept(MASKS)

    def mask(self, view: View, words: Words, without: str = "") -> Array:
        """(N,) which faces of the collection are left.

        Args:
            view: the view.
            words: its search; words that are not conditions are looked up in the captions.
            without: a column whose own filter is left out, so that its other values can be counted.

        Raises:
            UsageError: something in the view is not there or cannot be.
        """
        masks = [self._of(Condition(name, values)) for name, values in view.f if name != without]
        for name, low, high in view.r:
            if name != without:
                masks.append(self._of(Condition(name, low=low, high=high)))
        masks += [self._of(c) for c in words.conditions if c.column != without]
        masks += [self._caption(w) for w in words.wanted]
        masks += [~self._caption(w) for w in words.avoided]
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

    def _mask(self, key: Hashable, make: Callable[[], Array]) -> Array:
        return self._masks.get(key, make)

    def _at(self, places: Array) -> Array:
        out = np.zeros(self.faces.count, np.bool_)
        out[places.astype(np.int64)] = True
        return out

    def _of(self, one: Condition) -> Array:
        plain = replace(one, negated=False)
        found = self._mask(("condition", plain), lambda: self._made(plain))
        return ~found if one.negated else found

    def _made(self, one: Condition) -> Array:
        if one.text:
            column = quoted(one.column)
            sql = f"SELECT i FROM faces WHERE contains(lower({column}::VARCHAR), lower(?))"
            return self._at(self.faces.column(sql, [one.text]))
        bounds = [
            (sign, value) for sign, value in ((">", one.low), ("<", one.high)) if value is not None
        ]
        if not bounds:
            return self._chosen(one)
        if self.faces.types.get(one.column) not in NUMBERS:
            raise UsageError(f"filter: {one.column[:80]!r} is no column of numbers")
        equal = "" if one.strict else "="
        test = " AND ".join(f"{finite(one.column)} {sign}{equal} ?" for sign, _ in bounds)
        sql = f"SELECT i FROM faces WHERE {test}"
        return self._at(self.faces.column(sql, [value for _, value in bounds]))

    def _chosen(self, one: Condition) -> Array:
        facet = self.facets.get(one.column)
        if facet is None or facet.kind == "number":
            raise UsageError(f"filter: {one.column[:80]!r} is no column of few values")
        return facet.chosen([*one.values])

    def _caption(self, word: str) -> Array:
        # From the start of a word, so that "man" is not found in "woman".
        pattern = r"\b" + re.escape(word.lower())
        sql = "SELECT i FROM faces WHERE regexp_matches(lower(caption), ?)"
        return self._mask(
            ("caption", word.lower()), lambda: self._at(self.faces.column(sql, [pattern]))
        )
