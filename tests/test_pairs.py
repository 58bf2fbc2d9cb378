"""Every way of looking for pairs gives the same pairs as float64 does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import curation.pairs.candidates
import curation.pairs.native
import curation.pairs.search
from curation.pairs.bound import (
    Plan,
    float32_slack,
    plan_codes,
    plane_plan,
    principal_axes,
    shares,
)
from curation.pairs.native import AVX2, NONE, VNNI, CodedVectors, levels, path
from curation.pairs.search import (
    BLOCK,
    WAYS,
    Progress,
    all_pairs,
    greedy_best_first,
    search_key,
)
from sfhq.kernels import BuildError
from sfhq.parts.records import Array


def have_kernel() -> bool:
    try:
        return path() != NONE
    except BuildError:
        return False


needs_kernel = pytest.mark.skipif(not have_kernel(), reason="no kernel for pairs here")


def faces(count: int, width: int = 128, decay: float = 0.5, seed: int = 0) -> Array:
    """Unit vectors as encoders give them: a common direction, clusters, near-duplicates."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, width + 1) ** -decay
    centres = rng.standard_normal((max(count // 50, 1), width)) * spectrum
    x = centres[rng.integers(len(centres), size=count)]
    x = x + 0.7 * rng.standard_normal((count, width)) * spectrum
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x += 0.9 * rng.standard_normal(width) / np.sqrt(width)
    copies = rng.integers(count, size=(count // 8, 2))
    noise = rng.standard_normal((len(copies), width)) / np.sqrt(width)
    size = rng.uniform(0, 0.5, (len(copies), 1)) * np.linalg.norm(x[copies[:, 1]], axis=1)[:, None]
    x[copies[:, 0]] = x[copies[:, 1]] + size * noise
    unit: Array = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return unit


def oracle(vectors: Array, threshold: float) -> set[tuple[int, int]]:
    x = vectors.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rows, columns = np.nonzero(np.tril(x @ x.T, -1) > threshold)
    return set(zip(rows.tolist(), columns.tolist(), strict=True))


@pytest.mark.parametrize("way", [w for w in WAYS if w != "int8" or have_kernel()])
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.2])
def test_every_way_finds_the_pairs_of_float64(way: curation.pairs.search.Way, decay: float) -> None:
    vectors = faces(2500, decay=decay)
    wanted = oracle(vectors, 0.92)
    assert len(wanted) > 100
    i, j, cosines = all_pairs(vectors, 0.92, way)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == wanted
    assert cosines.min() > 0.92
    assert np.array_equal(np.lexsort((j, i)), np.arange(len(i)))


@needs_kernel
@pytest.mark.parametrize("width", [64, 70, 129, 384])
@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.99])
def test_widths_and_thresholds(width: int, threshold: float) -> None:
    vectors = faces(700, width, 0.4, seed=width)
    i, j, _ = all_pairs(vectors, threshold, "int8")
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == oracle(vectors, threshold)


@needs_kernel
def test_a_principal_plane_is_taken_where_it_pays_and_loses_nothing() -> None:
    vectors = faces(3000, 768, 1.0, seed=1)
    plan = plan_codes(vectors[:2048], 0.92, 127)
    assert plan.width < 768
    i, j, _ = all_pairs(vectors, 0.92, "int8")
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == oracle(vectors, 0.92)


@needs_kernel
@pytest.mark.parametrize("way", [AVX2, VNNI])
@pytest.mark.parametrize("plane", [False, True])
def test_the_bound_holds_for_every_pair(way: int, plane: bool) -> None:
    """With a threshold just under a pair's cosine the first look must let that pair pass."""
    if way > path():
        pytest.skip("this processor has no AVX-512 VNNI")
    vectors = faces(256, 256, 1.0, seed=3)
    x = vectors.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    products = np.tril(x @ x.T, -1)
    for wanted in (0.95, 0.8, 0.5):
        i, j = np.unravel_index(np.argmin(np.abs(products - wanted)), products.shape)
        threshold = float(np.nextafter(products[i, j], -1))
        plan = plan_codes(vectors if plane else vectors[:100], threshold, levels(way))
        if plane:
            rng = np.random.default_rng(0)
            plan = plane_plan(principal_axes(vectors), 64, vectors, levels(way), rng)
        coded = CodedVectors(plan, threshold, 256 + BLOCK, way, threads=1)
        found = {
            (int(r), int(c))
            for rows, columns in coded.search(vectors)
            for r, c in zip(rows, columns, strict=True)
        }
        over = set(zip(*(p.tolist() for p in np.nonzero(products > threshold)), strict=True))
        assert (int(i), int(j)) in found
        assert over <= found
        assert len(found) < 256 * 255 / 2  # it does look


@needs_kernel
def test_vectors_that_no_sample_shows() -> None:
    """A few single axes among spread vectors: their codes are cut off, and the bound knows."""
    vectors = faces(4400, 64, 0.3, seed=4)
    vectors[17] = vectors[4200] = 0
    vectors[17, 3] = vectors[4200, 3] = 1
    rotation = np.eye(64, dtype=np.float32)
    plan = Plan(rotation, 64, 0.6 / 127, 1.0, levels(path()), float32_slack(64, rotation))
    coded = CodedVectors(plan, 0.92, len(vectors) + BLOCK, path())
    found = set()
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        for rows, columns in coded.search(block):
            found |= set(zip((rows + start).tolist(), columns.tolist(), strict=True))
        coded.keep(np.ones(len(block), dtype=np.bool_))
    assert (4200, 17) in found
    assert oracle(vectors, 0.92) <= found


def test_shares_are_rounded_to_the_safe_side() -> None:
    rotation = np.eye(8, dtype=np.float32)
    plan = Plan(rotation, 8, 0.01, 1.0, 127, 0.0)
    lost = np.array([0.0, 0.01, 0.2])
    given = shares(plan, 0.9, 128, np.array([5, -7, 3], np.int32), lost, lost * 0, lost * 0)
    exact = (0.9 - lost) / 1e-4 + 128 * np.array([5, -7, 3])
    assert (given.limit[:2] < exact[:2]).all()
    assert given.limit[2] == -np.inf  # so much was lost that everything passes
    assert (given.add >= lost / 1e-4).all()


@needs_kernel
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_and_small_pieces_change_nothing(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = faces(9000, 64, seed=5)
    wanted = all_pairs(vectors, 0.9, "f32")
    monkeypatch.setattr(curation.pairs.native, "PANELS", 3)
    monkeypatch.setattr(curation.pairs.native, "CAPACITY", 48 * BLOCK)
    found = all_pairs(vectors, 0.9, "int8", threads)
    for a, b in zip(wanted, found, strict=True):
        assert np.array_equal(a, b)


@needs_kernel
def test_more_hits_than_room_are_found_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.repeat(faces(2, 64), 300, axis=0)
    monkeypatch.setattr(curation.pairs.native, "CAPACITY", 48 * 600)
    i, j, _ = all_pairs(vectors, 0.99, "int8")
    assert len(i) == 2 * 300 * 299 // 2
    assert (i > j).all()


@needs_kernel
@pytest.mark.parametrize("way", ["int8", "bf16", "f32"])
def test_greedy_is_the_same_by_every_way(way: curation.pairs.search.Way) -> None:
    vectors = faces(3000, 64, seed=6)
    order = np.random.default_rng(7).permutation(3000)
    wanted = greedy_best_first(lambda i: vectors[i], order, 0.9, 500, way="f32")
    assert len(wanted) > 100
    for block in (7 if way == "int8" else 300, 1000):
        some = order if block > 100 else order[:600]
        expected = wanted
        if block < 100:
            expected = greedy_best_first(lambda i: vectors[i], some, 0.9, 500, way="f32")
        assert greedy_best_first(lambda i: vectors[i], some, 0.9, block, way=way) == expected


@needs_kernel
@pytest.mark.parametrize("way", ["int8", "f32"])
def test_frozen_ones_stay_whatever_is_near_them(way: curation.pairs.search.Way) -> None:
    vectors = np.repeat(faces(50, 64, seed=8), 4, axis=0)
    order = np.arange(200)
    dropped = greedy_best_first(lambda i: vectors[i], order, 0.999, 64, frozen=10, way=way)
    assert not set(range(10)) & set(dropped)
    assert {10, 11} <= set(dropped)  # copies of 8 and 9
    kept = [i for i in range(10, 200) if i not in dropped]
    assert len(kept) < 48
    near = vectors[kept].astype(np.float64) @ vectors[:10].T.astype(np.float64)
    assert near.max() <= 0.999 + 1e-6


def test_progress_is_taken_up_and_changes_nothing(tmp_path: Path) -> None:
    vectors = faces(1500, 64, seed=9)
    order = np.random.default_rng(1).permutation(1500)
    wanted = greedy_best_first(lambda i: vectors[i], order, 0.9, 100)
    key = search_key(lambda i: vectors[i], order, 0.9, 0, 100)
    file = tmp_path / "p.npz"

    calls = 0

    def failing(indices: curation.pairs.search.Places) -> Array:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise OSError("the disk went away")
        return vectors[indices]

    with pytest.raises(OSError, match="went away"):
        greedy_best_first(failing, order, 0.9, 100, progress=Progress(file, key, 0.0))
    done, dropped = Progress(file, key).read()
    assert 0 < done < 1500
    assert dropped.items() <= wanted.items()
    seen: list[int] = []

    def watched(indices: curation.pairs.search.Places) -> Array:
        seen.append(len(indices))
        return vectors[indices]

    again = greedy_best_first(watched, order, 0.9, 100, progress=Progress(file, key, 0.0))
    assert again == wanted
    other = search_key(lambda i: vectors[i], order, 0.91, 0, 100)
    assert Progress(file, other).read() == (0, {})
    file.write_bytes(file.read_bytes()[:50])
    assert Progress(file, key).read() == (0, {})


def test_the_key_knows_a_changed_vector() -> None:
    vectors = faces(20, 64)
    order = np.arange(20)
    key = search_key(lambda i: vectors[i], order, 0.9, 0, 8)
    vectors[3, 3] += 1e-3
    assert search_key(lambda i: vectors[i], order, 0.9, 0, 8) != key


def test_a_way_that_is_none() -> None:
    with pytest.raises(ValueError, match="way is 'fast'"):
        all_pairs(faces(10, 64), 0.9, "fast")  # type: ignore[arg-type]


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def missing() -> int:
        raise BuildError("no C++ compiler")

    monkeypatch.setattr(curation.pairs.candidates, "path", missing)
    yield


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curation.pairs.candidates, "WORTH_CODING", 100)
    vectors = faces(500, 64)
    with pytest.warns(RuntimeWarning, match="no kernel for pairs: no C"):
        i, j, _ = all_pairs(vectors, 0.92)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == oracle(vectors, 0.92)
    with pytest.raises(BuildError, match="no C"):
        all_pairs(vectors, 0.92, "int8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        all_pairs(vectors, 0.92, "f32")


def test_of_nothing() -> None:
    nothing = np.empty((0, 64), dtype=np.float32)
    for found in all_pairs(nothing, 0.9):
        assert len(found) == 0
    assert greedy_best_first(lambda i: nothing[i], np.arange(0), 0.9) == {}


KILLED = """
import sys, numpy as np
from pathlib import Path
from curation.pairs.search import Progress, greedy_best_first, search_key
vectors = np.load(sys.argv[1])
order = np.arange(len(vectors))
rows = lambda i: vectors[i]
progress = Progress(Path(sys.argv[2]), search_key(rows, order, 0.9, 0, 50), 0.0)
print("start", flush=True)
dropped = greedy_best_first(rows, order, 0.9, 50, progress=progress)
np.save(sys.argv[3], np.array(sorted((i, k) for i, (k, _) in dropped.items())))
"""


def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    vectors = faces(4000, 64, seed=11)
    np.save(tmp_path / "v.npy", vectors)
    wanted = greedy_best_first(lambda i: vectors[i], np.arange(4000), 0.9, 50)
    command = [
        sys.executable,
        "-c",
        KILLED,
        *(str(tmp_path / n) for n in ("v.npy", "p.npz", "d.npy")),
    ]
    kills = 0
    while not (tmp_path / "d.npy").exists():
        run = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ)
        assert run.stdout is not None
        run.stdout.readline()
        try:
            run.wait(0.15 if kills < 3 else 60)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            kills += 1
        run.stdout.close()
    assert np.load(tmp_path / "d.npy").tolist() == sorted([i, k] for i, (k, _) in wanted.items())
