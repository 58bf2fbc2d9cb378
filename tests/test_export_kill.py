"""kill -9 at random moments of every export: resumed, it ends with the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from exporting import export, rich_part
from tiny import tree

from sfhq.export.formats.table import NAMES

ROOT = Path(__file__).parent.parent
KILLS = 20

# Runs in a process of its own that forks each victim, so that a kill costs no interpreter start.
DRIVER = """
import os, pathlib, random, sys, time
import numpy, pyarrow.parquet, pyarrow.csv, PIL.PngImagePlugin, PIL.JpegImagePlugin
import exporting
from sfhq.parts.part import Part
import sfhq.export.files as files
root, form, kills = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
part = Part.open(root / "part")
replace, write = os.replace, files.Hashed.write

def slow(*a):  # so that kills meet files that are half-written, and what lies between files
    time.sleep(0.001)
    return replace(*a)

def slow_write(self, data):
    half = len(data) // 2
    write(self, data[:half])
    time.sleep(0.0003)
    return half + write(self, data[half:])

os.replace, files.Hashed.write = slow, slow_write

def start(target):
    pid = os.fork()
    if pid == 0:
        try:
            exporting.export(form, part, target, shard=40_000, samples=(3,))
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(1)
        os._exit(0)
    return pid

exporting.export(form, part, root / "warm", shard=40_000, samples=(3,))
began = time.monotonic()
assert os.waitpid(start(root / "whole"), 0)[1] == 0
whole = time.monotonic() - began
draw, killed = random.Random(form), 0
for number in range(kills):
    pid = start(root / "out")
    time.sleep(draw.uniform(0, whole * (0.25 + number / kills)))
    os.kill(pid, 9)
    status = os.waitpid(pid, 0)[1]
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, status
    killed += os.WIFSIGNALED(status)
assert os.waitpid(start(root / "out"), 0)[1] == 0
print(killed)
"""


def quick(form: str) -> object:
    """Most formats only run with the long tests; all share what goes on after a kill."""
    return form if form == "parquet" else pytest.param(form, marks=pytest.mark.long)


@pytest.mark.parametrize("form", [quick(name) for name in NAMES])
def test_twenty_kills_leave_no_trace(tmp_path: Path, form: str) -> None:
    rich_part(tmp_path / "part", 16)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", DRIVER, str(tmp_path), form, str(KILLS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) >= KILLS // 4, "the exports ended before they could be killed"
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_kill_in_the_first_moment_is_gone_over(tmp_path: Path) -> None:
    """It left half of export.json, and the next run took the folder for somebody else's."""
    part = rich_part(tmp_path / "part", 4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export.json.part").write_bytes(b'{"fo')
    export("csv", part, tmp_path / "out")
    export("csv", part, tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
