"""Contact sheets: their size, their pages, and what was refused shown dimmed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import finish, tiny_pixels

from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.sheet import BACKGROUND, DIMMED, GAP, HEADER, write_sheets

CELL = 40
STEP = CELL + GAP


def sampled(root: Path, count: int) -> Part:
    part = Part.create(root)
    white = np.full((32, 32, 3), 255, np.uint8)
    finish(
        part,
        "sample",
        [[FaceRecord(f"s{i:03d}").with_image("images", white) for i in range(count)]],
    )
    return part


def families(root: Path, count: int, ways: tuple[str, ...] = ("strict", "low")) -> Part:
    part = Part.create(root)
    pixels = tiny_pixels(count * (len(ways) + 1))
    art = [FaceRecord(f"a{i}").with_image("aligned", pixels.pop()) for i in range(count)]
    finish(part, "ingest", [art])
    finish(part, "align", [art])
    aligned = part.read_shard("align", 0)
    photos = [
        replace(
            aligned[i],
            face_id=f"a{i}-{ways.index(way)}",
            parent_id=f"a{i}",
            candidate=way,
            prior_distance=None if i % 2 else 0.5,
        ).with_image("images", pixels.pop())
        for i in range(count)
        for way in ways
    ]
    finish(part, "synthesize", [photos])
    return part


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_a_row_is_an_inspiration_and_its_candidates(tmp_path: Path) -> None:
    part = families(tmp_path / "part", 3)
    (path,) = write_sheets(part, tmp_path / "sheet.png", cell=CELL)
    assert size(path) == (3 * STEP + GAP, 3 * (STEP + HEADER) + GAP)
    with Image.open(path) as image:
        pixels = np.asarray(image)
    with Image.open(part.image_path("aligned", "a0")) as first:
        wanted = np.asarray(first.resize((CELL, CELL), Image.Resampling.LANCZOS))
    top = GAP + HEADER
    assert np.array_equal(pixels[top : top + CELL, GAP : GAP + CELL], wanted)
    captions = pixels[GAP:top]
    assert (captions != BACKGROUND).any()


def test_plain_faces_stand_eight_in_a_row_without_captions(tmp_path: Path) -> None:
    part = sampled(tmp_path / "part", 11)
    (path,) = write_sheets(part, tmp_path / "sheet.png", cell=CELL)
    assert size(path) == (8 * STEP + GAP, 2 * STEP + GAP)


def test_pages(tmp_path: Path) -> None:
    part = families(tmp_path / "part", 5)
    paths = write_sheets(part, tmp_path / "new" / "sheet.jpg", rows=2, cell=CELL)
    assert [p.name for p in paths] == ["sheet.jpg", "sheet-2.jpg", "sheet-3.jpg"]
    assert [size(p)[1] for p in paths] == [h * (STEP + HEADER) + GAP for h in (2, 2, 1)]
    fewer = write_sheets(part, tmp_path / "few.png", rows=2, cell=CELL, pages=2)
    assert [p.name for p in fewer] == ["few.png", "few-2.png"]
    assert not (tmp_path / "few-3.png").exists()


def test_pages_that_come_out_even_have_no_empty_last(tmp_path: Path) -> None:
    part = families(tmp_path / "part", 4)
    assert len(write_sheets(part, tmp_path / "sheet.png", rows=2, cell=CELL)) == 2


def test_what_was_refused_is_dimmed_and_says_why(tmp_path: Path) -> None:
    part = sampled(tmp_path / "part", 2)
    faces = part.read_shard("sample", 0)
    kept, gone = faces
    finish(part, "dedup", [[kept, gone.reject("dedup", "near-duplicate")]])
    (path,) = write_sheets(part, tmp_path / "sheet.png", cell=CELL)
    with Image.open(path) as image:
        pixels = np.asarray(image)
    assert pixels[GAP + 5, GAP + 5].tolist() == [255, 255, 255]
    wanted = [round(b + DIMMED * (255 - b)) for b in BACKGROUND]
    assert np.abs(pixels[GAP + 5, GAP + STEP + 5].astype(int) - wanted).max() <= 1
    text = pixels[GAP + CELL // 2 : GAP + CELL, GAP + STEP : GAP + STEP + CELL]
    assert (text != pixels[GAP + 5, GAP + STEP + 5]).any()


def test_the_sheet_is_marked_as_a_composite(tmp_path: Path) -> None:
    for name in ("sheet.png", "sheet.jpg"):
        (path,) = write_sheets(sampled(tmp_path / name / "part", 1), tmp_path / name / name)
        assert b"compositeWithTrainedAlgorithmicMedia" in path.read_bytes()


@pytest.mark.parametrize("caption", ["", "sefa-12+1.5", "ünï £ 顔", "x" * 200, "two\nlines"])
def test_captions_of_any_kind(tmp_path: Path, caption: str) -> None:
    part = families(tmp_path / "part", 1, (caption,))
    assert len(write_sheets(part, tmp_path / "sheet.png", cell=CELL)) == 1


def test_two_sheets_are_the_same_bytes(tmp_path: Path) -> None:
    part = families(tmp_path / "part", 2)
    (one,) = write_sheets(part, tmp_path / "one.png", cell=CELL)
    (two,) = write_sheets(part, tmp_path / "two.png", cell=CELL)
    assert one.read_bytes() == two.read_bytes()


def test_parts_without_images(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    with pytest.raises(UsageError, match="no images to show yet"):
        write_sheets(part, tmp_path / "sheet.png")
    finish(part, "ingest", [[FaceRecord("a")]])
    with pytest.raises(UsageError, match="no images to show yet"):
        write_sheets(part, tmp_path / "sheet.png")
    finish(part, "align", [[FaceRecord("a").reject("align", "no face")]])
    with pytest.raises(UsageError, match="no face was left to show"):
        write_sheets(part, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("name", ["rows", "cell", "pages"])
@pytest.mark.parametrize("value", [0, -3])
def test_numbers_that_cannot_be(tmp_path: Path, name: str, value: int) -> None:
    part = sampled(tmp_path / "part", 1)
    with pytest.raises(UsageError, match=f"{name} is {value}; wanted 1 or more"):
        write_sheets(part, tmp_path / "sheet.png", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sheet", "sheet.gif", "sheet.txt"])
def test_names_that_are_no_image(tmp_path: Path, name: str) -> None:
    part = sampled(tmp_path / "part", 1)
    with pytest.raises(UsageError, match=r"ends in .png or .jpg"):
        write_sheets(part, tmp_path / name)
