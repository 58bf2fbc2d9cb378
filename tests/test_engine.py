"""Records, parts and the engine, on stages of a few lines."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_info
from toy_stages import CANDIDATES, SHARD_SIZE, Dedup, Invert, Sample, run_all, tree

from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.lock import folder_lock
from sfhq.parts.lineage import drop
from sfhq.parts.part import FORMAT, Part
from sfhq.parts.records import COLUMNS, FaceRecord, Json, canonical_json, from_columns, to_columns
from sfhq.pipeline.counts import funnel
from sfhq.pipeline.engine import run_stage
from sfhq.pipeline.stage import Kind, SourceStage, Stage

ROOT = Path(__file__).parent.parent
FACES = Sample().count
SHARDS = -(-FACES // SHARD_SIZE)
REFUSED = len(range(0, FACES, 5))

FULL = FaceRecord(
    face_id="a-1",
    parent_id="a",
    source="mäppchen/絵 🎨.png",
    source_sha256="ff" * 32,
    licence="CC0-1.0",
    provenance='says "me", \\ and\nmore',
    width=640,
    height=480,
    quad=(0.5, 1.0, -2.25, 3.0, 4.0, 5.0, 6.0, 1e-9),
    candidate="strict",
    seed=2**40,
    psi=0.7,
    params={"b": [1, 2.5, None], "a": {"ü": True}},
    prior_distance=-0.1,
    rejected_by="invert",
    reason="no face",
    detail="0 faces; wanted 1",
    rows={"w_plus": 3},
    hashes={"images": "00"},
)
BARE = FaceRecord("b")


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return Part.create(tmp_path / "part")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Part:
    """A part that ran without interruption; read it, never write to it."""
    return run_all(tmp_path_factory.mktemp("finished") / "part")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def calls(log: Path) -> list[str]:
    """Which shards were done, as "stage shard"."""
    if not log.exists():
        return []
    return [line.rsplit(" ", 1)[0] for line in log.read_text().splitlines()]


# records


def test_records_survive_parquet(part: Part) -> None:
    part.write_shard("sample", 7, [FULL, BARE])
    read = part.read_shard("sample", 7)
    assert read == [FULL, BARE]
    assert [r.shard for r in read] == [7, 7]
    assert isinstance(read[0].quad, tuple)
    for name in ("seed", "psi", "prior_distance"):
        assert getattr(read[1], name) is None


def test_every_field_of_the_full_record_is_set() -> None:
    assert [name for name in COLUMNS if getattr(FULL, name) == getattr(BARE, name)] == []


def test_an_empty_shard_survives_parquet(part: Part) -> None:
    part.write_shard("sample", 0, [])
    assert part.read_shard("sample", 0) == []


def test_columns_are_inverse() -> None:
    assert from_columns(to_columns([FULL, BARE]), 0) == [FULL, BARE]


def test_canonical_json_does_not_depend_on_order() -> None:
    assert canonical_json({"b": 1, "a": "ü"}) == canonical_json({"a": "ü", "b": 1})
    assert canonical_json({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'


def test_equal_records_give_equal_files(part: Part) -> None:
    part.write_shard("sample", 0, [FULL])
    part.write_shard("sample", 1, [replace(FULL, params=dict(reversed(list(FULL.params.items()))))])
    assert part.shard_path("sample", 0).read_bytes() == part.shard_path("sample", 1).read_bytes()


def test_a_rejected_record_carries_nothing_to_write() -> None:
    record = BARE.with_array("w", np.zeros(3)).with_image("images", np.zeros((2, 2, 3), np.uint8))
    assert record.alive
    refused = record.reject("invert", "no face", "0 faces")
    assert not refused.alive
    assert (refused.rejected_by, refused.reason, refused.detail) == ("invert", "no face", "0 faces")
    assert not refused.arrays
    assert not refused.images


def test_a_folder_named_like_a_column_does_not_leak_into_records(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "seed=7")
    part.write_shard("sample", 0, [FULL])
    assert part.read_shard("sample", 0) == [FULL]


# parts


def test_create_then_open(tmp_path: Path) -> None:
    made = Part.create(tmp_path / "a" / "part-05")
    assert made == Part.open(tmp_path / "a" / "part-05") == Part.create(made.root)
    assert made.name == "part-05"
    assert Part.create(tmp_path / "b", "given").name == "given"
    assert made.stages() == []


def test_create_again_after_a_kill_during_create(tmp_path: Path) -> None:
    (tmp_path / "part.json.part").write_text('{"for')
    assert Part.create(tmp_path).stages() == []


def test_create_refuses_a_folder_with_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="not empty and not a part; give a new folder"):
        Part.create(tmp_path)


def test_create_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot make a part here"):
        Part.create(tmp_path / "file")


def test_open_refuses_what_is_not_a_part(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a part \(no part.json\); make one with: sfhq"):
        Part.open(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", '{"format"', b"\xff\xfe"])
def test_open_names_a_damaged_description(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "part.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(IntegrityError, match=r"part\.json: damaged"):
        Part.open(tmp_path)


def test_open_refuses_another_format(tmp_path: Path) -> None:
    (tmp_path / "part.json").write_text(json.dumps({"format": FORMAT + 1, "name": "x"}))
    with pytest.raises(IntegrityError, match=f"part of format {FORMAT + 1}, this sfhq reads"):
        Part.open(tmp_path)


def test_damaged_stage_json_is_named(part: Part) -> None:
    run_stage(Sample(), part)
    (part.root / "records/sample.json").write_text("{")
    says = r"sample\.json: damaged; delete it and run: sfhq sample"
    with pytest.raises(IntegrityError, match=says):
        run_stage(Invert(), part)
    (part.root / "records/sample.json").unlink()  # as it says
    run_stage(Sample(), part)
    run_stage(Invert(), part)


def test_missing_arrays_are_named(finished: Part) -> None:
    with pytest.raises(IntegrityError, match="face b has no w_plus"):
        finished.row("w_plus", BARE)
    with pytest.raises(IntegrityError, match=r"00099\.npy: cannot read array"):
        finished.array("w_plus", 99)


# a run


def test_counts_and_funnel(tmp_path: Path, finished: Part) -> None:
    part = Part.create(tmp_path / "part")
    shards: list[int] = []
    first = run_stage(Sample(), part, shard_size=SHARD_SIZE, on_shard=shards.append)
    assert (first.entered, first.alive, first.rejected) == (FACES, FACES, {})
    assert len(shards) == SHARDS
    assert sum(shards) == FACES
    second = run_stage(Invert(), part)
    kept = FACES - REFUSED
    assert (second.entered, second.alive) == (FACES, CANDIDATES * kept)
    assert second.rejected == {"no face": REFUSED}
    third = run_stage(Dedup(), part)
    assert (third.entered, third.alive) == (CANDIDATES * kept, kept)
    assert third.rejected == {"near-duplicate": kept}
    assert funnel(part) == [
        {"stage": name, "complete": True, "outdated": [], **counts.to_dict()}
        for name, counts in (("sample", first), ("invert", second), ("dedup", third))
    ]
    assert part.stage_info("invert")["settings"] == {"strength": 0.5}
    assert part.stage_info("sample")["settings"]["shard_size"] == SHARD_SIZE


def test_arrays_and_images_are_found_again(finished: Part) -> None:
    alive = list(finished.faces())
    assert [r.about["number"] for r in alive] == list(range(1, len(alive) + 1))
    for record in finished.records("invert"):
        if not record.alive:
            assert "w_plus" not in record.rows
            continue
        random = np.random.default_rng(record.seed)
        for _ in range(int(record.candidate) + 1):
            values = random.standard_normal(3).astype(np.float32)
            pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        assert np.array_equal(finished.row("w_plus", record), values)
        data = finished.image_path("images", record.face_id).read_bytes()
        assert record.hashes == {"images": hashlib.sha256(data).hexdigest()}
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_only_what_the_generator_made_is_marked(finished: Part) -> None:
    [made, *_] = (finished.root / "images").iterdir()
    [crop, *_] = (finished.root / "aligned").iterdir()
    assert b"trainedAlgorithmicMedia" in made.read_bytes()
    assert b"DigitalSourceType" not in crop.read_bytes()


def test_a_shard_without_a_living_face_ends_empty(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    run_stage(Sample(count=6), part, shard_size=1)  # seeds 0 and 5 are refused by invert
    run_stage(Invert(), part)
    counts = run_stage(Dedup(), part)
    assert part.shards("dedup") == list(range(6))
    assert part.read_about("dedup", 0) == part.read_about("dedup", 5) == []
    assert counts.alive == 4


def test_an_empty_source(part: Part) -> None:
    run_stage(Sample(count=0), part)
    assert run_stage(Invert(), part).to_dict() == {"entered": 0, "alive": 0, "rejected": {}}
    assert run_stage(Dedup(), part).alive == 0


def test_stages_are_told_from_sources() -> None:
    assert isinstance(Sample(), SourceStage)
    assert not isinstance(Invert(), SourceStage)


def test_a_stage_needs_what_it_reads(part: Part) -> None:
    with pytest.raises(UsageError, match="no records for invert to read; run: sfhq ingest"):
        run_stage(Invert(), part)


def test_a_stage_needs_all_of_what_it_reads(part: Part) -> None:
    run_stage(Sample(), part, shard_size=SHARD_SIZE)
    part.shard_path("sample", 1).unlink()  # as an IntegrityError tells the user to
    with pytest.raises(IntegrityError, match=r"5 of 6 shards in records/sample; run: sfhq sample"):
        run_stage(Invert(), part)
    run_stage(Sample(), part, shard_size=SHARD_SIZE)
    assert run_stage(Invert(), part).entered == FACES


@dataclass(frozen=True)
class Broken(Invert):
    """Faces: fails at one seed."""

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for record in super().__call__(records, part):
            if record.seed == 9:
                raise RuntimeError("out of luck")
            yield record


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_run_goes_on_where_it_failed(
    tmp_path: Path, log: Path, finished: Part, workers: int
) -> None:
    part = Part.create(tmp_path / "part", "toy")
    run_stage(Sample(), part, shard_size=SHARD_SIZE)
    with pytest.raises(RuntimeError, match="out of luck"):
        run_stage(Broken(), part, workers=workers)
    done = part.shards("invert")
    assert 9 // SHARD_SIZE not in done
    assert not part.stage_info("invert")["complete"]
    with pytest.raises(UsageError, match="invert has not ended; run: sfhq invert"):
        run_stage(Dedup(), part)
    run_stage(Invert(log=str(log)), part)
    assert calls(log) == [f"invert {i}" for i in range(SHARDS) if i not in done]
    run_stage(Dedup(), part)
    assert tree(part.root) == tree(finished.root)


# resume


def test_a_second_run_does_nothing(tmp_path: Path, log: Path, finished: Part) -> None:
    part = run_all(tmp_path / "part", str(log))
    before = {p: p.stat().st_mtime_ns for p in part.root.rglob("*.parquet")}
    log.unlink()
    run_all(tmp_path / "part", str(log))
    assert calls(log) == []
    assert {p: p.stat().st_mtime_ns for p in part.root.rglob("*.parquet")} == before
    assert tree(part.root) == tree(finished.root)


@pytest.mark.parametrize("stage", ["sample", "invert", "dedup"])
def test_a_deleted_shard_alone_is_redone(
    tmp_path: Path, log: Path, finished: Part, stage: str
) -> None:
    part = run_all(tmp_path / "part", str(log))
    log.unlink()
    part.shard_path(stage, 2).unlink()
    kept = {p: p.stat().st_mtime_ns for p in part.root.rglob("*.parquet")}
    run_all(tmp_path / "part", str(log))
    assert calls(log) == [f"{stage} {'all' if stage == 'dedup' else 2}"]
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert tree(part.root) == tree(finished.root)


def test_half_written_files_are_swept(tmp_path: Path, finished: Part) -> None:
    part = run_all(tmp_path / "part")
    for stray in ("images/x.png.part", "arrays/w_plus/00000.npy.part",
                  "records/invert/00000.parquet.part", "part.json.part"):  # fmt: skip
        (part.root / stray).write_bytes(b"half")
    run_all(tmp_path / "part")
    assert tree(part.root) == tree(finished.root)


def test_two_workers_give_the_same_bytes(tmp_path: Path, log: Path, finished: Part) -> None:
    part = run_all(tmp_path / "part", str(log), workers=2)
    assert tree(part.root) == tree(finished.root)
    pids = {int(line.split()[-1]) for line in log.read_text().splitlines() if "dedup" not in line}
    assert os.getpid() not in pids
    wanted = [f"{stage} {i}" for stage in ("invert", "sample") for i in range(SHARDS)]
    assert sorted(calls(log)) == ["dedup all", *wanted]


@dataclass(frozen=True)
class Threads(Stage[Any]):
    """Faces: how many threads linear algebra takes where it runs."""

    name: ClassVar[str] = "invert"
    kind: ClassVar[Kind] = "faces"

    def settings(self) -> dict[str, Json]:
        return {}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for record in records:
            libraries = threadpool_info()
            most = max(lib["num_threads"] for lib in libraries if lib["user_api"] == "blas")
            yield replace(record, params={"threads": most})


def test_workers_share_the_cores(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part", "toy")
    run_stage(Sample(), part, shard_size=SHARD_SIZE)
    run_stage(Threads(), part, workers=os.cpu_count() or 1)
    assert {r.params["threads"] for r in part.records("invert") if r.alive} == {1}


def test_toy_stages_travel_to_workers() -> None:
    assert pickle.loads(pickle.dumps(Invert(0.25))) == Invert(0.25)


# settings and redo


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    part = run_all(tmp_path / "part")
    with pytest.raises(UsageError, match=r"invert was run with strength=0\.5, now strength=0\.9"):
        run_stage(Invert(0.9), part)
    with pytest.raises(UsageError, match="sample was run with count=22, now count=23"):
        run_stage(Sample(23), part, shard_size=SHARD_SIZE)
    with pytest.raises(UsageError, match="sample was run with shard_size=4, now shard_size=5"):
        run_stage(Sample(), part, shard_size=5)
    assert part.stages() == ["sample", "invert", "dedup"]


def test_redo_drops_what_came_after(tmp_path: Path) -> None:
    part = run_all(tmp_path / "part")
    run_stage(Invert(0.9), part, redo=True)
    assert part.stages() == ["sample", "invert"]
    assert not (part.root / "records/dedup").exists()
    assert {r.psi for r in part.records("invert") if r.alive} == {0.9}
    assert run_stage(Dedup(), part).alive == FACES - REFUSED


def test_redo_without_its_source_drops_nothing(tmp_path: Path) -> None:
    part = run_all(tmp_path / "part")
    part.shard_path("sample", 0).unlink()
    with pytest.raises(IntegrityError, match="5 of 6 shards in records/sample"):
        run_stage(Invert(0.9), part, redo=True)
    assert part.stages() == ["sample", "invert", "dedup"]


def test_shards_of_a_redo_that_was_killed_are_not_taken_over(tmp_path: Path) -> None:
    """`drop` removes the description first; what is left belongs to the old settings."""
    part = run_all(tmp_path / "part")
    drop(part, "dedup")
    (part.root / "records/invert.json").unlink()
    run_stage(Invert(0.9), part)
    assert {r.psi for r in part.records("invert") if r.alive} == {0.9}


# damage and locks


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40:120] = b"\x55" * 80
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, scribble, empty])
def test_damaged_records_are_named_and_mended(
    tmp_path: Path, finished: Part, damage: Callable[[Path], None]
) -> None:
    part = run_all(tmp_path / "part")
    path = part.shard_path("invert", 1)
    damage(path)
    drop(part, "dedup")
    with pytest.raises(IntegrityError, match=r"00001\.parquet: damaged records .* sfhq invert"):
        run_stage(Dedup(), part)
    path.unlink()
    run_all(tmp_path / "part")
    assert tree(part.root) == tree(finished.root)


def test_no_changed_byte_goes_unnoticed(part: Part) -> None:
    """Pages carry checksums, so a disk that lies cannot change a record."""
    part.write_shard("sample", 0, [FULL, BARE])
    path = part.shard_path("sample", 0)
    good = path.read_bytes()
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    noticed = 0
    for place in range(4, footer, 37):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        try:
            assert part.read_shard("sample", 0) == [FULL, BARE]
        except IntegrityError:
            noticed += 1
    assert noticed


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


def test_a_second_process_is_refused(part: Part) -> None:
    code = (
        "import sys, pathlib, toy_stages\n"
        "from sfhq.errors import SfhqError\n"
        "try: toy_stages.run_all(pathlib.Path(sys.argv[1]))\n"
        "except SfhqError as error: print(error); sys.exit(7)\n"
    )
    command = [sys.executable, "-c", code, str(part.root)]
    with folder_lock(part.root):
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 7, done.stderr
    assert "another sfhq run is writing here; wait for it or stop it" in done.stdout
    assert part.stages() == []
    run_all(part.root)  # the lock is gone with its holder


def test_the_lock_is_given_back_after_an_error(part: Part) -> None:
    with pytest.raises(UsageError):
        run_stage(Invert(), part)
    with folder_lock(part.root):
        pass


def test_a_part_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(SfhqError, match="cannot write here"), folder_lock(tmp_path / "gone"):
        pass


@dataclass(frozen=True)
class Shuffled(Dedup):
    """Part: breaks the promise to keep the order."""

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        yield from reversed(list(records))


def test_a_part_stage_that_changes_the_order_is_told(tmp_path: Path) -> None:
    part = run_all(tmp_path / "part")
    drop(part, "dedup")
    with pytest.raises(ValueError, match="must yield each face that it got once, in the"):
        run_stage(Shuffled(), part)
