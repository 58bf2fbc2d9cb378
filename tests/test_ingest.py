from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny import tree

import cli
from sfhq.errors import UsageError
from sfhq.formats import readable
from sfhq.images import BadImage
from sfhq.ingest import Ingest, passed_over_line
from sfhq.parts import archive as archive_module
from sfhq.parts import lineage
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.parts.source import Source, open_source, source_of
from sfhq.parts.walk import file_name, record_name
from sfhq.pipeline.engine import run_stage


def picture(seed: int, file_format: str = "PNG", width: int = 12) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()


FILES = {
    "b.png": picture(0),
    "a.JPG": picture(1, "JPEG"),
    "sub/c.webp": picture(2, "WEBP"),
    "sub/copy.png": picture(0),
    "text.jpg": b"not an image at all",
    "cut.jpeg": picture(3, "JPEG")[:300],
    "notes.txt": b"ignored",
    ".hidden.png": picture(4),
    ".thumbs/d.png": picture(5),
}
NAMES = ["a.JPG", "b.png", "cut.jpeg", "sub/c.webp", "sub/copy.png", "text.jpg"]


def zip_of(path: Path, count: int) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for number in range(count):
            file.writestr(f"{number:03d}.png", picture(number))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.mkdir("sub")
        for name, data in FILES.items():
            file.writestr(name, data)
    return path


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return Part.create(tmp_path / "part")


def ingest(part: Part, source: Path, only: str | None = None) -> dict[str, FaceRecord]:
    stage = Ingest(str(source), only, licence="CC0-1.0", provenance="made by a test")
    run_stage(stage, part, shard_size=4)
    return {r.source: r for r in part.records("ingest")}


