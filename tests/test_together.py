"""Stages that run in step, workers that stay, and shards of small parts."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from test_label_stages import aligned_part, attribute, landmark, noise, parse
from toy_stages import SHARD_SIZE, Invert, Sample, note, tree

from annotate.labels import landmarks, masks
from annotate.labels.last import Last
from annotate.network import reader as reading
from annotate.network.reader import LabelReader, Reading, load_labels
from sfhq.errors import IntegrityError, SfhqError
from sfhq.parts import photos
from sfhq.parts.part import Part
from sfhq.parts.records import ColumnType, FaceRecord, Json, Pixels
from sfhq.pipeline.engine import run_stage, run_together, usual_shard_size
from sfhq.pipeline.stage import Stage
from sfhq.pipeline.workers import Batch, Local, workers_kept


@dataclass(frozen=True)
class Say(Stage[Any]):
    """About: notes the face, fails at one of them if asked to."""

    name: ClassVar[str] = "parse"
    columns: ClassVar[Mapping[str, ColumnType]] = {"first": "text"}
    log: str = ""
    fails: str = ""

    def settings(self) -> dict[str, Json]:
        return {}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for record in records:
            if record.face_id == self.fails:
                raise RuntimeError("out of luck")
            note(self.log, self.name, record.face_id)
            yield record.with_columns(**{next(iter(self.columns)): record.face_id})


class SayMore(Say):
    """Another one."""

    name: ClassVar[str] = "landmark"
    columns: ClassVar[Mapping[str, ColumnType]] = {"second": "text"}


@pytest.fixture
def part(tmp_path: Path) -> Part:
    made = Part.create(tmp_path / "part", "toy")
    run_stage(Sample(9), made, shard_size=SHARD_SIZE)
    return made


def one_after_the_other(root: Path) -> Part:
    part = Part.create(root, "toy")
    run_stage(Sample(9), part, shard_size=SHARD_SIZE)
    run_stage(Say(), part)
    run_stage(SayMore(), part)
    return part


def test_stages_in_step_write_what_they_write_alone(tmp_path: Path, part: Part) -> None:
    log = tmp_path / "log"
    counts = run_together([Say(str(log)), SayMore(str(log))], part)
    assert [c.alive for c in counts] == [9, 9]
    assert tree(part.root) == tree(one_after_the_other(tmp_path / "other").root)
    lines = log.read_text().splitlines()
    assert lines[:4] == [f"{s} face-{i:03d}" for i in (0, 1) for s in ("parse", "landmark")]
    run_together([Say(str(log)), SayMore(str(log))], part)
    assert log.read_text().splitlines() == lines  # nothing was left to do


def test_stages_in_step_go_on_where_one_failed(tmp_path: Path, part: Part) -> None:
    with pytest.raises(RuntimeError, match="out of luck"):
        run_together([Say(), SayMore(fails="face-005")], part)
    assert part.shards("parse") == part.shards("landmark") == [0]
    log = tmp_path / "log"
    run_stage(Say(), part)  # one of them is ahead now
    run_together([Say(str(log)), SayMore(str(log))], part)
    wanted = [f"landmark face-{i:03d}" for i in range(4, 9)]
    assert log.read_text().splitlines() == wanted
    assert tree(part.root) == tree(one_after_the_other(tmp_path / "other").root)


def test_redo_in_step_begins_with_the_first(tmp_path: Path) -> None:
    part = one_after_the_other(tmp_path / "part")
    before, log = tree(part.root), tmp_path / "log"
    run_together([Say(str(log)), SayMore(str(log))], part, redo=True)
    assert log.read_text().splitlines() == [f"parse face-{i:03d}" for i in range(9)]
    assert tree(part.root) == before


def test_labels_in_step_read_a_photo_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, digest = load_labels()
    size = network.size
    photos = [noise(seed, 96, 96) for seed in range(3)]
    read: list[int] = []
    plain = LabelReader._one

    def counted(self: LabelReader, crop: Pixels) -> Reading:
        read.append(1)
        return plain(self, crop)

    monkeypatch.setattr(LabelReader, "_one", counted)
    monkeypatch.setattr(reading, "_LAST", {})
    rows = []
    for name, together in (("one", False), ("other", True)):
        reading._LAST.clear()
        read.clear()
        part = aligned_part(tmp_path / name, photos)
        stages = [
            type(s)(**{**vars(s), **_with(s, network, digest)})
            for s in (parse(size), landmark(size), attribute(size))
        ]
        if together:
            run_together(stages, part)
        else:
            for stage in stages:
                reading._LAST.clear()
                run_stage(stage, part)
        rows.append((len(read), tree(part.root)))
    (often, alone), (once, in_step) = rows
    assert (often, once) == (9, 3)
    assert alone == in_step


def test_labels_in_step_make_the_map_and_the_points_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    asked = ((masks, "read_map"), (landmarks, "crop_points"), (photos, "_decode"))
    for module, name in asked:
        plain = getattr(module, name)

        def counted(*given: Any, name: str = name, plain: Any = plain, **more: Any) -> Any:
            made.append(name)
            return plain(*given, **more)

        monkeypatch.setattr(module, name, counted)
    network, digest = load_labels()
    monkeypatch.setattr(reading, "_LAST", {})
    part, size = aligned_part(tmp_path / "part", [noise(i, 96, 96) for i in range(2)]), network.size
    run_together(
        [
            type(s)(**{**vars(s), **_with(s, network, digest)})
            for s in (parse(size), landmark(size), attribute(size))
        ],
        part,
    )
    assert sorted(made) == sorted([name for _, name in asked] * 2)


def test_a_photo_that_was_read_and_changed_is_refused(tmp_path: Path) -> None:
    part = aligned_part(tmp_path / "part", [noise(0, 32, 32)])
    record = next(iter(part.records("align")))
    assert np.array_equal(photos.read_photo(part, record), noise(0, 32, 32))
    path = part.image_path("aligned", record.face_id)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match="sha256 differs"):
        photos.read_photo(part, record)


def test_the_last_result_is_of_one_object_and_key() -> None:
    last: Last[int] = Last()
    one, other, made = object(), object(), []

    def make() -> int:
        made.append(1)
        return len(made)

    asked = [(one, 1), (one, 1), (one, 2), (other, 2), (one, 2)]
    assert [last.of(of, key, make) for of, key in asked] == [1, 1, 2, 3, 4]


def _with(stage: Any, network: LabelReader, digest: str) -> dict[str, Any]:
    from annotate.labels.classifier import Classes
    from sfhq.networks.names import ATTRIBUTES

    if hasattr(stage, "parser"):
        return {"parser": Classes(network, digest)}
    more = {"names": ATTRIBUTES} if hasattr(stage, "names") else {}
    return {"reader": network, "digest": digest, **more}


def test_a_reading_is_remembered_by_network_and_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LAST", {})
    first, _ = load_labels()
    other = LabelReader(first.network, digest="of another one")
    nameless = LabelReader(first.network)
    crops = [noise(seed, first.size, first.size) for seed in range(6)]
    wanted = [first.read(crop[None]) for crop in crops]
    assert len(reading._LAST) == reading.REMEMBERED
    again = first.read(np.stack(crops))
    found = nameless.read(np.stack(crops)).points  # by the network itself, which may change
    assert (again.points - found).abs().max() < 0.01
    assert all(a.parsing.equal(again.parsing[[i]]) for i, a in enumerate(wanted))
    other.read(crops[-1][None])
    assert {digest for digest, _ in reading._LAST} == {first.digest, "of another one"}


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(0, 8), (1, 8), (30, 8), (32, 8), (33, 9), (100, 25), (128, 32), (999, 32)],
)
def test_small_parts_have_small_shards(count: int, wanted: int) -> None:
    assert usual_shard_size(count) == wanted


def test_a_source_chooses_its_shards_once(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part", "toy")
    run_stage(Sample(40), part)
    assert part.stage_info("sample")["settings"]["shard_size"] == 10
    assert len(part.shards("sample")) == 4
    assert [r.seed for r in part.records("sample")] == [*range(40)]
    run_stage(Sample(40), part)  # takes what is there
    old = Part.create(tmp_path / "old", "toy")
    run_stage(Sample(40), old, shard_size=32)
    run_stage(Sample(40), old)
    assert len(old.shards("sample")) == 2


def _pid(item: int) -> tuple[int, int]:
    return item, os.getpid()


def _dies(item: int) -> int:
    os._exit(7)


def pids(root: Path, workers: int = 2) -> set[int]:
    found: list[tuple[int, int]] = []
    Local(workers).each(Batch(_pid, range(20), found.append, root, "test"))
    assert sorted(item for item, _ in found) == [*range(20)]
    return {pid for _, pid in found}


def test_workers_stay_for_the_next_batch(tmp_path: Path) -> None:
    with workers_kept():
        first = pids(tmp_path)
        assert first and os.getpid() not in first
        assert pids(tmp_path) & first
        with pytest.raises(SfhqError, match=r"a worker of test died.*fewer --workers"):
            Local(2).each(Batch(_dies, range(3), lambda said: None, tmp_path, "test"))
        assert not pids(tmp_path) & first  # and others come in the place of those that died
    assert not pids(tmp_path) & first
    assert not [t for t in threading.enumerate() if "Queue" in t.name]
    assert not [*tmp_path.iterdir()]  # what they were given is gone


def test_a_run_keeps_its_workers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    part = Part.create(tmp_path / "part", "toy")
    with workers_kept():
        for stage in (Sample(12, str(log)), Invert(log=str(log))):
            run_stage(stage, part, workers=2, shard_size=SHARD_SIZE)
    found: dict[str, set[str]] = {"sample": set(), "invert": set()}
    for line in log.read_text().splitlines():
        name, _, pid = line.split()
        found[name].add(pid)
    assert found["sample"] & found["invert"]
    assert str(os.getpid()) not in found["sample"]
