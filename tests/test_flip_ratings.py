"""Pairs that people rate, and what their ratings say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tokenizers")


from studied import many, rated, save

from encoders.flip.studies.ratings import (
    KEY,
    PAGE,
    QUESTIONS,
    draw,
    kappa,
    read_key,
    read_ratings,
    score,
    write_page,
)
from sfhq.errors import IntegrityError, UsageError


def test_pairs_are_drawn_evenly_with_repeats_and_foreign_captions(tmp_path: Path) -> None:
    data = many(40)
    long = tuple((" ".join(["word"] * 20),) if i < 4 else t for i, t in enumerate(data.texts))
    data = replace(data, texts=long)
    items = draw(data, 20, seed=3, repeats=0.2, foreign=0.1)
    assert items == draw(data, 20, seed=3, repeats=0.2, foreign=0.1)
    assert items != draw(data, 20, seed=4, repeats=0.2, foreign=0.1)
    plain = [i for i in items if not i.repeats and not i.foreign]
    assert (len(items), len(plain)) == (26, 20)
    assert len({(i.face, i.text) for i in plain}) == 20
    assert sum("16-30 words" in i.stratum for i in plain) == 4, "all of the rare stratum"
    place = {i.item: n for n, i in enumerate(items)}
    said = dict(zip(data.names, data.texts, strict=True))
    for item in items:
        if item.repeats:
            first = items[place[item.repeats]]
            assert (first.face, first.text) == (item.face, item.text)
        assert (item.text in said[item.face]) != item.foreign
    assert [i.item for i in items] == [f"i{n:05d}" for n in range(26)], "names tell nothing"
    with pytest.raises(UsageError, match=r"99 pairs wanted; there are \d+"):
        draw(data, 99)
    write_page(items, data, tmp_path / "out", "Rate")
    assert read_key(tmp_path / "out" / KEY) == items
    page = (tmp_path / "out" / PAGE).read_text()
    assert page.count("data:image/jpeg") == 26
    shown = re.search(r'<script id="items" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert shown is not None
    assert all(row.keys() == {"item", "text", "image"} for row in json.loads(shown[1]))
    with pytest.raises(UsageError, match="exists; ratings may belong to it"):
        write_page(items, data, tmp_path / "out", "Rate")


def test_ratings_are_scored(tmp_path: Path) -> None:
    items = draw(many(40), 30, repeats=0.2, foreign=0.1)
    a = save(tmp_path / "a.csv", rated(items, "ann", 0))
    b = save(tmp_path / "b.csv", rated(items, "bob", 0))
    found = score(items, read_ratings([a, b], items))
    assert (found.raters, found.pairs) == (2, 30)
    assert found.agreement["fits"] == 1 and found.steadiness["natural"] == 1
    assert found.noticed is not None and found.noticed.value == 1 and found.noticed.count == 6
    assert 4 < found.means["fits"].low < found.means["fits"].value < found.means["fits"].high < 5
    assert found.mistakes["hair"].value == found.mistakes["any"].value > 0
    assert found.mistakes["worn things"].value == 0
    assert sum(v["fits"].count for v in found.strata.values()) == 30
    assert "captions of other faces that were noticed: 100 % of 6" in found.lines()
    other = save(tmp_path / "c.csv", rated(items, "cid", 1))
    apart = score(items, read_ratings([a, other], items))
    assert apart.agreement["fits"] < 0.2 and apart.agreement["natural"] == 1
    assert kappa([1, 5, 1, 5], [5, 1, 5, 1]) == -1
    alone = score(items, read_ratings([a], items)).lines()
    assert "30 pairs, 1 rater;" in alone and "| - |" in alone and "nan" not in alone
    assert kappa([1], [1]) != kappa([1], [1])


def test_ratings_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    items = draw(many(40), 10)
    rows = rated(items, "ann", 0)
    bad = save(tmp_path / "bad.csv", [{**rows[0], "item": "i99999"}])
    with pytest.raises(UsageError, match="line 2: item 'i99999' is not in the key"):
        read_ratings([bad], items)
    for value in ("6", "", "x"):
        bad = save(tmp_path / "bad.csv", [{**rows[0], "fits": value}])
        with pytest.raises(UsageError, match="line 2: wanted 1 to 5"):
            read_ratings([bad], items)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="has the columns a, b; wanted rater"):
        read_ratings([tmp_path / "other.csv"], items)
    with pytest.raises(UsageError, match="no such table of ratings"):
        read_ratings([tmp_path / "none.csv"], items)
    (tmp_path / KEY).write_text("{}")
    with pytest.raises(IntegrityError, match="damaged"):
        read_key(tmp_path / KEY)
    again = [i for i in draw(many(40), 10, repeats=0.2) if i.repeats]
    only = {"ann": {i.item: {**dict.fromkeys(QUESTIONS, 3), "mistakes": ()} for i in again}}
    with pytest.raises(UsageError, match="no pair that counts was rated"):
        score(draw(many(40), 10, repeats=0.2), only)
