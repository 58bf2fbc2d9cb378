"""Experiments with FLIP: arms, sketches, commands."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("tokenizers")

from command import told as sfhq
from studied import known, many, part_of_heads, rated, save
from test_flip_training import CONFIG, RECIPE, captioned, tokens

from encoders.flip.network import Flip, flip_config, save_flip
from encoders.flip.strokes import edges, progress, trace
from encoders.flip.studies.ablation import (
    caption_arms,
    compare,
    power_law,
    size_arms,
    start_arms,
)
from encoders.flip.studies.arms import common, difference, read_texts, searched, with_texts
from encoders.flip.studies.ratings import (
    KEY,
    read_key,
)
from encoders.flip.studies.sketching import by_sketches, sketch_sheet
from encoders.flip.text import TextConfig
from encoders.flip.tokens import load_tokens
from encoders.flip.vision import VisionConfig
from sfhq.errors import IntegrityError, UsageError

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


@pytest.mark.long
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


@pytest.mark.long
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
