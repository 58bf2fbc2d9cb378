"""The losses of FLIP against loops over single samples."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from encoders.flip.losses import (
    Keys,
    Negatives,
    Queue,
    contrastive_loss,
    draw_negatives,
    key_of,
    matching_loss,
    same,
)
from sfhq.errors import UsageError

WIDTH = 5


def unit(count: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, WIDTH, generator=rng, dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1)


def keys(faces: list[int], captions: list[int], seed: int) -> Keys:
    count = len(faces)
    # Each image has its drawn caption, and one more that nobody else has.
    drawn = torch.tensor(captions, dtype=torch.int64)
    several = torch.stack([drawn, -1000 * seed - torch.arange(count)], dim=1)
    faces_of = torch.tensor(faces, dtype=torch.int64)
    return Keys(unit(count, seed), unit(count, seed + 1), faces_of, drawn, several)


def floats(of: Keys) -> Keys:
    return replace(of, images=of.images.float(), texts=of.texts.float())


BATCH = keys([1, 2, 1, 3], [10, 11, 12, 11], 1)
QUEUE = keys([2, 9, 8], [20, 10, 21], 3)


def by_hand(
    images: Tensor, texts: Tensor, rows: list[int], batch: Keys, queue: Keys, t: float, a: float
) -> float:
    """One sample, one key at a time."""
    faces = batch.faces.tolist() + queue.faces.tolist()
    captions = batch.drawn.tolist() + queue.drawn.tolist()
    total = 0.0
    for way in (0, 1):
        own = (batch.images, batch.texts)[way]
        others = torch.cat([(batch.texts, batch.images)[way], (queue.texts, queue.images)[way]])
        for i, row in enumerate(rows):
            query = (images, texts)[way][i]
            scores = [float(query @ k) / t for k in others]
            slow = [float(own[row] @ k) / t for k in others]
            good = [
                faces[j] == faces[row] or captions[j] == captions[row] for j in range(len(faces))
            ]
            norm = math.log(sum(math.exp(s) for s in scores))
            norm_slow = sum(math.exp(s) for s in slow)
            for j, score in enumerate(scores):
                target = a * math.exp(slow[j]) / norm_slow + (1 - a) * good[j] / sum(good)
                total -= target * (score - norm) / len(rows) / 2
    return total


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2, 3]])
def test_contrastive_loss_is_that_of_a_loop(alpha: float, rows: list[int]) -> None:
    images, texts = unit(len(rows), 7), unit(len(rows), 8)
    temperature = torch.tensor(0.3, dtype=torch.float64)
    found = contrastive_loss(images, texts, torch.tensor(rows), BATCH, QUEUE, temperature, alpha)
    wanted = by_hand(images, texts, rows, BATCH, QUEUE, 0.3, alpha)
    assert found.item() == pytest.approx(wanted, abs=1e-6)


def test_the_mean_over_slices_is_the_loss_of_the_batch() -> None:
    images, texts = unit(4, 7), unit(4, 8)
    t = torch.tensor(0.1, dtype=torch.float64)
    whole = contrastive_loss(images, texts, torch.arange(4), BATCH, QUEUE, t, 0.4)
    halves = [
        contrastive_loss(images[r], texts[r], r, BATCH, QUEUE, t, 0.4)
        for r in torch.arange(4).split(2)
    ]
    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole)


@pytest.mark.parametrize("where", ["batch", "queue"])
def test_a_duplicate_is_no_negative(where: str) -> None:
    """Pulling a query towards a key of the same caption must lower its loss, not raise it."""

    def slope(caption: int) -> float:
        mine = BATCH.rows(slice(1))
        other = keys([99], [caption], 20)
        nobody = keys([], [], 1)
        batch, queue = (mine.then(other), nobody) if where == "batch" else (mine, other)
        image = unit(1, 22).requires_grad_()
        text = unit(1, 23)
        t = torch.tensor(0.5, dtype=torch.float64)
        loss = contrastive_loss(image, text, torch.tensor([0]), batch, queue, t, 0.0)
        (gradient,) = torch.autograd.grad(loss, image)
        return float(gradient[0] @ other.texts[0] - gradient[0] @ mine.texts[0])

    assert slope(10) < slope(55)  # pushed away less


def test_same_face_or_caption() -> None:
    found = same(BATCH, QUEUE)
    assert found.tolist() == [
        [False, True, False],
        [True, False, False],
        [False, False, False],
        [False, False, False],
    ]


def test_a_caption_of_the_other_image_counts_though_another_was_drawn() -> None:
    """Image 0 has the captions 10 and 11, and 10 was drawn; image 1 has and drew 11."""
    ours = keys([1, 2], [10, 11], 1)
    ours = replace(ours, captions=torch.tensor([[10, 11], [11, -1]]))
    assert same(ours, ours).all()
    apart = replace(ours, captions=torch.tensor([[10, -1], [11, -1]]))
    assert same(apart, apart).tolist() == [[True, False], [False, True]]


def test_keys_of_texts() -> None:
    assert key_of("a") == key_of("a") != key_of("b")
    assert 0 <= key_of("\ud800") < 2**63


def test_negatives_are_drawn_by_similarity_and_never_belong() -> None:
    images, texts = unit(4, 7), unit(4, 8)
    together = same(BATCH, BATCH)
    t = torch.tensor(0.5, dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    counts = torch.zeros(2, 4, 4)
    draws = 4000
    for _ in range(draws):
        found = draw_negatives(images, texts, together, t, rng)
        assert found.exist.all()
        counts[0, torch.arange(4), found.images] += 1
        counts[1, torch.arange(4), found.texts] += 1
    assert (counts[:, together] == 0).all()
    for way, (query, others) in enumerate(((texts, images), (images, texts))):
        for i in range(4):
            weights = [
                0.0 if together[i, j] else math.exp(float(query[i] @ others[j]) / 0.5)
                for j in range(4)
            ]
            for j in range(4):
                share = weights[j] / sum(weights)
                assert abs(counts[way, i, j] / draws - share) < 4 * (0.25 / draws) ** 0.5


def test_a_row_without_a_negative_is_left_out() -> None:
    together = torch.tensor([[True, True], [True, True]])
    rng = torch.Generator().manual_seed(0)
    found = draw_negatives(unit(2, 1), unit(2, 2), together, torch.tensor(0.1), rng)
    assert not found.exist.any() and found.decisions == 2
    logits = torch.randn(6, 2, generator=rng, requires_grad=True)
    loss = matching_loss(logits, found.exist, found.decisions)
    wanted = torch.nn.functional.cross_entropy(logits[:2], torch.tensor([1, 1]))
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert logits.grad is not None and (logits.grad[2:] == 0).all()


def test_matching_loss_is_the_mean_over_decisions_of_all_processes() -> None:
    logits = torch.randn(12, 2, generator=torch.Generator().manual_seed(1))
    exist = torch.tensor([True, False, True, True])
    negatives = Negatives(torch.zeros(4).long(), torch.zeros(4).long(), exist)
    each = []
    for i in range(12):
        if i < 4 or exist[i % 4]:
            wanted = torch.tensor(int(i < 4))
            each.append(torch.nn.functional.cross_entropy(logits[i], wanted).item())
    assert int(negatives.decisions) == len(each) == 10
    whole = matching_loss(logits, exist, negatives.decisions)
    assert whole.item() == pytest.approx(sum(each) / len(each), abs=1e-6)
    halves = []
    for rows in (torch.arange(2), torch.arange(2, 4)):
        part = torch.cat([logits[rows], logits[rows + 4], logits[rows + 8]])
        halves.append(matching_loss(part, exist[rows], negatives.decisions, processes=2))
    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole)


@pytest.mark.parametrize("size", [0, 3, 5, 8])
def test_the_queue_holds_the_last_keys_whatever_the_batch(size: int) -> None:
    queue = Queue(size, WIDTH, 2, torch.device("cpu"))
    seen: list[int] = []
    for step, count in enumerate([2, 3, 4, 2, 7, 1]):
        faces = list(range(100 * step, 100 * step + count))
        fresh = keys(faces, faces, step)
        queue.push(floats(fresh))
        seen += faces
        held = queue.keys()
        assert sorted(held.faces.tolist()) == sorted(seen[-size:] if size else [])
        assert torch.equal(held.faces, held.captions[:, 0])
    copy = Queue(size, WIDTH, 2, torch.device("cpu"))
    copy.load_state_dict(queue.state_dict())
    assert torch.equal(copy.keys().images, queue.keys().images)
    assert (copy.next, copy.filled) == (queue.next, queue.filled)
    with pytest.raises(ValueError, match="another size"):
        Queue(size + 1, WIDTH, 2, torch.device("cpu")).load_state_dict(queue.state_dict())


def test_a_queue_of_negative_size() -> None:
    with pytest.raises(UsageError, match="-1 keys"):
        Queue(-1, WIDTH, 2, torch.device("cpu"))


def test_autocast_takes_nothing_from_the_precision() -> None:
    """Similarities are divided by a small temperature: bfloat16 would be off by whole numbers."""
    images, texts = unit(4, 7).float(), unit(4, 8).float()
    batch, queue = floats(BATCH), floats(QUEUE)
    t, rows = torch.tensor(0.01), torch.arange(4)
    together = same(BATCH, BATCH)
    found = []
    for enabled in (False, True):
        rng = torch.Generator().manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = contrastive_loss(images, texts, rows, batch, queue, t, 0.4)
            drawn = draw_negatives(images, texts, together, t, rng)
        found.append((loss, drawn.images, drawn.texts))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
