"""The choice among near-duplicates is exact, whatever the block, against a brute-force oracle."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from oracle import Order, clustered, oracle
from tiny import unit

import curation.dedup
import curation.pairs.cosines
from curation.pairs.search import exact_cosine, first_violation, greedy_best_first, neighbours_above
from sfhq.parts.records import Array


def greedy(
    vectors: Array, order: Order, threshold: float, block: int
) -> dict[int, tuple[int, float]]:
    return greedy_best_first(lambda i: vectors[i], order, threshold, block)


def test_exact_cosine() -> None:
    a, b = np.array([3.0, 4.0], np.float32), np.array([4.0, 3.0], np.float32)
    assert exact_cosine(a, b) == pytest.approx(24 / 25, abs=1e-15)
    assert exact_cosine(a, 7 * a) == pytest.approx(1.0, abs=1e-15)
    assert exact_cosine(a, -a) == pytest.approx(-1.0, abs=1e-15)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 512)).astype(np.float32)
    wanted = math.fsum(float(p) * float(q) for p, q in zip(x, y, strict=True)) / math.sqrt(
        math.fsum(float(p) ** 2 for p in x) * math.fsum(float(q) ** 2 for q in y)
    )
    assert exact_cosine(x, y) == pytest.approx(wanted, abs=1e-14)
    assert exact_cosine(x, y) == exact_cosine(y, x)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("spread", "threshold"), [(0.05, 0.97), (0.3, 0.92), (0.6, 0.6)])
def test_greedy_is_the_oracle_for_every_block(seed: int, spread: float, threshold: float) -> None:
    vectors = clustered(120, 16, spread, seed)
    order = np.random.default_rng(seed + 100).permutation(120)
    wanted = oracle(vectors, order, threshold)
    assert 0 < len(wanted) < 120
    for block in (1, 2, 7, 32, 119, 120, 2048):
        found = greedy(vectors, order, threshold, block)
        assert found == wanted  # who is dropped, for whom, and the cosine to the last bit


def test_the_guarantee_and_that_no_drop_was_for_nothing() -> None:
    vectors = clustered(300, 8, 0.4, seed=1)
    order = np.random.default_rng(2).permutation(300)
    place = {int(index): i for i, index in enumerate(order)}
    dropped = greedy(vectors, order, 0.9, 64)
    kept = [i for i in range(300) if i not in dropped]
    assert first_violation(vectors[kept], 0.9, 17) is None
    for index, (winner, cosine) in dropped.items():
        assert winner not in dropped
        assert place[winner] < place[index]
        assert cosine == exact_cosine(vectors[index], vectors[winner]) > 0.9


def test_a_chain_keeps_its_ends() -> None:
    angles = np.deg2rad([0.0, 20.0, 40.0])  # A~B and B~C, but not A~C
    vectors = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    threshold = math.cos(math.radians(25))
    for block in (1, 2, 3):
        assert greedy(vectors, np.array([0, 1, 2]), threshold, block).keys() == {1}
        assert greedy(vectors, np.array([2, 1, 0]), threshold, block).keys() == {1}
        assert greedy(vectors, np.array([1, 0, 2]), threshold, block).keys() == {0, 2}


def test_the_threshold_is_strict() -> None:
    a = np.array([1.0, 0.0], np.float32)
    b = np.array([0.6, 0.8], np.float32)
    cosine = exact_cosine(a, b)
    pair, order = np.stack([a, b]), np.array([0, 1])
    assert greedy(pair, order, cosine, 8) == {}
    assert greedy(pair, order, float(np.nextafter(cosine, 2)), 8) == {}
    assert greedy(pair, order, float(np.nextafter(cosine, -2)), 8) == {1: (0, cosine)}
    assert first_violation(pair, cosine) is None
    assert first_violation(pair, float(np.nextafter(cosine, -2))) == (0, 1)


def test_rounding_of_float32_decides_nothing() -> None:
    rng = np.random.default_rng(3)
    block, others = unit(rng.standard_normal((40, 64))), unit(rng.standard_normal((50, 64)))
    cosines = np.array([[exact_cosine(a, b) for b in others] for a in block])
    for threshold in np.sort(cosines.ravel())[-40:]:  # exactly on a pair each time
        found = {(i, j): c for i, j, c in neighbours_above(block, others, float(threshold))}
        rows, columns = np.nonzero(cosines > threshold)
        wanted = {(int(i), int(j)): cosines[i, j] for i, j in zip(rows, columns, strict=True)}
        assert found == wanted


def test_pairs_are_found_in_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(100, 8, 0.2, seed=4)
    wanted = list(neighbours_above(vectors, vectors, 0.5))
    monkeypatch.setattr(curation.pairs.cosines, "PAIRS", 7)
    assert list(neighbours_above(vectors, vectors, 0.5)) == wanted


def test_first_violation_looks_at_every_tile() -> None:
    rng = np.random.default_rng(5)
    vectors = unit(rng.standard_normal((60, 64)))
    assert first_violation(vectors, 0.9) is None
    for i, j in ((0, 59), (3, 4), (58, 59), (10, 30)):
        planted = vectors.copy()
        planted[j] = planted[i]
        for block in (1, 7, 30, 60, 61):
            assert first_violation(planted, 0.9, block) == (i, j)
    assert first_violation(vectors[:0], 0.9) is None
    assert first_violation(vectors[:1], -1.0) is None


def test_memory_goes_with_the_block_and_not_with_the_number() -> None:
    rng = np.random.default_rng(6)
    vectors = unit(rng.standard_normal((4000, 8)))

    def peak(block: int) -> int:
        tracemalloc.start()
        greedy(vectors, np.arange(4000), 0.999, block)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(200) < 4000 * 4000  # bytes; all products at once would be four times as many
    assert peak(200) < peak(2000)
