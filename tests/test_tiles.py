"""A search by tiles says what a search in one piece says, and proves that no tile is missing."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from test_pairs import faces, have_kernel
from tiny import embedded_part, tree
from toy_stages import note

import curation.pairs.tiles
from curation.dedup import Dedup, verify
from curation.pairs.candidates import Way
from curation.pairs.cosines import BLOCK, Places
from curation.pairs.manifest import TileSearch, require_proof
from curation.pairs.packed import pack
from curation.pairs.search import all_pairs, greedy_best_first
from curation.pairs.tiles import Done, Tile, side_for, tile_path, tiles_of
from curation.pairs.walk import Pairs, in_pairs, walk
from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import Array
from sfhq.pipeline.engine import run_stage
from sfhq.pipeline.workers import Batch, Local

ROOT = Path(__file__).parent.parent
PATHS = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
COUNT, THRESHOLD = 9000, 0.9  # three tiles a side
VECTORS = faces(COUNT, 64, seed=21)
ORDER = np.random.default_rng(22).permutation(COUNT)
FOLDER, PROOF = "audit/dedup.tiles.part", "audit/dedup.tiles.json"


def rows(indices: Places) -> Array:
    taken: Array = VECTORS[indices]
    return taken


def search(root: Path, frozen: int = 0, way: Way = "auto") -> TileSearch:
    """Tiles in a folder that looks like a part, for the engines' checks."""
    (root / "records").mkdir(parents=True, exist_ok=True)
    (root / "records" / "dedup.json").write_text("{}")
    (root / "audit").mkdir(exist_ok=True)
    return TileSearch(root, "dedup", root / FOLDER, root / PROOF, THRESHOLD, frozen, way, BLOCK)


@dataclass
class Watched:
    """An engine that notes tiles, and does something before each.

    Attributes:
        engine: that does them.
        begun: the tiles that were handed out.
        before: called with a tile and the folder of the pairs.
    """

    spreads: ClassVar[bool] = True
    engine: Any = field(default_factory=Local)
    begun: list[Tile] = field(default_factory=list)
    before: Callable[[Tile, Path], None] = lambda tile, folder: None

    def each(self, batch: Batch[Any, Any]) -> None:
        work: Any = batch.work

        def items() -> Any:
            for tile in batch.items:
                self.begun.append(tile)
                self.before(tile, work.folder)
                yield tile

        self.engine.each(replace(batch, items=items()))


def find(root: Path, engine: Any = None, frozen: int = 0, way: Way = "auto") -> Pairs:
    together = np.arange(COUNT)[::-1]
    return search(root, frozen, way).find(rows, ORDER, together, engine or Local())


def as_set(pairs: Pairs) -> set[tuple[int, int, float]]:
    first, second = np.maximum(pairs.a, pairs.b), np.minimum(pairs.a, pairs.b)
    columns = zip(first.tolist(), second.tolist(), pairs.cosine.tolist(), strict=True)
    found = [*columns]
    assert len(found) == len({*found})
    return {*found}


def everything() -> set[tuple[int, int, float]]:
    i, j, cosines = all_pairs(VECTORS, THRESHOLD, "f32")
    return {*zip(i.tolist(), j.tolist(), cosines.tolist(), strict=True)}


@pytest.mark.parametrize(
    ("count", "frozen", "side"), [(1, 0, 4), (10, 0, 3), (10, 5, 3), (9, 9, 3)]
)
def test_every_pair_lies_in_one_tile(count: int, frozen: int, side: int) -> None:
    seen = []
    for row, column in tiles_of(count, frozen, side):
        for i in range(max(row, frozen), min(row + side, count)):
            seen += [(i, j) for j in range(column, min(column + side, i))]
    assert sorted(seen) == [(i, j) for i in range(frozen, count) for j in range(i)]


def test_sides_grow_with_the_count() -> None:
    assert side_for(0) == side_for(1) == side_for(8 * BLOCK) == BLOCK
    assert side_for(8 * BLOCK + 1) == 2 * BLOCK
    assert side_for(10**9) == 2**18
    assert len([*tiles_of(100_000, 0, side_for(100_000))]) == 28


@pytest.mark.parametrize("way", ["f32", "bf16", *(["int8"] if have_kernel() else [])])
def test_tiles_find_all_pairs_with_their_cosines(tmp_path: Path, way: Way) -> None:
    assert as_set(find(tmp_path, way=way)) == everything()
    assert require_proof(tmp_path / PROOF) == 6


@pytest.mark.parametrize("frozen", [1, BLOCK, 5000])
def test_frozen_ones_are_not_compared_with_each_other(tmp_path: Path, frozen: int) -> None:
    first = {*ORDER[:frozen].tolist()}
    wanted = {p for p in everything() if not {p[0], p[1]} <= first}
    assert as_set(find(tmp_path, frozen=frozen)) == wanted


