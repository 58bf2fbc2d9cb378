"""Experiments with FLIP: arms, probes, fairness, ratings, sketches."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from tiny import finish, finish_about

pytest.importorskip("tokenizers")

from test_flip_training import CONFIG, RECIPE, captioned, tokens

from cli import main
from encoders.flip.data import Captioned
from encoders.flip.network import Flip, FlipConfig, flip_config, save_flip
from encoders.flip.strokes import edges, progress, trace
from encoders.flip.studies.ablation import (
    caption_arms,
    compare,
    power_law,
    size_arms,
    start_arms,
)
from encoders.flip.studies.arms import common, difference, read_texts, searched, with_texts
from encoders.flip.studies.facts import Face, FaceFacts, facts_of
from encoders.flip.studies.fairness import Answers, answers, fairness
from encoders.flip.studies.probe import PROMPTS, probe, vectors, zero_shot
from encoders.flip.studies.ratings import (
    COLUMNS,
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
from encoders.flip.studies.sketching import by_sketches, sketch_sheet
from encoders.flip.text import TextConfig
from encoders.flip.tokens import load_tokens
from encoders.flip.training import FlipTraining
from encoders.flip.vision import VisionConfig
from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.engine import run_stage
from sfhq.pipeline.stage import SourceStage
from sfhq.training.photos import is_held_out


def sfhq(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def many(count: int = 40) -> Captioned:
    """Images of which the red channel is bright in every second one, with captions."""
    rng = torch.Generator().manual_seed(5)
    pixels = torch.randint(100, (count, 3, 16, 16), generator=rng, dtype=torch.uint8)
    pixels[::2, 0] += 150
    names = tuple(f"f{i}" for i in range(count))
    texts = tuple(("a man .", "old man") if i % 2 == 0 else ("a woman",) for i in range(count))
    return Captioned(pixels, names, names, texts)


def known(count: int = 40) -> FaceFacts:
    return FaceFacts(
        {
            f"f{i}": Face({"Male": i % 2 == 0, "Bald": i % 3 == 0}, groups={"side": "ab"[i % 2]})
            for i in range(count)
        }
    )


# Arms


def test_texts_of_a_table_go_to_the_faces_that_they_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("face,text\nf0,one;  two\nf0,two\nf3.png,three\nf1,\n")
    texts = read_texts(tmp_path / "t.csv", separator=";")
    assert texts == {"f0": ("one", "two"), "f3.png": ("three",)}
    found = with_texts(many(), texts)
    assert found.names == ("f0", "f3") and found.texts == (("one", "two"), ("three",))
    assert torch.equal(found.pixels, many().pixels[[0, 3]])
    (tmp_path / "bad.csv").write_text("face,words\nf0,x\n")
    with pytest.raises(UsageError, match="has the columns face, words; wanted face, or file, and"):
        read_texts(tmp_path / "bad.csv")
    (tmp_path / "empty.csv").write_text("face,text\nf0,\n")
    with pytest.raises(UsageError, match="holds no text"):
        read_texts(tmp_path / "empty.csv")
    (tmp_path / "latin.csv").write_bytes(b"face,text\nf0,caf\xe9\n")
    with pytest.raises(IntegrityError, match="wanted UTF-8"):
        read_texts(tmp_path / "latin.csv")
    with pytest.raises(UsageError, match="no such table"):
        read_texts(tmp_path / "none.csv")


def test_the_images_that_all_kinds_have_and_the_arm_of_all_texts() -> None:
    a, b = many(), with_texts(many(), {"f2": ("bald",), "f1": ("a woman", "old woman")})
    found = common({"a": a, "b": b})
    assert [*found] == ["a", "b", "mixed"]
    assert {d.names for d in found.values()} == {("f1", "f2")}
    assert found["mixed"].texts == (("a woman", "old woman"), ("a man .", "old man", "bald"))
    with pytest.raises(UsageError, match="no image has texts of all kinds"):
        common({"a": a, "b": many().select([])})
    with pytest.raises(UsageError, match="'mixed' is the name"):
        common({"mixed": a})


def test_arms_are_trained_once_tested_with_all_texts_and_told_apart(tmp_path: Path) -> None:
    data = many(160)
    wrong = replace(data, texts=tuple((("a woman", "a man .")[i % 2],) for i in range(160)))
    recipe = replace(RECIPE, images=1200, batch=16, lr=3e-3, matching=0.0, flip=0.0, queue=0)
    arms, tests = caption_arms({"right": data, "wrong": wrong}, recipe, None)
    assert [a.name for a in arms] == ["right", "wrong", "mixed"] and [*tests] == ["right", "wrong"]
    held = {*tests["right"].faces}
    assert held and all(held.isdisjoint(a.data.faces) for a in arms)
    lines: list[str] = []
    found = compare(arms[:2], tests, range(2), tokens(), tmp_path, known(160), lines.append)
    assert found.scores["right", "right"].shape == (len(tests["right"]),)
    told = found.to_dict()
    assert {d["test"] for d in told["differences"]} == {"right", "wrong"}
    assert len(told["recall_at_10"]["right"]["right"]["seeds"]) == 2
    assert found.probes["right"] and "| trained on | tested: right |" in found.lines()
    log = (tmp_path / "right-0" / "log.jsonl").read_text()
    again = compare(arms[:2], tests, range(2), tokens(), tmp_path, known(160), lines.append)
    assert (tmp_path / "right-0" / "log.jsonl").read_text() == log, "trained again"
    for key, value in found.scores.items():
        assert np.array_equal(again.scores[key], value)
    lines.clear()
    few = compare(arms[:1], tests, range(1), tokens(), tmp_path, known(9), lines.append)
    assert not few.probes and any("no probe: no attribute has 5 faces" in line for line in lines)
    other = replace(arms[0], recipe=replace(recipe, lr=1e-3))
    with pytest.raises(UsageError, match="other settings"):
        compare([other], tests, range(1), tokens(), tmp_path, None, lines.append)
    with pytest.raises(UsageError, match="1 kind of captions; wanted two or more"):
        caption_arms({"right": data}, recipe, None)


def test_arms_of_starts_and_of_sizes() -> None:
    data = many(40)
    networks = {"a": (Flip(CONFIG), None), "b": (Flip(CONFIG), None)}
    arms, tests = start_arms(data, RECIPE, networks)
    assert [a.name for a in arms] == ["a", "b"] and [*tests] == ["held out"]
    assert arms[0].start is networks["a"][0]
    with pytest.raises(UsageError, match="compare networks of one size"):
        other = Flip(replace(CONFIG, vision=VisionConfig(32, 8, 16, 1, 2, 16)))
        start_arms(data, RECIPE, {**networks, "c": (other, None)})
    with pytest.raises(UsageError, match="1 network to start from"):
        start_arms(data, RECIPE, {"a": networks["a"]})
    sizes, _ = size_arms(data, RECIPE, [1.0, 0.25, 0.5], None, "")
    counts = [len(a.data) for a in sizes]
    assert counts == sorted(counts) and [a.name for a in sizes] == [str(c) for c in counts]
    for small, large in pairwise(sizes):
        assert {*small.data.names} < {*large.data.names}
    with pytest.raises(UsageError, match=r"share 0.1 is \d images, less than a batch of 8"):
        size_arms(data, RECIPE, [0.1], None, "")
    with pytest.raises(UsageError, match="share 2; wanted"):
        size_arms(data, RECIPE, [2], None, "")


def test_a_power_law_is_found_again() -> None:
    counts = [100.0, 200.0, 400.0, 800.0]
    a, b, r2 = power_law(counts, [3 * c**-0.35 for c in counts])
    assert a == pytest.approx(3) and b == pytest.approx(0.35) and r2 == pytest.approx(1)
    with pytest.raises(UsageError, match="two or more sizes"):
        power_law([100.0], [0.5])


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(300)
    mean, low, high = difference(base + 0.02 + rng.normal(0, 0.01, 300), base)
    assert low > 0.015 and high < 0.025 and mean == pytest.approx(0.02, abs=0.003)
    assert difference(base, base) == (0.0, 0.0, 0.0)


# Facts and probes


@dataclass(frozen=True)
class Heads(SourceStage[Any]):
    """Heads whose truth is known, with an image each; some are lost on the way."""

    name: ClassVar[str] = "render"
    images: ClassVar[tuple[str, ...]] = ("aligned",)
    count: int = 60
    lost: int = 0
    first: int = 0

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        for seed in range(self.first, self.first + self.count):
            yield FaceRecord(f"h{seed:03d}", seed=seed)

    def settings(self) -> dict[str, Json]:
        return {"count": self.count}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for record in records:
            i = record.seed or 0
            pixels = np.random.default_rng(i).integers(60, size=(16, 16, 3), dtype=np.uint8)
            pixels[..., 0] += 150 * (i % 2 == 0)
            details = {"male": float(i % 2 == 0), "years": 15.0 + i}
            params = {
                "attributes": {"Male": i % 2 == 0, "Bald": i % 3 == 0},
                "details": {**details, "ancestry_asian": float(i % 4 == 0)},
            }
            if i >= self.first + self.count - self.lost:
                record = record.reject("render", "hidden", "no face")
            yield replace(record, params=params).with_image("aligned", pixels)


def part_of_heads(root: Path, count: int = 60, lost: int = 0, first: int = 0) -> Part:
    """A part of `Heads` with captions."""
    part = Part.create(root)
    run_stage(Heads(count, lost, first), part, shard_size=1000)
    said = [
        FaceRecord(f"h{i:03d}").with_columns(
            caption="a man ." if i % 2 == 0 else "a woman", captions=[]
        )
        for i in range(first, first + count - lost)
    ]
    finish_about(part, "caption", [said], {"caption": "text", "captions": "texts"})
    return part


def test_facts_of_heads_with_groups_and_losses(tmp_path: Path) -> None:
    part = part_of_heads(tmp_path / "heads", 12, lost=2)
    facts = facts_of([part.root], ["sex", "age", "ancestry", "sex x ancestry"])
    assert len(facts.faces) == 12 and facts.names() == ("Bald", "Male")
    first = facts.faces["h000"]
    assert first.attributes == {"Male": True, "Bald": True} and first.captioned and not first.lost
    assert first.groups == {
        **{"sex": "male", "age": "13 to 19", "ancestry": "asian"},
        "sex x ancestry": "male x asian",
    }
    assert facts.faces["h001"].groups["ancestry"] == ""
    assert facts.faces["h011"].lost == "render"
    matrix = facts.matrix(["h000", "nobody"], ["Male", "Bald"])
    assert matrix[0].tolist() == [1, 1] and np.isnan(matrix[1]).all()
    with pytest.raises(UsageError, match="--by shoes: no face has such a group"):
        facts_of([part.root], ["shoes"])


def test_what_is_not_present_is_absent_unless_both_were_asked(tmp_path: Path) -> None:
    # Where nobody asked for what is absent, nobody knows what was too unsure.
    for absent, wanted, asked in (
        ("", {"Male": False, "Bald": True}, (0, 0)),
        ("Young", {"Bald": True}, (40, 39)),
    ):
        part = Part.create(tmp_path / f"part{absent}")
        finish(part, "sample", [[FaceRecord("a"), FaceRecord("b")]])
        rows = [
            FaceRecord("a").with_columns(attributes_present="Bald", attributes_absent=""),
            FaceRecord("b").with_columns(attributes_present="Male", attributes_absent=absent),
        ]
        columns: Any = {"attributes_present": "text", "attributes_absent": "text"}
        finish_about(part, "attribute", [rows], columns)
        face = facts_of([part.root]).faces["a"]
        assert face.attributes == wanted and (face.asked, face.dropped) == asked


def test_a_linear_model_reads_what_an_image_shows_and_no_more() -> None:
    torch.manual_seed(0)
    network, data = Flip(CONFIG).eval(), many(120)
    train, test = data.split()
    test = data.select(i for i in range(120) if data.names[i] in {*test.names} or i % 4 < 2)
    found = probe(network, known(120), train, test)
    assert found.auc["Male"] > 0.95 > 0.75 > found.auc["Bald"]
    less = probe(network, known(120), train, test, share=0.5)
    assert less.trained == round(0.5 * len(train)) and found.trained == len(train)
    assert vectors(network, data).shape == (120, 16)
    with pytest.raises(UsageError, match="no attribute has 5 faces with it"):
        probe(network, known(120), train.select(range(4)), test)


def test_words_alone_tell_an_attribute_that_they_were_trained_on() -> None:
    words = load_tokens()
    config = FlipConfig(
        VisionConfig(16, 8, 16, 1, 2, 16), TextConfig(len(words), 12, 16, 1, 2, 16, 16), 8, 12, True
    )
    data = many(40)
    said = tuple((PROMPTS["Male"][i % 2],) for i in range(40))
    recipe = replace(
        RECIPE, config=config, images=1600, batch=16, lr=3e-3, flip=0.0, matching=0.0, queue=0
    )
    training = FlipTraining(recipe, replace(data, texts=said), words)
    while training.images < training.total:
        training.step()
    found = zero_shot(training.chosen(), words, known(), data)
    assert found.auc["Male"] > 0.95 and found.balanced["Male"] > 0.9 and found.trained == 0


# Fairness


def test_a_bias_that_was_put_in_is_found() -> None:
    """Texts of one group are those of others, it lacks captions, and it is lost more often."""
    count = 240
    rng = torch.Generator().manual_seed(2)
    pixels = torch.randint(256, (count, 3, 16, 16), generator=rng, dtype=torch.uint8)
    pixels[::2, 0] = 250
    names = tuple(f"f{i}" for i in range(count))
    right = ["a man ." if i % 2 == 0 else "a woman" for i in range(count)]
    served = replace(many(2), pixels=pixels, names=names, faces=names, texts=())
    data = replace(served, texts=tuple((t,) for t in right))
    recipe = replace(RECIPE, images=1600, batch=16, lr=3e-3, flip=0.0, matching=0.0, queue=0)
    training = FlipTraining(recipe, data, tokens())
    while training.images < training.total:
        training.step()
    swapped = {"a man .": "a woman", "a woman": "a man ."}
    # A face of group b is described as its opposite.
    biased = tuple((t if i % 4 < 2 else swapped[t],) for i, t in enumerate(right))
    facts = FaceFacts(
        {
            f"f{i}": Face(
                {"Male": i % 2 == 0},
                dropped=2 if i % 4 < 2 else 12,
                asked=40,
                groups={"who": "a" if i % 4 < 2 else "b", "few": "x" if i < 3 else "y"},
                captioned=i % 4 < 2 or i % 8 == 2,
                lost="dedup" if i % 4 == 3 and i % 3 == 0 else "",
            )
            for i in range(count)
        }
    )
    # One image of each kind answers: with more, equal captions are hits of each other.
    some = replace(data, texts=biased).select(range(40))
    found = fairness(training.chosen(), tokens(), some, facts, ["who", "few"], least=10)
    assert found.worst["who"] == {
        **dict.fromkeys(("captioned", "labels dropped", "lost"), "b"),
        **({"recall": "b"} if "recall" in found.worst["who"] else {}),
        **({"probe": found.worst["who"]["probe"]} if "probe" in found.worst["who"] else {}),
    }
    for name in ("captioned", "labels dropped", "lost"):
        gap = found.gaps["who"][name]
        assert gap.low > 0 or gap.high < 0, name
    assert found.gaps["who"]["labels dropped"].value == pytest.approx(0.25)
    assert found.worst["few"] == {} and found.groups["few"]["x"]["lost"].count == 3
    lines = found.lines()
    assert "(few)" in lines and "b | 120 |" in lines and " !" in lines
    fair = fairness(None, None, None, known(), ["side"], least=10)
    assert fair.worst["side"] == {}, "nobody is worse off where all are alike"
    with pytest.raises(UsageError, match="no kind of groups"):
        fairness(None, None, None, facts, [])


def test_a_group_whose_texts_are_wrong_is_found_less() -> None:
    """Every face has a caption of its own; those of group b belong to other faces."""
    count = 24
    rng = torch.Generator().manual_seed(4)
    pixels = torch.randint(256, (count, 3, 16, 16), generator=rng, dtype=torch.uint8)
    words = ("man", "woman", "bald", "old", "looks", "left", "right")
    said = [f"{a} {b} {c}" for a in words for b in words for c in words if len({a, b, c}) == 3]
    names = tuple(f"f{i}" for i in range(count))
    data = Captioned(pixels, names, names, tuple((said[7 * i],) for i in range(count)))
    recipe = replace(RECIPE, images=6000, batch=24, lr=4e-3, flip=0.0, matching=0.0, queue=0)
    training = FlipTraining(recipe, data, tokens())
    while training.images < training.total:
        training.step()
    half = count // 2
    moved = (*data.texts[:half], *data.texts[half + 1 :], data.texts[half])
    facts = FaceFacts(
        {n: Face({"Male": True}, groups={"who": "ab"[i >= half]}) for i, n in enumerate(names)}
    )
    network = training.chosen()
    before = searched(network, tokens(), data)
    found = fairness(network, tokens(), replace(data, texts=moved), facts, ["who"], least=10)
    assert (before.ranks[:half] <= 10).mean() > 0.9
    assert found.worst["who"]["recall"] == "b" and found.gaps["who"]["recall"].high < 0


def test_held_out_faces_are_probed_with_models_of_other_faces() -> None:
    """The keys of held-out faces have a common divisor, and still fall into several folds."""
    names = tuple(n for n in (f"g{i}" for i in range(1500)) if is_held_out(n))
    data = replace(many(len(names)), names=names, faces=names)
    yes = np.arange(len(names)) % 2 == 0
    facts = FaceFacts({n: Face({"Male": bool(y)}) for n, y in zip(names, yes, strict=True)})
    seen = np.where(yes, 1.0, -1.0)[:, None] + np.linspace(0, 0.1, len(names))[:, None]
    found = answers(seen, facts, data)
    assert len(names) > 100 and found.known.all() and found.right.all()


def test_groups_are_probed_by_what_all_of_them_have_and_lack() -> None:
    """A model that always says no is right half of the time in every group, however rare a yes."""
    count = 200
    old = np.arange(count) < 100
    yes = np.zeros((count, 3), bool)
    yes[:50, 0] = yes[100:110, 0] = True  # half of the old, a tenth of the young
    yes[:100, 1] = True  # what all of the old and none of the young have says nothing
    yes[:, 2] = np.arange(count) % 2 == 0
    right = ~yes
    right[old, 2] = True
    right[~old, 2] = yes[~old, 2]
    groups = {"old": old, "young": ~old, "few": np.arange(count) < 3}
    rng = np.random.default_rng(0)
    found = Answers(yes, np.ones_like(yes), right).by_group(groups, 30, rng)
    assert found["old"][0] == pytest.approx((0.5 + 1.0) / 2)
    assert found["young"][0] == pytest.approx((0.5 + 0.5) / 2)
    for _, drawn in found.values():
        assert drawn.max() <= 1 and drawn.shape == (2000,)
    assert "few" not in found, "all of three faces have the first attribute"
    only = Answers(yes[:, 1:2], np.ones_like(yes[:, 1:2]), right[:, 1:2])
    assert only.by_group(groups, 30, rng) == {}


# Ratings


def rated(items: Sequence[Any], rater: str, noise: int) -> list[dict[str, Any]]:
    rows = []
    for n, item in enumerate(items):
        fits = 1 if item.foreign else 5 - (n + noise) % 2
        rows.append({"rater": rater, "item": item.item, "natural": 4, "grammar": 5, "fits": fits})
        rows[-1]["mistakes"] = "hair;face" if item.foreign or n % 5 == 0 else ""
        rows[-1]["natural"] = 3 + len(item.text.split()) % 3
    return rows


def save(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


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


# Sketches


def test_a_ring_is_traced_as_it_is_and_drawn_step_by_step() -> None:
    y, x = np.mgrid[:128, :128]
    inside = np.hypot(x - 60, y - 66) < 40
    pixels = np.repeat(np.where(inside, 230, 40).astype(np.uint8)[..., None], 3, 2)
    thin, size = edges(pixels)
    places = np.argwhere(thin)
    radius = np.hypot(places[:, 1] - 60, places[:, 0] - 66)
    assert len(places) > 150 and np.abs(radius - 40).max() < 2.5
    strokes = trace(thin, size)
    drawn = np.concatenate([s.points for s in strokes])
    assert len({(a, b) for a, b in drawn.tolist()}) == len(drawn) <= len(places)
    turns = np.unique((np.arctan2(drawn[:, 1] - 66, drawn[:, 0] - 60) // (np.pi / 12)).astype(int))
    assert len(turns) >= 22, "of 24 directions from the middle"
    steps = progress(pixels, 10)
    black = (steps == 0).all(-1).sum((1, 2))
    assert steps.shape == (10, 128, 128, 3) and (np.diff(black) >= 0).all() and black[0] > 0
    assert all(0.03 < share < 0.2 for share in np.diff(black) / black[-1]), "steps are even"
    assert (progress(np.full((32, 32, 3), 90, np.uint8), 3) == 255).all()
    with pytest.raises(ValueError, match="0 steps"):
        progress(pixels, 0)


def test_photos_are_searched_by_sketch_by_text_and_by_both() -> None:
    torch.manual_seed(1)
    network, data = Flip(CONFIG).eval(), captioned(11)
    found = by_sketches(network, tokens(), data, 4, lambda _: None)
    assert [*found] == ["sketch", "text", "sketch and text"]
    for scores in found.values():
        assert (scores.photos, scores.steps, scores.gallery) == (11, 4, 11)
        assert scores.m_a >= scores.m_b - 1 / 11
    ranks = searched(network, tokens(), replace(data, texts=tuple(t[:1] for t in data.texts)))
    # A text's rank is the same at all steps; equal texts are other photos' here.
    assert found["text"].m_b <= float((1 / ranks.ranks).mean()) + 1e-9
    assert sketch_sheet(data, 4, 3).shape == (3 * 16, 6 * 16, 3)


# Commands


def test_commands_on_a_part_of_heads(tmp_path: Path) -> None:
    part = part_of_heads(tmp_path / "heads", 240, lost=4)
    template = tmp_path / "template.csv"
    result = sfhq("annotations", "captions", part.root, template, "--form", "template")
    assert result.exit_code == 0 and "236 faces" in result.stdout
    config = flip_config("tiny", len(load_tokens()))
    small = replace(
        config,
        vision=VisionConfig(16, 8, 192, 1, 2, 16),
        text=TextConfig(len(load_tokens()), 65, 192, 1, 2, 16, 192),
    )
    weights = tmp_path / "flip.safetensors"
    save_flip(weights, Flip(small), {"vocabulary": load_tokens().to_text()})
    runs = ["--out", tmp_path / "runs", "--seeds", 1, "--images", 8, "--batch", 8]
    runs += ["--config", "tiny"]
    ablate = ["flip", "caption-ablate", part.root, "--captions", f"template={template}", *runs]
    result = sfhq(*ablate)
    assert result.exit_code == 0, result.stderr
    assert "| trained on | tested: grammar | tested: template | probe AUC |" in result.stdout
    assert "| mixed |" in result.stdout
    told = json.loads(sfhq(*ablate, "--json").stdout)
    assert [*told["recall_at_10"]] == ["grammar", "template", "mixed"]
    # Other faces to test with, tables of one name, and an arm of two of three kinds.
    other = part_of_heads(tmp_path / "other", 30, first=240)
    more = tmp_path / "more.csv"
    asked = [f"h{i:03d}" for i in range(240, 270)]
    more.write_text("face,text\n" + "".join(f"{f},said of {f}\n" for f in asked))
    third = tmp_path / "third.csv"
    everyone = [f"h{i:03d}" for i in range(270)]
    third.write_text("face,text\n" + "".join(f"{f},third of {f}\n" for f in everyone))
    runs[1] = tmp_path / "tested"
    apart = ["flip", "caption-ablate", part.root, "--test", other.root, *runs, "--json"]
    apart += ["--captions", f"template={template}", "--captions", f"template={more}"]
    apart += ["--captions", f"third={third}"]
    result = sfhq(*apart, "--join", "both=grammar+third")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["train"], told["held_out"]) == (236, 30), "all faces of PARTS are trained on"
    assert [*told["recall_at_10"]] == ["grammar", "template", "third", "both", "mixed"]
    assert [*told["recall_at_10"]["both"]] == ["grammar", "template", "third"]
    joined = json.loads((tmp_path / "tested" / "both-0" / "settings.json").read_text())
    assert "third of h000" in str(joined) and "said of h000" not in str(joined)
    for wrong, words in (
        ("both=grammar", "wanted a name of its own and two or more"),
        ("both=grammar+template+third", "but not all"),
        ("both", "wanted NAME=KIND+KIND"),
    ):
        result = sfhq(*apart, "--join", wrong)
        assert result.exit_code == 2 and words in result.stderr, result.stderr
    apart[4] = part.root
    result = sfhq(*apart)
    assert result.exit_code == 2 and "are among those to train on" in result.stderr
    runs[1] = tmp_path / "sizes"
    result = sfhq("flip", "scaling", part.root, "--shares", "0.5,1", *runs)
    assert result.exit_code == 0, result.stderr
    result = sfhq("flip", "probe", part.root, "--flip", weights)
    assert result.exit_code == 0 and "| words alone | 0 |" in result.stdout, result.stderr
    result = sfhq("flip", "fairness-report", part.root, "--flip", weights, "--by", "sex")
    assert result.exit_code == 0 and "| female | " in result.stdout, result.stderr
    result = sfhq("flip", "fairness-report", part.root, "--labels-only", "--by", "age", "--json")
    assert json.loads(result.stdout)["groups"]["age"]["13 to 19"]["lost"]["value"] == 0
    picture = tmp_path / "s.png"
    result = sfhq(
        *("flip", "sketch", part.root, "--flip", weights, "--steps", 3, "--sheet", picture)
    )
    assert result.exit_code == 0 and "| sketch and text |" in result.stdout, result.stderr
    with Image.open(picture) as drawn:
        assert drawn.width == 6 * 16
    rating = tmp_path / "rating"
    result = sfhq("flip", "human-eval", "sample", part.root, rating, "--count", 20, "--by", "sex")
    assert result.exit_code == 0 and "22 pairs on" in result.stdout, result.stderr
    table = save(tmp_path / "a.csv", rated(read_key(rating / KEY), "ann", 0))
    result = sfhq("flip", "human-eval", "score", rating / KEY, table)
    assert result.exit_code == 0 and "20 pairs, 1 rater;" in result.stdout, result.stderr


def test_commands_say_what_is_wrong(tmp_path: Path) -> None:
    part = part_of_heads(tmp_path / "heads", 60)
    out = ["--out", tmp_path / "runs", "--config", "tiny", "--images", 8, "--batch", 4]
    for given, said in (
        (["caption-ablate", part.root, *out], "1 kind of captions"),
        (
            ["caption-ablate", part.root, "--captions", "x", *out],
            "--captions 'x': wanted NAME=FILE",
        ),
        (["compare-pretraining", part.root, *out], "1 network to start from"),
        (["scaling", part.root, "--shares", "a", *out], "wanted numbers separated by commas"),
        (["scaling", part.root, "--stem", part.root, *out], "--stem is for --config hybrid"),
        (["probe", part.root, "--shares", "2"], "wanted more than 0, at most 1"),
        (["fairness-report", part.root, "--labels-only", "--by", "shoes"], "no face has such a"),
        (["human-eval", "score", tmp_path / "no.json", part.root], "no such key"),
    ):
        result = sfhq("flip", *given)
        assert result.exit_code == 2 and said in result.stderr, (given, result.stderr)
        assert result.stderr.count("\n") == 1


def test_a_start_of_other_words_is_refused(tmp_path: Path) -> None:
    part = part_of_heads(tmp_path / "heads", 60)
    weights = tmp_path / "other.safetensors"
    save_flip(weights, Flip(CONFIG), {"vocabulary": tokens().to_text()})
    out = ["--out", tmp_path / "runs", "--config", "tiny", "--images", 8, "--batch", 4]
    result = sfhq("flip", "compare-pretraining", part.root, "--start", f"a={weights}", *out)
    assert result.exit_code == 2 and "has another vocabulary" in result.stderr
