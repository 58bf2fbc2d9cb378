from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfhq.errors import UsageError
from sfhq.images import BadImage
from sfhq.ingest import Ingest
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.parts.source import Source, open_source, source_of
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
        listed = settings.pop("files")
        assert settings == {
            "source": str(folder.resolve()),
            "only": None,
            "limit": None,
            "licence": "",
            "provenance": "",
        }
        Image.new("RGB", (8, 8)).save(folder / "another.png")
        assert Ingest("photos").settings()["files"] != listed

    def test_unreadable_files(self, part: Part, folder: Path) -> None:
        os.mkfifo(folder / "pipe.png")
        (folder / "link.png").symlink_to(folder / "nowhere")
        (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(picture(6))
        records = ingest(part, folder)
        assert records["pipe.png"].reason == "unreadable file"
        assert records["link.png"].reason == "source missing"
        assert records["caf\\xe9.png"].reason == "source missing"
        assert records["b.png"].alive

    def test_development_images(self, part: Part, shared_data: Path) -> None:
        records = ingest(part, shared_data / "photos", only="sfhq_000*")
        assert len(records) == 10
        assert all(r.alive and r.width > 200 for r in records.values())


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