@pytest.mark.parametrize("frozen", [0, 700])
def test_the_walk_over_pairs_is_the_walk_over_vectors(frozen: int) -> None:
    i, j, cosines = all_pairs(VECTORS[:3000], 0.8, "f32")
    pairs = Pairs(j, i, cosines)
    for seed in range(3):
        order = np.concatenate(
            [np.arange(frozen), frozen + np.random.default_rng(seed).permutation(3000 - frozen)]
        )
        wanted = greedy_best_first(rows, order, 0.8, 500, frozen)
        assert len(wanted) > 100
        assert walk(pairs, order, frozen) == wanted
        some = order[: 2000 + frozen]  # others do not count
        assert walk(pairs, some, frozen) == greedy_best_first(rows, some, 0.8, 500, frozen)
    near = {x for pair in zip(i, j, strict=True) if min(pair) >= frozen for x in pair}
    assert in_pairs(pairs, frozen) == {int(x) for x in near}


def test_equal_cosines_go_to_the_best() -> None:
    a, b = np.array([2, 2, 2]), np.array([1, 0, 3])
    pairs = Pairs(a, b, np.array([0.9, 0.9, 0.8]))
    assert walk(pairs, np.array([1, 0, 3, 2])) == {2: (1, 0.9)}
    assert walk(pairs, np.array([3, 2, 0, 1])) == {2: (3, 0.8)}
    assert walk(pairs, np.array([0, 1, 3])) == {}
    nothing = np.empty(0, dtype=np.int64)
    assert walk(Pairs(nothing, nothing, np.empty(0)), np.arange(4)) == {}


def test_worker_processes_find_the_same(tmp_path: Path) -> None:
    assert as_set(find(tmp_path, Local(2))) == everything()


def test_of_nothing(tmp_path: Path) -> None:
    nothing = np.empty(0, dtype=np.int64)
    assert len(search(tmp_path).find(rows, nothing, nothing, Local())) == 0
    assert require_proof(tmp_path / PROOF) == 0


class Killed(Exception):
    pass


def test_a_search_that_ended_goes_on_with_the_tiles_that_are_missing(tmp_path: Path) -> None:
    def stop(tile: Tile, folder: Path) -> None:
        if len([*folder.glob("*.npz")]) == 4:
            raise Killed

    with pytest.raises(Killed):
        find(tmp_path, Watched(before=stop))
    assert not (tmp_path / PROOF).exists()
    path = next(iter((tmp_path / FOLDER).glob("*/0-0.npz")))
    path.write_bytes(path.read_bytes()[:-100])  # half a file
    again = Watched()
    assert as_set(find(tmp_path, again)) == everything()
    assert len(again.begun) == 3
    assert (0, 0) in again.begun


def test_a_tile_that_is_lost_meanwhile_is_done_again(tmp_path: Path) -> None:
    def lose(tile: Tile, folder: Path) -> None:
        if len(watched.begun) == 3:
            tile_path(folder, Tile(0, 0)).unlink()

    watched = Watched(before=lose)
    assert as_set(find(tmp_path, watched)) == everything()
    assert watched.begun.count(Tile(0, 0)) == 2
    assert len(watched.begun) == 7


def test_the_walk_does_not_begin_before_all_tiles_are_there(tmp_path: Path) -> None:
    class Idle:
        spreads = False

        def each(self, batch: Batch[Any, Any]) -> None:
            """Say that all is done, and do nothing."""

    with pytest.raises(SfhqError, match="6 of 6 tiles that were done are not there"):
        find(tmp_path, Idle())
    assert not (tmp_path / PROOF).exists()


def test_pairs_that_are_not_what_the_worker_said_do_not_count(tmp_path: Path) -> None:
    class Liar:
        spreads = False

        def each(self, batch: Batch[Any, Any]) -> None:
            for tile in batch.items:
                done: Done = batch.work(tile)
                batch.taken(done._replace(pairs=done.pairs + 1))

    with pytest.raises(SfhqError, match="6 of 6 tiles"):
        find(tmp_path, Liar())


def test_other_vectors_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find(tmp_path)
    other = VECTORS.copy()
    other[17] = other[18]
    monkeypatch.setattr(sys.modules[__name__], "VECTORS", other)
    watched = Watched()
    assert as_set(find(tmp_path, watched)) == everything()
    assert len(watched.begun) == 6
    assert len([p for p in (tmp_path / FOLDER).iterdir() if p.is_dir()]) == 1


def test_vectors_that_change_under_the_workers(tmp_path: Path) -> None:
    def change(tile: Tile, folder: Path) -> None:
        if len(watched.begun) == 2:
            with open(folder.parent / "vectors.npy", "r+b") as file:
                file.seek(-4, os.SEEK_END)
                file.write(b"\0\0\0\0")

    watched = Watched(before=change)
    with pytest.raises(IntegrityError, match=r"vectors from 8192 on are not those that were"):
        find(tmp_path, watched)


