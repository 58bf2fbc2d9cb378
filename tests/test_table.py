"""A part as one table: Arrow, DuckDB, three formats, and other libraries reading the records."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from command import sfhq
from tiny import embedded_part, finish_about, unit
from torch.utils.data import DataLoader

import cli
from sfhq.errors import IntegrityError, UsageError
from sfhq.parts.part import Part
from sfhq.parts.photos import read_photo
from sfhq.parts.records import COLUMNS, FaceRecord
from sfhq.parts.table import query
from sfhq.tensors import to_pixels


@pytest.fixture
def part(tmp_path: Path) -> Part:
    scores = [0.1, 0.9, 0.5, 0.7, 0.3]
    part = embedded_part(tmp_path / "part", unit(np.eye(5)), score=scores, images=True)
    said = [FaceRecord(f"f000{i}").with_columns(boxes=[1.5, float(i)]) for i in range(5)]
    said[2] = said[2].reject("detect", "no face", 'none, "really"')
    finish_about(part, "detect", [said[:4], said[4:]], {"boxes": "numbers"})
    return part


def test_one_row_a_face_with_all_that_is_said_of_it(part: Part) -> None:
    table = part.table()
    assert table.column_names == [*COLUMNS, "alive", "shard", "boxes", "score"]
    assert table["face_id"].to_pylist() == [f"f000{i}" for i in range(5)]
    assert table["alive"].to_pylist() == [True, True, False, True, True]
    assert table["score"].to_pylist() == [0.1, 0.9, 0.5, 0.7, 0.3]
    assert table["boxes"].to_pylist()[3] == [1.5, 3.0]
    assert table["shard"].to_pylist() == [0, 0, 0, 0, 1]
    rows = [json.loads(r) for r in table["rows"].to_pylist()]
    assert [r["embedding"] for r in rows] == [0, 1, 2, 3, 0]


def test_sql_chooses_columns_and_rows(part: Part) -> None:
    found = query(part, "face_id, score", "alive and score > 0.4")
    assert found.to_pydict() == {"face_id": ["f0001", "f0003"], "score": [0.9, 0.7]}
    counted = query(part, "alive, count(*) as n", "true group by alive order by alive")
    assert counted.to_pydict() == {"alive": [False, True], "n": [1, 4]}


@pytest.mark.parametrize("columns", ["nonsense", "face_id;", "count("])
def test_sql_that_cannot_be_is_one_line(part: Part, columns: str) -> None:
    with pytest.raises(UsageError) as caught:
        query(part, columns)
    assert "\n" not in str(caught.value)
    assert "the columns are: face_id" in str(caught.value)


def test_sql_reads_no_other_file(part: Part, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(UsageError, match=r"(?i)permission|disabled"):
        query(part, f"(select a from '{tmp_path}/secret.csv')")


def test_three_formats(part: Part, tmp_path: Path) -> None:
    text = sfhq("table", part.root, "--columns", "face_id,boxes,detail,score").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [r["face_id"] for r in rows] == [f"f000{i}" for i in range(5)]
    assert rows[2]["detail"] == 'none, "really"' and json.loads(rows[4]["boxes"]) == [1.5, 4.0]
    text = sfhq("table", part.root, "--format", "jsonl", "--where", "score < 0.2").stdout
    assert json.loads(text)["face_id"] == "f0000"
    said = sfhq("table", part.root, "--out", tmp_path / "all.parquet").stdout
    assert said == f"5 rows in {tmp_path / 'all.parquet'}\n"
    assert pq.read_table(tmp_path / "all.parquet").equals(part.table())
    data = CliRunner().invoke(cli.main, ["table", str(part.root), "--format", "parquet"])
    assert pq.read_table(io.BytesIO(data.stdout_bytes)).equals(part.table())


def test_a_name_that_tells_no_format(part: Part, tmp_path: Path) -> None:
    said = sfhq("table", part.root, "--out", tmp_path / "all.xlsx", code=2).stderr
    assert "cannot tell the format; give --format csv, parquet or jsonl" in said


def test_others_read_the_records_in_place(part: Part) -> None:
    folder = part.root / "records"
    assert pq.read_table(folder / "synthesize").num_rows == 5, (
        "a folder of Parquet and nothing else"
    )
    found = duckdb.execute(
        f"select s.face_id, score from '{folder}/synthesize/*.parquet' s "
        f"join '{folder}/score/*.parquet' using (face_id) where score > 0.6 order by score"
    ).fetchall()
    assert found == [("f0003", 0.7), ("f0001", 0.9)]
    sql = f"select reason, count(*) from read_parquet('{folder}/*/*.parquet') group by 1 order by 1"
    assert duckdb.execute(sql).fetchall() == [("", 19), ("no face", 1)]


def test_a_part_without_faces_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no records yet; run: sfhq ingest SOURCE"):
        Part.create(tmp_path / "part").table()


def test_the_torch_dataset(part: Part) -> None:
    faces = part.dataset()
    assert len(faces) == 4
    item = faces[2]
    assert item["face_id"] == "f0003"
    record = faces.faces[2]
    assert np.array_equal(to_pixels(item["image"][None])[0], read_photo(part, record))
    batch = next(iter(DataLoader(faces, batch_size=3)))
    assert batch["face_id"] == ["f0000", "f0001", "f0003"]
    assert batch["image"].shape == (3, 3, 32, 32) and batch["image"].dtype == torch.float32
    assert batch["image"].min() >= -1 and batch["image"].max() <= 1


def test_the_dataset_verifies_photos(part: Part) -> None:
    faces = part.dataset()
    part.image_path("images", "f0001").write_bytes(part.image_path("images", "f0000").read_bytes())
    with pytest.raises(IntegrityError, match=r"f0001\.png: not the file that was written here"):
        faces[1]
    part.image_path("images", "f0001").unlink()
    part.image_path("images", "f0001").symlink_to(part.image_path("images", "f0000"))
    with pytest.raises(IntegrityError, match=r"f0001\.png: not a regular file"):
        faces[1]
