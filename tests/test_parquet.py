"""Records are read by the thread that asks: Arrow's own ones abort a process that ends too soon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import finish

from sfhq.parts.parquet import column_names, table_of
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord

TASKS = Path("/proc/self/task")
SCRIPT = """
import os, pathlib, sys
import pyarrow.parquet
from sfhq.parts.part import Part
part = Part.open(pathlib.Path(sys.argv[1]))
before = len(os.listdir("/proc/self/task"))
assert len(list(part.records("ingest"))) == 3
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.fixture
def part(tmp_path: Path) -> Part:
    part = Part.create(tmp_path / "part")
    finish(part, "ingest", [[FaceRecord(n) for n in "abc"]])
    return part


@pytest.mark.skipif(not TASKS.is_dir(), reason="threads are counted in /proc")
def test_reading_records_starts_no_thread(part: Part) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(part.root)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr


def test_columns_of_a_file_in_memory(part: Part) -> None:
    data = part.shard_path("ingest", 0).read_bytes()
    names = column_names(data)
    assert "face_id" in names and table_of(data).column_names == names
    some = table_of(data, ["face_id"])
    assert some.column_names == ["face_id"] and some.column("face_id").to_pylist() == [*"abc"]
    with pytest.raises(Exception, match=r"(?i)parquet|magic"):
        table_of(data[:-20])
