"""A part on a medium that cannot be written: what reads it works, what writes it says so."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from curating import faces_to_judge, liked
from tiny import finish, finish_about, tiny_pixels

import cli
from curation.labels.events import Action, LabelEvent
from curation.labels.store import FILE, LabelStore
from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that this process cannot write: by a read-only mount for root, else by its mode."""
    if os.geteuid() == 0:
        place = str(folder)
        for options in (["--bind", place, place], ["-o", "remount,ro,bind", place]):
            done = subprocess.run(["mount", *options], capture_output=True, check=False)
            if done.returncode:
                subprocess.run(["umount", folder], capture_output=True, check=False)
                pytest.skip("root, who may write everywhere, cannot mount anything here")
        try:
            yield
        finally:
            subprocess.run(["umount", folder], check=True)
        return
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in (folder, *folder.rglob("*"))}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli.main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def part(tmp_path: Path) -> Part:
    """A part with 60 labels."""
    part = faces_to_judge(tmp_path / "part", 60)
    with LabelStore(part.root / FILE) as store:
        store.append([label(f, kept) for f, kept in liked(part).items()])
    return part


def label(face: str, kept: bool = True) -> LabelEvent:
    return LabelEvent(face, "", Action.KEEP if kept else Action.REJECT, "ann", "s", face, 1.0)


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_what_reads_a_part_works(part: Part, tmp_path: Path) -> None:
    before = contents(part.root)
    with read_only(part.root):
        with pytest.raises(OSError):  # or this test shows nothing
            (part.root / "new").touch()
        run("show", part.root)
        run("table", part.root, "--out", tmp_path / "table.parquet")
        assert "60 rows" in run("labels", "export", part.root, tmp_path / "out.csv")
        assert "AUC" in run("taste", "fit", part.root, "--out", tmp_path / "taste.safetensors")
        assert json.loads(run("taste", "evaluate", part.root, "--json"))["auc"][0] > 0.7
    assert contents(part.root) == before


def test_sheets_are_drawn_elsewhere(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    faces = [FaceRecord(f"s{i}").with_image("images", p) for i, p in enumerate(tiny_pixels(3))]
    finish(part, "sample", [faces])
    with read_only(part.root):
        run("sheet", part.root, "--out", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_an_export_goes_elsewhere(part: Part, tmp_path: Path) -> None:
    unknown = np.full((68, 2), np.nan, np.float32)
    faces = [part.read_shard("synthesize", shard) for shard in part.shards("synthesize")]
    said = [[FaceRecord(r.face_id).with_array("landmarks_68", unknown) for r in s] for s in faces]
    finish_about(part, "detect", said)
    kept = sum(liked(part).values())
    with read_only(part.root):
        assert f"{kept} photos in" in run("export", part.root, tmp_path / "out")
    assert len(list((tmp_path / "out" / "images").iterdir())) == kept


def test_what_writes_a_part_says_that_it_cannot(part: Part) -> None:
    with read_only(part.root):
        said = run("curate", part.root, code=1)
        assert said.startswith("sfhq: ") and said.count("\n") == 1
        with pytest.raises(UsageError, match="cannot be opened for writing"):
            LabelStore(part.root / FILE)


def test_labels_in_a_log_that_was_not_closed_are_read(tmp_path: Path) -> None:
    """What a killed server left on a medium that is read-only now."""
    part, copy = tmp_path / "part", tmp_path / "copy"
    part.mkdir()
    with LabelStore(part / FILE) as store:
        store.append([label(f"f{i}") for i in range(20)])
        shutil.copytree(part, copy, ignore=shutil.ignore_patterns("*-shm"))
    assert (copy / f"{FILE}-wal").stat().st_size > 0
    with read_only(copy), LabelStore(copy / FILE, readonly=True) as store:
        assert len(store.labels()) == 20
        with pytest.raises(UsageError, match="cannot be opened for writing"):
            store.append([label("g")])
