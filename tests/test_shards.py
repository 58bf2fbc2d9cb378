"""Image-text collections: tar shards, Parquet with images, texts beside files, opt-out lists."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sfhq.errors import UsageError
from sfhq.ingest import Ingest, read_opt_out
from sfhq.parts.part import Part
from sfhq.parts.shards import clean, text_of
from sfhq.parts.source import Source
from sfhq.pipeline.engine import run_stage


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def ingested(source: Path, root: Path, **settings: Any) -> dict[str, Any]:
    part = Part.create(root)
    run_stage(Ingest(str(source), **settings), part)
    return {r.source: r for r in part.records("ingest")}


def test_a_tar_with_texts(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    files = {
        "000.png": png(1),
        "000.txt": b"  a man\nwith \x1b a hat ",
        "001.png": png(2),
        "001.json": json.dumps({"caption": ["a woman"], "url": "x"}).encode(),
        "002.v1.png": png(3),
        "002.txt": "ein Mädchen".encode(),
        "003.png": png(4),
        "../out.png": png(5),
        "notes.md": b"x",
    }
    write_tar(path, files)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    found = ingested(path, tmp_path / "part")
    texts = {name.partition("/")[2]: r.params.get("text") for name, r in found.items()}
    assert texts == {
        **{"000.png": "a man with a hat", "001.png": "a woman"},
        **{"002.v1.png": "ein Mädchen", "003.png": None},
    }
    assert all(r.alive and (r.width, r.height) == (8, 8) for r in found.values())
    assert found["00000.tar/000.png"].source_sha256 == hashlib.sha256(png(1)).hexdigest()


def test_a_folder_of_shards_is_one_source(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(6):  # more than stay open
        write_tar(
            shards / f"{number:05d}.tar", {f"{i}.png": png(10 * number + i) for i in range(3)}
        )
    (shards / "sizes.json").write_text("{}")
    found = ingested(shards, tmp_path / "part")
    assert len(found) == 18 and all(r.alive for r in found.values())
    assert sorted(found)[0] == "00000.tar/0.png"
    (shards / "readme.md").write_text("x")  # now it is a folder of files like any other
    with pytest.raises(UsageError, match="no images among its 8 files"):
        Source(shards).listing()


@pytest.mark.parametrize("nested", [True, False])
def test_a_parquet_with_images(tmp_path: Path, nested: bool) -> None:
    images: list[Any] = [png(i) for i in range(5)]
    images[3] = None
    if nested:
        images = [None if i is None else {"bytes": i, "path": "x.png"} for i in images]
    table = pa.table(
        {
            "_id": list("abcde"),
            "image": images,
            "caption": [["a man"], ["a woman", "b"], [], None, ["x" * 30_000]],
        }
    )
    pq.write_table(table, tmp_path / "faces.parquet", row_group_size=2)
    found = ingested(tmp_path / "faces.parquet", tmp_path / "part")
    rows = [found[f"faces.parquet/{i:09d}"] for i in range(5)]
    assert [r.alive for r in rows] == [True, True, True, False, True]
    assert rows[3].reason == "source missing"
    texts = [r.params.get("text") for r in rows]
    assert texts[:3] == ["a man", "a woman", None] and len(str(texts[4])) == 20_000


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.tar", b"no tar at all" * 100, "not a readable collection"),
        ("a.parquet", b"PAR1", "not a readable collection"),
        ("empty.tar", b"", "not a readable collection"),
    ],
)
def test_damaged_collections(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=says):
        Source(tmp_path / name)


def test_a_parquet_without_images_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"], "caption": ["y"]}), tmp_path / "urls.parquet")
    with pytest.raises(UsageError, match="no column of images among url, caption"):
        Source(tmp_path / "urls.parquet")


def test_texts_beside_files(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes(png(ord(name)))
    (folder / "a.txt").write_text("a man")
    (folder / "list.txt").write_text("no image")
    found = ingested(folder, tmp_path / "part")
    assert {n: r.params.get("text") for n, r in found.items()} == {"a.png": "a man", "b.png": None}
    with Source(folder) as source:
        assert source.listing().passed_over == ((".txt", "list.txt"),)


def test_who_opted_out_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.png").write_bytes(png(ord(name)))
    lines = tmp_path / "out.txt"
    lines.write_text(f"a.png\n\n{hashlib.sha256(png(ord('c'))).hexdigest()}\n")
    found = ingested(folder, tmp_path / "part", opted_out=read_opt_out(lines))
    assert {n: r.reason for n, r in found.items()} == {
        **{"a.png": "opted out", "b.png": "", "c.png": "opted out"}
    }
    lines.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot read the opt-out list"):
        read_opt_out(lines)
    other = Ingest(str(folder), opted_out=frozenset({"x"}))
    assert other.settings() != Ingest(str(folder)).settings()


def test_texts_are_cleaned() -> None:
    assert clean(" a\tb\n\x00c‮d ") == "a b c d"
    assert text_of({"url": "x"}) == "" == text_of(None) == text_of({"caption": [1, None]})
    assert text_of({"text": "second", "caption": "first"}) == "first"
