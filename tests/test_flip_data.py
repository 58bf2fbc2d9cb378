"""Images with captions from parts, tables and folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import finish_about
from toy_stages import Sample

from encoders.flip.data import Captioned, TableForm, load_captioned, mirrored
from encoders.flip.studies.arms import with_texts
from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import ColumnType, FaceRecord, Json
from sfhq.pipeline.engine import run_stage
from sfhq.pipeline.stage import SourceStage, Stage


def picture(path: Path, shade: int) -> None:
    Image.fromarray(np.full((20, 30, 3), shade, np.uint8)).save(path)


@dataclass(frozen=True)
class Score(Stage[Any]):
    """Writes captions under the name of a stage that parts know."""

    name: ClassVar[str] = "score"
    columns: ClassVar[dict[str, ColumnType]] = {"caption": "text", "captions": "texts"}

    def settings(self) -> dict[str, Json]:
        return {}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for i, record in enumerate(records):
            several = [f"text {i}", "", f"text {i}", "more"] if i == 0 else []
            yield record.with_columns(caption="" if i == 1 else f"face {i}", captions=several)


def test_a_part_with_captions(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    run_stage(Sample(4), part, shard_size=4)
    with pytest.raises(UsageError, match="has no captions; write them: sfhq caption"):
        load_captioned([part.root], 8)
    run_stage(Score(), part, shard_size=4)
    data = load_captioned([part.root], 8)
    assert data.names == data.faces == ("face-000", "face-002", "face-003")
    assert data.texts == (("text 0", "more"), ("face 2",), ("face 3",))
    assert data.skipped == {"no caption": 1}
    assert data.pixels[:, 0, 0, 0].tolist() == [0, 2, 3] and data.size == 8


@dataclass(frozen=True)
class Candidates(SourceStage[Any]):
    """Two photos of each of forty faces."""

    name: ClassVar[str] = "sample"
    images: ClassVar[tuple[str, ...]] = ("images",)

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        for i in range(80):
            kind = "low" if i % 2 else "strict"
            yield FaceRecord(f"art{i // 2}-{kind}", parent_id=f"art{i // 2}", seed=i)

    def settings(self) -> dict[str, Json]:
        return {}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for record in records:
            yield record.with_image("images", np.full((8, 8, 3), record.seed or 0, np.uint8))


def test_candidates_of_one_face_are_held_out_together(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    run_stage(Candidates(), part, shard_size=100)
    rows = [*part.faces()]
    finish_about(
        part, "score", [[r.with_columns(caption=r.face_id) for r in rows]], {"caption": "text"}
    )
    data = load_captioned([part.root], 8)
    assert len(data) == 80 and data.faces[:2] == ("art0", "art0")
    train, held = data.split()
    assert len(held) > 0 and not {*train.faces} & {*held.faces}
    # Tables tell candidates apart all the same, or speak of the face they came from.
    found = with_texts(data, {"art0-low": ("own",), "art1": ("of the face",)})
    assert found.names == ("art0-low", "art1-strict", "art1-low")
    assert found.texts == (("own",), ("of the face",), ("of the face",))


def test_a_table(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png", 10 * i)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG no")
    (tmp_path / "t.csv").write_text(
        "\ufefffile,text,face\n"
        '0.png,"A man, bald.",ann\n'
        "1.png, ,ann\n"
        "0.png,Second  text,ann\n"
        "none.png,x,\n"
        "bad.png,x,\n"
        ",x,\n"
        "2.png,שלום,\n"
    )
    data = load_captioned([tmp_path / "t.csv"], 16)
    assert data.names == ("0.png", "2.png") and data.faces == ("ann", "2.png")
    assert data.texts == (("A man, bald.", "Second text"), ("שלום",))
    assert data.skipped == {
        "no caption": 1,
        "missing image": 1,
        "damaged image": 1,
        "no file": 1,
    }
    assert data.pixels.shape == (2, 3, 16, 16)


def test_a_table_of_another_form(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    picture(tmp_path / "t" / "0.png", 1)
    (tmp_path / "t.tsv").write_text("file\tqueries\n0.png\tgray hair; old man\n")
    data = load_captioned([tmp_path / "t.tsv"], 8, TableForm("queries", "; "))
    assert data.texts == (("gray hair", "old man"),)
    data = load_captioned([tmp_path / "t.tsv"], 8, TableForm("queries"))
    assert data.texts == (("gray hair; old man",),)
    with pytest.raises(UsageError, match="columns file, queries; wanted file and text"):
        load_captioned([tmp_path / "t.tsv"], 8)


def test_a_folder_and_several_sources(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / "x.png", 7)
        (tmp_path / name / "x.txt").write_text(f"one of {name}\ntwo\n")
    picture(tmp_path / "a" / "lonely.png", 7)
    (tmp_path / "a" / "latin.txt").write_bytes(b"caf\xe9")
    picture(tmp_path / "a" / "latin.png", 7)
    data = load_captioned([tmp_path / "a", tmp_path / "b"], 8)
    assert data.texts == (("one of a", "two"), ("one of b", "two"))
    assert len(set(data.faces)) == 2  # one name, two faces
    assert data.skipped == {"no caption": 1, "caption is not UTF-8": 1}


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"wanted a part, a folder, or a \.csv"):
        load_captioned([tmp_path / "none"], 8)
    with pytest.raises(UsageError, match="no image with a caption"):
        load_captioned([tmp_path], 8)
    table = tmp_path / "t.csv"
    table.write_text("path,words\n")
    with pytest.raises(UsageError, match="columns path, words; wanted file and text"):
        load_captioned([table], 8)
    table.write_bytes(b"file,text\na,\xff\xfe\n")
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_captioned([table], 8)


def test_mirrored_words() -> None:
    assert mirrored("He looks left, not Right; LEFT.") == "He looks right, not Left; RIGHT."
    assert mirrored("bright copyright leftover") == "bright copyright leftover"
    assert mirrored(mirrored("to the left and right")) == "to the left and right"


def test_images_are_mirrored() -> None:
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    pixels[:, :, :, 0] = 255
    data = Captioned(pixels, ("a", "b"), ("a", "b"), (("x",), ("y",)))
    found = data.images(torch.tensor([0, 1]), torch.tensor([False, True]))
    assert found[0, 0, 0].tolist() == [1, -1, -1, -1] and found[1, 0, 0].tolist() == [-1, -1, -1, 1]


def test_all_images_of_a_face_are_on_one_side() -> None:
    names = tuple(f"n{i}" for i in range(200))
    faces = tuple(f"f{i // 2}" for i in range(200))
    pixels = torch.zeros(200, 3, 1, 1, dtype=torch.uint8)
    data = Captioned(pixels, names, faces, (("x",),) * 200)
    train, held = data.split()
    assert len(train) + len(held) == 200 and 0 < len(held) < 60
    assert not {*train.faces} & {*held.faces}
    assert replace(data, texts=data.texts).face_keys().unique().numel() == 100


def test_a_source_is_split_alike_alone_and_beside_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(40):
            picture(tmp_path / name / f"{i}.png", i)
            (tmp_path / name / f"{i}.txt").write_text("x\n")
    alone = load_captioned([tmp_path / "a"], 8).split()[1]
    both = load_captioned([tmp_path / "a", tmp_path / "b"], 8).split()[1]
    held = [face.rpartition("/")[2] for face in both.faces]
    assert len(alone) > 0 and held == [*alone.faces, *alone.faces]


def test_images_that_lie_in_a_file_are_those_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for i in range(12):
        picture(folder / f"{i:02}.png", 20 * i)
        (folder / f"{i:02}.txt").write_text("x\n")
    (folder / "05.png").write_bytes(b"\x89PNG no")
    plain = load_captioned([folder], 8)
    kept = tmp_path / "run" / "pixels.npy"
    mapped = load_captioned([folder], 8, kept=kept)
    assert np.load(kept).shape == (11, 3, 8, 8) and [p.name for p in kept.parent.iterdir()] == [
        "pixels.npy"
    ]
    assert mapped.names == plain.names and mapped.size == 8
    some = mapped.select([9, 2, 7]).select([2, 0])
    assert some.pixels is mapped.pixels, "not read into memory"
    flipped = torch.tensor([True, False])
    for a, b in (
        (some.images(torch.tensor([1, 0]), flipped), plain.images(torch.tensor([9, 7]), flipped)),
        (mapped.images(torch.arange(11)), plain.images(torch.arange(11))),
    ):
        assert torch.equal(a, b)
    assert np.array_equal(some.picture(0), plain.picture(7))
