"""What can go wrong with an export: one line that says it, and nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from exporting import COUNT, export, rich_part
from PIL import Image
from tiny import tree

import cli
from sfhq.errors import IntegrityError, UsageError
from sfhq.export.formats.table import NAMES
from sfhq.parts.part import Part

QUICK = ("webdataset", "parquet", "imagefolder", "csv")  # the others only with the long tests
FORMS = [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in NAMES]
PHOTO_FORMATS = FORMS[:-2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("damage") / "part"
    rich_part(root)
    return root


@pytest.fixture
def part(made: Path, tmp_path: Path) -> Part:
    """A copy that a test may damage."""
    shutil.copytree(made, tmp_path / "part")
    return Part.open(tmp_path / "part")


def sfhq(*words: object) -> Result:
    return CliRunner().invoke(cli.main, [str(w) for w in words])


def one_line(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("sfhq: ")
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("form", PHOTO_FORMATS)
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_photo_that_is_not_what_it_was(
    part: Part, tmp_path: Path, form: str, damage: str
) -> None:
    """The export stops and names the file; mended, it goes on and ends like any other."""
    path = part.root / "images" / f"f{COUNT // 2:04d}.png"
    saved = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        Image.new("RGB", (64, 64)).save(path)
    with pytest.raises(IntegrityError, match=path.name):
        export(form, part, tmp_path / "out")
    assert not (tmp_path / "out").exists()  # no piece was finished
    path.write_bytes(saved)
    export(form, part, tmp_path / "out")
    export(form, part, tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_an_old_export_stays_when_a_new_one_fails(part: Part, tmp_path: Path) -> None:
    export("webdataset", part, tmp_path / "out")
    before = tree(tmp_path / "out")
    (part.root / "images" / "f0003.png").unlink()
    with pytest.raises(IntegrityError):
        export("parquet", part, tmp_path / "out", replace=True)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_a_finished_export_that_changed_is_mended(
    part: Part, tmp_path: Path, form: str
) -> None:
    export(form, part, tmp_path / "out")
    before = tree(tmp_path / "out")
    names = sorted(n for n in before if n not in ("SHA256SUMS", "export.json"))
    for name in (names[0], names[-1]):
        (tmp_path / "out" / name).write_bytes(b"other")
    (tmp_path / "out" / names[len(names) // 2]).unlink(missing_ok=True)
    export(form, part, tmp_path / "out")
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("form", ["webdataset", "imagefolder"])
def test_half_an_export_that_lost_a_file_goes_on(
    part: Part, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sfhq.export.formats import folder

    monkeypatch.setattr(folder, "TOGETHER", 4)
    export(form, part, tmp_path / "whole", shard=40_000)
    saved = (part.root / "images" / f"f{COUNT - 2:04d}.png").read_bytes()
    (part.root / "images" / f"f{COUNT - 2:04d}.png").unlink()
    with pytest.raises(IntegrityError):
        export(form, part, tmp_path / "out", shard=40_000)
    lines = (tmp_path / "out" / "export.pieces").read_text().splitlines()
    assert len(lines) > 1
    kept = sorted(p for p in (tmp_path / "out").rglob("*") if p.suffix in (".tar", ".png"))
    kept[0].unlink()
    (part.root / "images" / f"f{COUNT - 2:04d}.png").write_bytes(saved)
    export(form, part, tmp_path / "out", shard=40_000)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize("form", FORMS)
def test_an_export_takes_the_place_of_another(part: Part, tmp_path: Path, form: str) -> None:
    """Nothing of the old one is left, and what others put there stays."""
    other = "webdataset" if form != "webdataset" else "imagefolder"
    export(other, part, tmp_path / "out", samples=(2,))
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "train").mkdir(exist_ok=True)
    (tmp_path / "out" / "train" / "mine.txt").write_text("mine, too")
    with pytest.raises(UsageError, match="holds an export of other settings"):
        export(form, part, tmp_path / "out")
    export(form, part, tmp_path / "out", replace=True)
    export(form, part, tmp_path / "whole")
    found = tree(tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert found.pop("notes.txt") and found.pop("train/mine.txt")
    assert found == tree(tmp_path / "whole")
    assert not list(tmp_path.glob("out.*"))
    empty = [p for p in (tmp_path / "out").rglob("*") if p.is_dir() and not any(p.iterdir())]
    assert empty == []


def test_a_folder_of_somebody_else_is_refused(part: Part, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years")
    result = sfhq("export", part.root, tmp_path / "out", "--format", "parquet")
    one_line(result, 2, "not empty and not an export", "give a new folder")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years"


@pytest.mark.parametrize("form", ["parquet", "webdataset", "imagefolder", "csv"])
def test_a_file_that_may_not_grow_is_a_full_disk(part: Part, tmp_path: Path, form: str) -> None:
    """RLIMIT_FSIZE stops a file in its middle, as a full disk does."""
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
        with pytest.raises(OSError) as error:
            export(form, part, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert str(tmp_path / "out") in str(error.value.filename)
    assert not list((tmp_path / "out").rglob("*.part"))
    export(form, part, tmp_path / "out")
    export(form, part, tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("form", ["parquet", "webdataset", "imagefolder"])
def test_a_full_disk_is_one_line(part: Part, small_disk: Path, form: str, tmp_path: Path) -> None:
    """And it is another file system than the part's."""
    result = sfhq("export", part.root, small_disk / "out", "--format", form, "--name", "T")
    one_line(result, 1, "no space left on device", "free some room and run again")
    assert not list(small_disk.rglob("*.part"))
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert (
        sfhq("export", part.root, small_disk / "out", "--format", form, "--name", "T").exit_code
        == 0
    )
    assert (
        sfhq("export", part.root, tmp_path / "whole", "--format", form, "--name", "T").exit_code
        == 0
    )
    assert tree(small_disk / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "parquet", "--splits", "1,2,3"), "wanted three shares"),
        (("--format", "parquet", "--name", "a/b"), "wanted letters"),
        (("--format", "croissant", "--date", "today"), "wanted YYYY-MM-DD"),
        (("--format", "csv", "--size", "64"), "labels and no photos"),
        (("--format", "kaggle"), "--id is missing"),
        (("--size", "256"), "--size: the format sfhq has none"),
        (("--format", "paquet"), "is not one of"),
        (("--format", "webdataset", "--size", "4"), "range"),
        (("--format", "parquet", "--also", "nowhere"), "nowhere: not a part"),
    ],
)
def test_what_the_command_refuses(
    part: Part, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    result = sfhq("export", part.root, tmp_path / "out", *words)
    one_line(result, 2, said)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_wrote(part: Part, tmp_path: Path) -> None:
    result = sfhq("export", part.root, tmp_path / "out", "--format", "jsonl", "--splits", "1,0,0")
    assert result.exit_code == 0
    assert result.stdout == f"export     {COUNT:>7} photos in {tmp_path / 'out'}   train {COUNT}\n"


def test_one_source_for_all_is_told(tmp_path: Path) -> None:
    from tiny import finish, tiny_pixels

    from sfhq.parts.records import FaceRecord

    part = Part.create(tmp_path / "part")
    faces = [FaceRecord(f"f{i}", parent_id="one") for i in range(4)]
    images = [f.with_image("images", p) for f, p in zip(faces, tiny_pixels(4), strict=True)]
    finish(part, "synthesize", [images])
    result = sfhq("export", part.root, tmp_path / "out", "--format", "csv")
    assert result.exit_code == 0 and "100% of the photos come from one source" in result.stdout


def test_licences_that_differ_are_named(part: Part, tmp_path: Path) -> None:
    from sfhq.export.job import About

    other = rich_part(tmp_path / "other", 4, seed=3)
    for path in other.root.glob("records/synthesize/*.parquet"):
        _with_licence(path, "CC-BY-NC-4.0")
    how: dict[str, Any] = {"about": About(id="me/two-sets", title="Two sets")}
    with pytest.raises(UsageError, match=r"2 licences \(CC-BY-NC-4.0, CC0-1.0\)"):
        export("croissant", [part, other], tmp_path / "out", **how)
    export("parquet", [part, other], tmp_path / "out", **how)
    text = (tmp_path / "out" / "README.md").read_text()
    assert 'license: "other"' in text and "CC-BY-NC-4.0, CC0-1.0" in text


def _with_licence(path: Path, licence: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    place = table.schema.get_field_index("licence")
    column = pa.array([licence] * len(table), pa.string())
    pq.write_table(table.set_column(place, "licence", column), path)


def test_what_a_stopped_export_left_goes_with_it(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of a piece that was never finished are in no list; they are no one else's either."""
    from sfhq.export.formats import folder

    monkeypatch.setattr(folder, "TOGETHER", 4)
    (part.root / "images" / "f0009.png").rename(tmp_path / "saved.png")
    with pytest.raises(IntegrityError):
        export("imagefolder", part, tmp_path / "out")
    assert list((tmp_path / "out").rglob("T_*.png"))
    (tmp_path / "saved.png").rename(part.root / "images" / "f0009.png")
    export("webdataset", part, tmp_path / "out")
    export("webdataset", part, tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