def test_vectors_that_are_none(tmp_path: Path) -> None:
    broken = VECTORS[:10].copy()
    broken[3, 3] = np.nan
    with pytest.raises(IntegrityError, match="1 of 10 vectors are not finite"):
        pack(lambda i: broken[i], np.arange(10), np.arange(10), tmp_path / "v.npy")
    assert [*tmp_path.iterdir()] == []


def test_a_disk_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        pack(rows, np.arange(10), np.arange(10), tmp_path / "v.npy")
    assert caught.value.filename == str(tmp_path / "v.npy")
    assert [*tmp_path.iterdir()] == []


def test_too_many_pairs_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curation.pairs.tiles, "MOST_PAIRS", 100)
    with pytest.raises(SfhqError, match=r"too many for a search by tiles; run it with --search"):
        find(tmp_path)


def test_the_stage_writes_the_same_and_a_proof(tmp_path: Path) -> None:
    vectors = faces(400, 64, seed=1)
    published = embedded_part(tmp_path / "old", vectors[:100], shard_size=16)
    trees = []
    for where in ("whole", "tiles"):
        part = embedded_part(
            tmp_path / where / "part", vectors[100:], score=[*range(300)], shard_size=16
        )
        run_stage(Dedup(0.9, published=(published.root,), search=where), part)
        trees.append(tree(part.root))
    proof = trees[1].pop(PROOF)
    assert proof
    assert trees[0] == trees[1]  # and nothing else is left
    assert part.stage_info("dedup")["counts"]["rejected"]["near-duplicate"] > 10
    verify(part, 0.9, (published.root,))
    path = part.root / PROOF
    said = json.loads(path.read_bytes())
    assert (said["photos"], said["published"]) == (400, 100)
    path.write_text(json.dumps({**said, "tiles": said["tiles"][1:]}))
    with pytest.raises(IntegrityError, match="does not name every tile of the search"):
        verify(part, 0.9)
    run_stage(Dedup(0.9, published=(published.root,)), part, redo=True)
    assert not path.exists()  # it was the proof of another search


def test_a_search_that_is_none() -> None:
    with pytest.raises(UsageError, match="search is 'all'; wanted one of auto, whole, tiles"):
        Dedup(search="all")  # type: ignore[arg-type]


# On Ray. The fixture `nodes` is a cluster of two nodes.


@dataclass
class Slow:
    """Work that notes who does what, and takes its time."""

    work: Any
    log: str

    def __call__(self, tile: Tile) -> Done:
        note(self.log, f"{tile.row}-{tile.column}", "by", os.getpid())
        time.sleep(0.3)
        done: Done = self.work(tile)
        return done


@dataclass
class Slowed:
    """An engine whose work is slow."""

    engine: Any
    log: str
    spreads: ClassVar[bool] = True

    def each(self, batch: Batch[Any, Any]) -> None:
        self.engine.each(replace(batch, work=Slow(batch.work, self.log)))


def slow_search(root: Path, log: str) -> Pairs:
    from sfhq.pipeline.cluster import Ray

    return find(root, Slowed(Ray(2), log))


@pytest.mark.long
def test_two_nodes_do_the_tiles_of_a_stage(nodes: None, tmp_path: Path) -> None:
    from sfhq.pipeline.cluster import Ray

    vectors = faces(9000, 64, seed=2)
    trees = []
    for name, engine in (("ray", Ray(2)), ("local", None)):
        part: Part = embedded_part(
            tmp_path / name / "part", vectors, score=[*range(9000)], shard_size=1000
        )
        run_stage(Dedup(0.9), part, engine=engine)
        trees.append(tree(part.root))
    assert trees[0].pop(PROOF)
    assert trees[0] == trees[1]


def test_a_killed_worker_s_tile_is_done_again(nodes: None, tmp_path: Path) -> None:
    from test_ray import KILLER

    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", KILLER, str(log)]) as killer:
        pairs = slow_search(tmp_path / "part", str(log))
        assert killer.wait() == 0
    assert as_set(pairs) == everything()
    begun = [line.split()[0] for line in log.read_text().splitlines()]
    assert len(begun) == len({*begun}) + 1


@pytest.mark.long
def test_a_killed_search_on_ray_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    log = tmp_path / "log"
    code = (
        "import sys, pathlib, test_tiles\n"
        "test_tiles.slow_search(pathlib.Path(sys.argv[1]), sys.argv[2])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "part"), str(log)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": PATHS}) as driver:
        end = time.monotonic() + 90
        while not log.exists() or len(log.read_text().splitlines()) < 4:
            assert time.monotonic() < end
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
    workers = {int(line.split()[2]) for line in log.read_text().splitlines()}
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.02)
    kept = len([*(tmp_path / "part" / FOLDER).glob("*/*.npz")])
    assert 0 < kept < 6
    again = Watched()
    assert as_set(find(tmp_path / "part", again)) == everything()
    assert len(again.begun) == 6 - kept
