"""What is known of faces, probes of it, and whom data and network serve worse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import finish, finish_about

pytest.importorskip("tokenizers")

from studied import known, many, part_of_heads
from test_flip_training import CONFIG, RECIPE, tokens

from encoders.flip.data import Captioned
from encoders.flip.network import Flip, FlipConfig
from encoders.flip.studies.arms import searched
from encoders.flip.studies.facts import Face, FaceFacts, facts_of
from encoders.flip.studies.fairness import Answers, answers, fairness
from encoders.flip.studies.probe import PROMPTS, probe, vectors, zero_shot
from encoders.flip.text import TextConfig
from encoders.flip.tokens import load_tokens
from encoders.flip.training import FlipTraining
from encoders.flip.vision import VisionConfig
from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.training.photos import is_held_out


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