class TestRecords:
    def test_folder(self, part: Part, folder: Path) -> None:
        records = ingest(part, folder)
        assert list(records) == NAMES
        good = records["sub/c.webp"]
        assert (good.width, good.height, good.alive) == (12, 8, True)
        assert good.source_sha256 == hashlib.sha256(FILES["sub/c.webp"]).hexdigest()
        assert (good.licence, good.provenance) == ("CC0-1.0", "made by a test")
        assert {n: r.reason for n, r in records.items() if not r.alive} == {
            "cut.jpeg": "damaged image",
            "sub/copy.png": "exact duplicate",
            "text.jpg": "not an image",
        }
        assert all(n in r.detail for n, r in records.items() if not r.alive)
        assert "b.png" in records["sub/copy.png"].detail

    def test_zip_and_list_give_what_the_folder_gives(
        self, tmp_path: Path, folder: Path, archive: Path
    ) -> None:
        paths = tmp_path / "paths.txt"
        paths.write_text("\ufeff" + "\r\n".join(f"photos/{n}" for n in reversed(NAMES)) + "\n\n")
        expected = ingest(Part.create(tmp_path / "1"), folder)
        zipped = ingest(Part.create(tmp_path / "2"), archive)
        listed = ingest(Part.create(tmp_path / "3"), paths)
        assert zipped == expected
        assert list(listed) == [f"photos/{n}" for n in NAMES]
        assert [r.reason for r in listed.values()] == [r.reason for r in expected.values()]

    def test_face_id_is_stable_and_unique(self, part: Part, folder: Path) -> None:
        records = ingest(part, folder)
        digest = hashlib.sha256(FILES["b.png"]).hexdigest()
        expected = hashlib.sha256((digest + "b.png").encode()).hexdigest()[:16]
        assert records["b.png"].face_id == expected
        assert len({r.face_id for r in records.values()}) == len(NAMES)

    def test_listed_twice_is_taken_once(self, part: Part, folder: Path) -> None:
        (folder / "list.txt").write_text("b.png\nb.png\n")
        assert list(ingest(part, folder / "list.txt")) == ["b.png"]

    def test_only_and_limit(self, part: Part, folder: Path) -> None:
        assert Ingest(str(folder), only="c*").names() == ["cut.jpeg", "sub/c.webp", "sub/copy.png"]
        assert Ingest(str(folder), only="c*", limit=2).names() == ["cut.jpeg", "sub/c.webp"]

    def test_part_inside_its_own_source(self, folder: Path) -> None:
        part = Part.create(folder / "part")
        (folder / "part" / "images").mkdir()
        (folder / "part" / "images" / "made.png").write_bytes(picture(9))
        assert list(ingest(part, folder)) == NAMES

    def test_settings_hold_the_absolute_root(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder.parent)
        settings = Ingest("photos").settings()
        assert settings == {
            "source": str(folder.resolve()),
            "only": None,
            "limit": None,
            "licence": "",
            "provenance": "",
        }
        Image.new("RGB", (8, 8)).save(folder / "another.png")
        assert Ingest("photos").settings() == settings  # a source may grow

    def test_unreadable_files(self, part: Part, folder: Path) -> None:
        os.mkfifo(folder / "pipe.png")
        (folder / "link.png").symlink_to(folder / "nowhere")
        records = ingest(part, folder)
        assert records["pipe.png"].reason == "unreadable file"
        assert records["link.png"].reason == "source missing"
        assert records["b.png"].alive

    def test_development_images(self, part: Part, shared_data: Path) -> None:
        records = ingest(part, shared_data / "photos", only="sfhq_000*")
        assert len(records) == 10
        assert all(r.alive and r.width > 200 for r in records.values())

    def test_copies_of_what_is_no_image_are_no_image(self, part: Part, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for number in range(5):
            (tmp_path / "in" / f"{number}.jpg").write_bytes(b"<html>404 Not Found</html>")
        (tmp_path / "in" / "good.png").write_bytes(picture(0))
        reasons = [r.reason for r in ingest(part, tmp_path / "in").values()]
        assert reasons == ["not an image"] * 5 + [""]


class TestPassedOver:
    @pytest.fixture
    def mixed(self, tmp_path: Path) -> Path:
        root = tmp_path / "mixed"
        root.mkdir()
        for number, name in enumerate(("a.jfif", "b.JPE", "c.jpeg", "portrait", "d.")):
            (root / name).write_bytes(picture(number, "JPEG"))
        (root / "LICENSE").write_text("no image")
        (root / "notes.txt").write_text("no image")
        (root / "old.psd").write_text("no image")
        (root / "older.PSD").write_text("no image")
        (root / ".hidden.jpg").write_bytes(picture(9, "JPEG"))
        return root

    def test_files_without_suffix_are_judged_by_their_bytes(self, part: Part, mixed: Path) -> None:
        os.mkfifo(mixed / "pipe")  # reading it would block for ever
        records = ingest(part, mixed)
        assert list(records) == ["a.jfif", "b.JPE", "c.jpeg", "d.", "portrait"]
        assert all(r.alive for r in records.values())

    def test_what_is_passed_over_is_counted_by_kind(self, part: Part, mixed: Path) -> None:
        expected = {".psd": 2, ".txt": 1, "hidden": 1, "no suffix": 1}
        ingest(part, mixed)
        assert part.stage_info("ingest")["passed_over"] == expected
        (mixed / "b.xcf").write_text("no image")  # nothing to do for ingest, and still told
        ingest(part, mixed)
        assert part.stage_info("ingest")["passed_over"] == {**expected, ".xcf": 1}

    def test_of_a_zip_too(self, part: Part, mixed: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            for path in mixed.iterdir():
                file.write(path, path.name)
        assert len(ingest(part, tmp_path / "a.zip")) == 5
        assert part.stage_info("ingest")["passed_over"]["no suffix"] == 1

    def test_only_limits_what_is_told(self, part: Part, mixed: Path) -> None:
        ingest(part, mixed, only="[a-c]*")
        assert "passed_over" not in part.stage_info("ingest")

    def test_the_command_says_it(self, part: Part, mixed: Path, tmp_path: Path) -> None:
        result = CliRunner().invoke(cli.main, ["ingest", str(mixed), str(tmp_path / "p")])
        assert result.exit_code == 0
        assert "sfhq: 5 files passed over: 2 .psd, 1 .txt, 1 hidden, 1 no suffix" in result.stderr
        assert "5 in       5 out" in result.stdout

    def test_pictures_of_phones_without_their_reader(
        self, mixed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sfhq.formats.heif", lambda: False)
        monkeypatch.setattr("sfhq.ingest.heif", lambda: False)
        readable.cache_clear()
        (mixed / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
        (mixed / "IMG_0002").write_bytes(b"\0\0\0\x18ftypheic")
        passed = Ingest(str(mixed)).passed_over(Part(mixed / "part"))
        readable.cache_clear()
        assert (passed[".heic"], passed["no suffix"]) == (1, 2)
        assert "pip install 'sfhq[heif]'" in passed_over_line(passed)

    def test_many_kinds_are_summed_up(self) -> None:
        line = passed_over_line({f".{n}": n for n in range(1, 10)})
        assert line == (
            "45 files passed over: 9 .9, 8 .8, 7 .7, 6 .6, 5 .5, 4 .4, 6 of 3 other kinds"
        )


class TestFolders:
    def test_linked_folders_are_followed(self, part: Part, tmp_path: Path, folder: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "linked").symlink_to(folder)
        assert list(ingest(part, tmp_path / "in")) == [f"linked/{n}" for n in NAMES]

    def test_loops_end_and_no_folder_is_read_twice(self, part: Part, folder: Path) -> None:
        (folder / "sub" / "up").symlink_to("..")
        (folder / "again").symlink_to("sub")
        (folder / "self").symlink_to(".")
        (folder / "out").symlink_to(folder.parent)
        assert list(ingest(part, folder)) == NAMES

    def test_links_between_linked_folders(self, part: Part, tmp_path: Path) -> None:
        for name, other in (("x", "y"), ("y", "x")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "go").symlink_to(tmp_path / other)
            (tmp_path / name / f"{name}.png").write_bytes(picture(ord(name)))
        assert list(ingest(part, tmp_path / "x")) == ["go/y.png", "x.png"]

    def test_linked_parts_are_left_out(self, folder: Path, tmp_path: Path) -> None:
        part = Part.create(tmp_path / "part")
        (part.root / "images").mkdir()
        (part.root / "images" / "made.png").write_bytes(picture(9))
        (folder / "part").symlink_to(part.root)
        (folder / "its-images").symlink_to(part.root / "images")
        assert list(ingest(part, folder)) == NAMES


class TestNames:
    ODD = os.fsdecode(b"caf\xe9.png")

    def test_a_name_that_is_not_utf8_is_read(self, part: Part, folder: Path) -> None:
        (folder / self.ODD).write_bytes(picture(6))
        (folder / "caf\\xe9.png").write_bytes(picture(7))  # what the escape looks like
        (folder / "sub" / self.ODD).write_bytes(picture(8))
        records = ingest(part, folder)
        odd, plain_one = records["./caf\\xe9.png"], records["caf\\xe9.png"]
        assert odd.source_sha256 == hashlib.sha256(picture(6)).hexdigest()
        assert plain_one.source_sha256 == hashlib.sha256(picture(7)).hexdigest()
        assert records["./sub/caf\\xe9.png"].alive
        assert open_source(part, odd) == picture(6)
        assert {*NAMES} < {*records}

    def test_in_a_list_and_in_the_name_of_the_source(self, tmp_path: Path) -> None:
        root = tmp_path / self.ODD
        root.mkdir()
        (root / self.ODD).write_bytes(picture(6))
        (root / "b.png").write_bytes(picture(7))
        (root / "list.txt").write_bytes(b"caf\xe9.png\n./b.png\n")
        for number, source in enumerate((root, root / "list.txt")):
            part = Part.create(tmp_path / f"part-{number}")
            records = ingest(part, source, only="*.png")
            assert [r.alive for r in records.values()] == [True, True]
            assert lineage.fingerprint(part, "ingest")
            with source_of(part) as opened:
                assert all(opened.image(r).size == (12, 8) for r in records.values())

    @pytest.mark.parametrize(
        "name", ["a.png", "ünï/ç.png", "a\\xe9.png", os.fsdecode(b"\\xe9\xe9\\\\.png")]
    )
    def test_names_lead_back(self, name: str) -> None:
        there = record_name(name)
        there.encode()
        assert file_name(there) == name
        assert (there == name) == name.isprintable()

    def test_control_characters_do_not_reach_the_terminal(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for name in ("red\x07\x1b[2J.jpg", "flip\u202egpj.jpg", "two\nlines.jpg"):
            (tmp_path / "in" / name).write_bytes(b"no image")
        (tmp_path / "in" / "good.png").write_bytes(picture(0))
        part = str(tmp_path / "part")
        assert CliRunner().invoke(cli.main, ["ingest", str(tmp_path / "in"), part]).exit_code == 0
        shown = CliRunner().invoke(cli.main, ["show", part]).output
        lost = CliRunner().invoke(cli.main, ["ingest", str(tmp_path / "no\x07where"), part]).output
        for text in (shown, lost):
            assert all(c.isprintable() for line in text.split("\n") for c in line)
        assert "\\x07" in shown and "\\u202e" in shown and "two\\nlines" in shown
        assert "no\\x07where" in lost


class TestGrowing:
    @staticmethod
    def shards(part: Part) -> dict[str, bytes]:
        folder = part.root / "records" / "ingest"
        return {p.name: p.read_bytes() for p in sorted(folder.glob("*.parquet"))}

    @staticmethod
    def add(folder: Path, *names: str) -> None:
        for name in names:
            (folder / name).write_bytes(picture(sum(name.encode())))

    def test_new_images_go_to_new_shards(self, part: Part, folder: Path) -> None:
        ingest(part, folder)  # 6 images, in shards of 4
        before, mark = self.shards(part), lineage.fingerprint(part, "ingest")
        self.add(folder, "0.png", "z.png", "k.png")
        (folder / "first.png").write_bytes(FILES["b.png"])
        records = ingest(part, folder)
        assert list(records) == [*NAMES, "0.png", "first.png", "k.png", "z.png"]
        assert records["first.png"].params["duplicate_of"] == "b.png"
        assert records["b.png"].alive
        after = self.shards(part)
        assert {name: after[name] for name in before} == before
        assert len(after) == len(before) + 1
        assert part.stage_info("ingest")["counts"]["entered"] == 10
        assert lineage.fingerprint(part, "ingest") == mark

    def test_nothing_new_changes_nothing(self, part: Part, folder: Path) -> None:
        ingest(part, folder)
        before = tree(part.root)
        ingest(part, folder)
        assert tree(part.root) == before

    def test_redo_begins_anew(self, part: Part, folder: Path) -> None:
        ingest(part, folder)
        self.add(folder, "0.png")
        stage = Ingest(str(folder), licence="CC0-1.0", provenance="made by a test")
        run_stage(stage, part, shard_size=4, redo=True)
        assert [r.source for r in part.records("ingest")] == sorted([*NAMES, "0.png"])

    @pytest.mark.parametrize("lost", [(0,), (1,), (2,), (0, 2)])
    def test_a_killed_run_ends_with_the_same_bytes(
        self, folder: Path, tmp_path: Path, lost: tuple[int, ...]
    ) -> None:
        self.add(folder, *(f"more-{n}.png" for n in range(5)))
        part = Part.create(tmp_path / "part")
        ingest(part, folder)
        before = tree(part.root)
        info = part.stage_info("ingest")
        part.write_stage_info("ingest", {**info, "complete": False})
        for shard in lost:
            part.shard_path("ingest", shard).unlink()
        ingest(part, folder)
        assert tree(part.root) == before

    def test_limit_counts_what_is_there(self, part: Part, folder: Path) -> None:
        run_stage(Ingest(str(folder), limit=3), part)
        self.add(folder, "0.png")
        run_stage(Ingest(str(folder), limit=3), part)
        assert [r.source for r in part.records("ingest")] == NAMES[:3]

    def test_images_that_vanished_are_named_and_nothing_is_lost(
        self, part: Part, folder: Path
    ) -> None:
        ingest(part, folder)
        (folder / "text.jpg").unlink()  # it was no image; nobody misses it
        ingest(part, folder)
        (folder / "b.png").rename(folder / "c.png")
        before = tree(part.root)
        with pytest.raises(UsageError, match=r"1 of its images are not in .* first b\.png") as e:
            ingest(part, folder)
        assert "--redo" in str(e.value)
        assert tree(part.root) == before

    def test_parts_of_an_older_version_are_not_extended(self, part: Part, folder: Path) -> None:
        ingest(part, folder)
        part.write_stage_info("ingest", {**part.stage_info("ingest"), "format": 1})
        ingest(part, folder)
        self.add(folder, "0.png")
        with pytest.raises(UsageError, match="made by an older version, and there is more for it"):
            ingest(part, folder)

    def test_other_settings_are_refused_all_the_same(self, part: Part, folder: Path) -> None:
        ingest(part, folder)
        self.add(folder, "0.png")
        with pytest.raises(UsageError, match="ingest was run with only=None"):
            ingest(part, folder, only="*.png")


class TestZip:
    def test_hostile_members(self, part: Part, tmp_path: Path) -> None:
        path = tmp_path / "evil.zip"
        unsafe = ["../up.png", "/abs.png", "a/../../b.png", "C:\\win.png", "x\\..\\y.png"]
        with zipfile.ZipFile(path, "w") as file:
            for n, name in enumerate(unsafe):
                file.writestr(name, picture(n))
            file.writestr("good.png", picture(10))
            file.writestr("corrupt.png", picture(11))
            file.writestr("locked.png", picture(12))
        data = bytearray(path.read_bytes())
        at = data.index(picture(11))
        data[at + 20] ^= 0xFF
        entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"locked.png"))
        data[entry + 8] |= 1  # the flag of an encrypted member
        path.write_bytes(data)
        before = {p for p in tmp_path.rglob("*") if part.root not in p.parents}
        reasons = {n: r.reason for n, r in ingest(part, path).items()}
        assert reasons == {
            **dict.fromkeys(unsafe, "unsafe name"),
            "corrupt.png": "unreadable file",
            "good.png": "",
            "locked.png": "unreadable file",
        }
        assert {p for p in tmp_path.rglob("*") if part.root not in p.parents} == before

    def test_backslashes_of_windows_are_folders(self, part: Part, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("art\\", b"")
            file.writestr("art\\a.png", picture(0))
            file.writestr("art\\.thumbs\\a.png", picture(1))
            file.writestr("b\\c.png", picture(2))
            file.writestr("b/c.png", picture(3))
            file.writestr("b\\d.jpg", picture(4, "JPEG"))
        records = ingest(part, tmp_path / "a.zip", only="[abc].png")
        assert list(records) == ["art/a.png", "b/c.png"]
        assert records["b/c.png"].source_sha256 == hashlib.sha256(picture(3)).hexdigest()
        assert all(r.alive for r in records.values())
        everything = Ingest(str(tmp_path / "a.zip")).names()
        assert everything == ["art/a.png", "b/c.png", "b/d.jpg", "b\\c.png"]

    def test_the_directory_of_a_zip_is_read_once(
        self, part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = []

        class Counted(archive_module.Archive):
            def __init__(self, path: Path) -> None:
                opened.append(path)
                super().__init__(path)

        monkeypatch.setattr(archive_module, "Archive", Counted)
        path = tmp_path / "many.zip"
        zip_of(path, 20)
        ingest(part, path)  # five shards
        for record in part.records("ingest"):
            open_source(part, record)
        assert opened == [path]
        zip_of(path, 22)
        assert len(ingest(part, path)) == 22
        assert opened == [path, path]

    def test_bomb(self, part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sfhq.parts.source.MAX_BYTES", 100_000)
        with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("bomb.png", bytes(1_000_000))
            file.writestr("good.png", picture(0))
        records = ingest(part, tmp_path / "bomb.zip")
        assert [r.reason for r in records.values()] == ["file too large", ""]


class TestUsage:
    @staticmethod
    def message(source: Path, only: str | None = None, limit: int | None = None) -> str:
        with pytest.raises(UsageError) as caught:
            Ingest(str(source), only, limit).names()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        assert "no such file or folder" in self.message(tmp_path / "nowhere")

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "readme.md").write_text("hello")
        assert "no images among its 1 files" in self.message(tmp_path)

    def test_nothing_matches(self, folder: Path) -> None:
        assert "none of its 6 images matches --only 'z*'" in self.message(folder, only="z*")

    def test_limit(self, folder: Path) -> None:
        assert "--limit 0" in self.message(folder, limit=0)

    @pytest.mark.parametrize("data", [b"", b"not a zip", struct.pack("<I", 0x04034B50) * 9])
    def test_not_a_zip(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "a.zip").write_bytes(data)
        assert "not a readable zip archive" in self.message(tmp_path / "a.zip")

    def test_zip_without_images(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w"):
            pass
        assert "no images among its 0 files" in self.message(tmp_path / "a.zip")

    def test_single_image(self, folder: Path) -> None:
        assert "--only 'b.png'" in self.message(folder / "b.png")

    def test_list_entries_missing(self, folder: Path) -> None:
        (folder / "list.txt").write_text("b.png\n\ngone.png\nlost.png\n")
        message = self.message(folder / "list.txt")
        assert "2 of 3 entries do not exist, first line 3: gone.png" in message

    def test_list_empty_or_not_text(self, folder: Path) -> None:
        (folder / "list.txt").write_bytes(b"\n \n")
        assert "an empty list" in self.message(folder / "list.txt")
        (folder / "list.txt").write_bytes(b"\xff\xfe\x00")
        assert "cannot read the list" in self.message(folder / "list.txt")

    def test_raised_by_the_call_of_seeds(self, part: Part, tmp_path: Path) -> None:
        with pytest.raises(UsageError):
            Ingest(str(tmp_path / "nowhere")).seeds(part)


class TestOpenSource:
    @pytest.mark.parametrize("kind", ["folder", "archive"])
    def test_gives_the_bytes(self, part: Part, kind: str, request: pytest.FixtureRequest) -> None:
        root: Path = request.getfixturevalue(kind)
        record = ingest(part, root)["b.png"]
        assert open_source(part, record) == open_source(root, record) == FILES["b.png"]
        with source_of(part) as source:
            assert source.image(record).size == (12, 8)

    def test_changed_or_missing(self, part: Part, folder: Path) -> None:
        record = ingest(part, folder)["b.png"]
        (folder / "b.png").write_bytes(picture(20))
        with pytest.raises(BadImage) as caught:
            open_source(part, record)
        assert caught.value.reason == "source changed"
        (folder / "b.png").unlink()
        with pytest.raises(BadImage, match=r"b\.png: not found") as caught:
            open_source(part, record)
        assert caught.value.reason == "source missing"

    def test_whole_source_gone(self, part: Part, folder: Path) -> None:
        record = ingest(part, folder)["b.png"]
        folder.rename(folder.with_name("elsewhere"))
        with pytest.raises(UsageError, match="no such file or folder"):
            open_source(part, record)

    def test_archive_is_closed(self, archive: Path) -> None:
        with Source(archive) as source:
            assert source.read("b.png") == FILES["b.png"]
        with pytest.raises(BadImage):
            source.read("b.png")
