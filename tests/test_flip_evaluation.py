"""Retrieval and sketch metrics on ranks that were worked out by hand."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("tokenizers")

from encoders.flip.data import Captioned
from encoders.flip.evaluation import (
    Gallery,
    evaluate,
    match_scores,
    mean_recall,
    pool,
    ranks,
    recall_of,
    reordered,
    retrieve,
    see,
)
from encoders.flip.network import Flip, FlipConfig
from encoders.flip.sketches import sketch_ranks, sketch_scores
from encoders.flip.text import TextConfig
from encoders.flip.tokens import load_tokens
from encoders.flip.vision import VisionConfig
from sfhq.errors import UsageError


def test_ranks_by_hand() -> None:
    similarity = torch.tensor([[0.9, 0.5, 0.7], [0.9, 0.5, 0.7], [0.4, 0.4, 0.4], [0.1, 0.2, 0.3]])
    hits = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 1]]).bool()
    # found first; third; tied with two others, which count against; the better of two hits
    assert ranks(similarity, hits).tolist() == [1, 3, 3, 1]


def test_recall_by_hand() -> None:
    found = recall_of(torch.tensor([1, 3, 6, 20]), 20, torch.tensor([1, 1, 1, 1]))
    assert (found.r1, found.r5, found.r10) == (0.25, 0.5, 0.75)
    assert (found.median, found.mean) == (4.5, 7.5)
    assert found.chance10 == pytest.approx(0.5)  # 10 of 20
    two = recall_of(torch.tensor([1]), 20, torch.tensor([2]))
    assert two.chance10 == pytest.approx(1 - (10 * 9) / (20 * 19))
    assert recall_of(torch.tensor([1, 2]), 3, torch.tensor([1, 1])).chance10 == 1.0


def gallery(
    vectors: list[float], owners: list[int], captions: list[int], faces: list[int]
) -> Gallery:
    images = torch.eye(len(faces))
    texts = torch.eye(len(faces))[torch.tensor(vectors).long()]
    nothing = torch.zeros(len(owners), 2, dtype=torch.int64)
    return Gallery(
        images,
        images,
        None,
        torch.tensor(faces),
        texts,
        nothing,
        nothing.bool(),
        torch.tensor(owners),
        torch.tensor(captions),
    )


def test_equal_captions_and_equal_faces_are_hits() -> None:
    # Texts 0 and 1 are equal and were written for images 0 and 1; each network vector points at
    # the other one's image. Image 3 shows the face of image 2.
    found = gallery([1, 0, 3, 2], [0, 1, 2, 3], [7, 7, 8, 9], [0, 1, 2, 2])
    assert found.hits(0, 4).long().tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 1],
        [0, 0, 1, 1],
    ]
    for recall in retrieve(found).values():
        assert recall.r1 == 1.0 and recall.mean == 1.0
    # Without the duplicates every first result is wrong, and the right one ties with two others.
    alone = gallery([1, 0, 3, 2], [0, 1, 2, 3], [6, 7, 8, 9], [0, 1, 2, 3])
    for recall in retrieve(alone).values():
        assert recall.r1 == 0.0 and recall.mean == 4.0


def test_results_are_ordered_anew_among_the_best_only() -> None:
    similarity = torch.tensor([[0.9, 0.8, 0.1, 0.2]])
    wishes = torch.tensor([0.0, 5.0, 100.0, 50.0])
    found = reordered(similarity, 2, lambda _, columns: wishes[columns])
    assert found.argsort(descending=True).tolist() == [[1, 0, 3, 2]]
    assert found[0, 1].item() == pytest.approx(5.8)
    assert reordered(similarity, 9, lambda _, c: wishes[c]).argmax() == 2


def test_both_ways_ask_for_the_right_pairs() -> None:
    asked: list[tuple[int, int]] = []

    def score(images: Tensor, texts: Tensor) -> Tensor:
        asked.extend(zip(images.tolist(), texts.tolist(), strict=True))
        return (images == texts).float() * 10

    wrong = gallery([1, 2, 0], [0, 1, 2], [6, 7, 8], [0, 1, 2])
    assert all(r.r1 == 0 for r in retrieve(wrong).values())
    assert all(r.r1 == 1 for r in retrieve(wrong, 3, score).values())
    assert sorted(asked) == sorted([*product(range(3), range(3))] * 2)


CONFIG = FlipConfig(
    VisionConfig(32, 16, 64, 1, 1, 64), TextConfig(600, 30, 64, 1, 1, 64, 64), 16, 30, True
)


def small_set() -> Captioned:
    pixels = torch.randint(
        256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    texts = (("a man",), ("a woman", "she has hair"), ("a girl",), ("a boy",), ("a man",), ("x",))
    names = tuple(f"n{i}" for i in range(6))
    return Captioned(pixels, names, names, texts)


def test_a_network_is_evaluated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, tokens, data = Flip(CONFIG).eval(), load_tokens(), small_set()
    rows = evaluate(network, tokens, data, (4, None), best=3, batch=4)
    assert [(r["pool"], r["reordered"]) for r in rows] == [(4, 0), (4, 3), (6, 0), (6, 3)]
    for row in rows:
        for way in ("image_to_text", "text_to_image"):
            assert 0 <= row[way]["r1"] <= row[way]["r5"] <= row[way]["r10"] <= 1
    assert rows[2]["text_to_image"]["queries"] == rows[2]["image_to_text"]["gallery"] == 7
    assert evaluate(network, tokens, data, (4, None), best=3, batch=3)[0] == rows[0]
    assert len(evaluate(network, tokens, data)) == 1
    with pytest.raises(UsageError, match="a pool of 7 images; there are 6"):
        evaluate(network, tokens, data, (7,))


def test_matching_reads_enc_and_the_image() -> None:
    torch.manual_seed(0)
    network, tokens, data = Flip(CONFIG).eval(), load_tokens(), small_set()
    seen = see(network, tokens, data, matching=True)
    at = torch.tensor([0, 3])
    found = match_scores(network, tokens, seen, at, at)
    assert seen.tokens is not None
    with torch.no_grad():
        ids = seen.ids[at].clone()
        as_cls = network.match(seen.tokens[at], ids, seen.mask[at])
        ids[:, 0] = tokens.words.index("[ENC]")
        logits = network.match(seen.tokens[at], ids, seen.mask[at])
    torch.testing.assert_close(found, logits[:, 1] - logits[:, 0])
    assert not torch.allclose(found, as_cls[:, 1] - as_cls[:, 0])
    with pytest.raises(UsageError, match="matching=True"):
        match_scores(network, tokens, see(network, tokens, data), at, at)


def test_pools_are_fixed_by_the_names() -> None:
    data = small_set()
    turned = data.select([5, 4, 3, 2, 1, 0])
    assert set(pool(data, 3).names) == set(pool(turned, 3).names)
    assert set(pool(data, 3).names) < set(pool(data, 4).names)


def test_the_number_for_selection() -> None:
    one = recall_of(torch.tensor([1, 2]), 20, torch.tensor([1, 1]))
    other = recall_of(torch.tensor([11, 11]), 20, torch.tensor([1, 1]))
    assert mean_recall({"a": one, "b": other}) == pytest.approx((0.5 + 1 + 1) / 6)


def test_sketch_ranks_count_ties_against() -> None:
    similarity = torch.tensor([[[0.1, 0.5, 0.5], [0.9, 0.1, 0.2]], [[0.3, 0.3, 0.3], [0, 0, 1.0]]])
    assert sketch_ranks(similarity, torch.tensor([0, 2])).tolist() == [[3, 1], [3, 1]]


def test_sketch_scores_by_hand() -> None:
    found = sketch_scores(torch.tensor([[4, 2], [5, 1]]), 5)
    assert found.m_a == pytest.approx((1 / 4 + 3 / 4 + 0 + 1) / 4)
    assert found.m_b == pytest.approx((1 / 4 + 1 / 2 + 1 / 5 + 1) / 4)
    early, late = math.exp(-0.5), math.exp(-1)
    assert found.weighted_a == pytest.approx(((1 / 4 + 0) * early + (3 / 4 + 1) * late) / 4)
    assert found.weighted_b == pytest.approx(((1 / 4 + 1 / 5) * early + (1 / 2 + 1) * late) / 4)
    assert (found.a1, found.a5, found.a10) == (0.5, 1.0, 1.0)


def test_the_bounds_of_the_sketch_scores() -> None:
    first = sketch_scores(torch.ones(3, 70, dtype=torch.int64), 450)
    assert first.m_a == first.m_b == 1.0
    assert first.weighted_a == pytest.approx(first.weighted_most)
    assert first.weighted_most == pytest.approx(0.6276, abs=5e-5)
    last = sketch_scores(torch.full((3, 70), 450), 450)
    assert last.m_a == pytest.approx(last.m_b - 1 / 450)
    rng = torch.Generator().manual_seed(0)
    for gallery_size in (2, 3, 50):
        drawn = torch.randint(1, gallery_size + 1, (40, 7), generator=rng)
        found = sketch_scores(drawn, gallery_size)
        assert found.m_a >= found.m_b - 1 / gallery_size
    for wrong in (torch.tensor([[0]]), torch.tensor([[6]])):
        with pytest.raises(ValueError, match="outside 1 to 5"):
            sketch_scores(wrong, 5)
