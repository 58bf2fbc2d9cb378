"""What every command shares: lines that no name can lead astray, and imports that cost little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import finish

import cli
from sfhq.errors import plain
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord

ROOT = Path(__file__).parent.parent
EVIL = "\x1b]0;owned\x07\x1b[2J\r\nsfhq: done\u202e\x9b31m\x7f"


def test_control_characters_are_spelled_out() -> None:
    assert plain(EVIL).isprintable()
    assert plain("a\x1b[0m\n") == "a\\x1b[0m\\n"
    assert plain("\udcff") == "\\udcff"
    for text in ("mäppchen/絵 🎨.png", "two words", "a\u00a0b", "é"):
        assert plain(text) == text


def test_names_reach_the_terminal_as_one_line(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    record = FaceRecord("a", source=f"{EVIL}.png").reject("ingest", f"bad {EVIL}", EVIL)
    finish(part, "ingest", [[record, FaceRecord("b")]])
    info = part.stage_info("ingest")
    counts = {"entered": 2, "alive": 1, "rejected": {f"bad {EVIL}": 1}}
    part.write_stage_info("ingest", {**info, "counts": counts})
    result = CliRunner().invoke(cli.main, ["show", str(part.root)])
    assert result.exit_code == 0
    assert len(result.stdout.split("\n")) == 4  # the stage, a rejection, what is left, the end
    assert all(line.isprintable() for line in result.stdout.split("\n"))


@pytest.mark.parametrize("command", ["show", "sheet", "table", "embed"])
def test_paths_in_errors_are_one_line(tmp_path: Path, command: str) -> None:
    result = CliRunner().invoke(cli.main, [command, str(tmp_path / EVIL.replace("/", ""))])
    assert result.exit_code == 2
    assert result.stderr.startswith("sfhq: ") and result.stderr.count("\n") == 1
    assert result.stderr.rstrip("\n").isprintable()


LIGHT = """
import sys
import cli

def go(*words):
    try:
        cli.main.main(list(words), standalone_mode=False)
    except SystemExit as end:
        assert not end.code, (words, end.code)
    print(words[0], words[1], "torch" in sys.modules, file=sys.stderr)

art, part, csv = sys.argv[1:]
go("ingest", art, part)
go("align", part)
go("detect", part)
go("show", part)
go("table", part, "--out", csv)
go("labels", "import", part, csv.replace("t.csv", "labels.csv"))
go("labels", "export", part, csv)
"""


def test_commands_that_need_no_network_load_no_torch(tmp_path: Path) -> None:
    """It takes seconds and 500 MB."""
    art = ROOT / "sfhq" / "samples"
    names = sorted(p.name for p in art.glob("*.jpg"))[:2]
    (tmp_path / "list.txt").write_text("\n".join(str(art / name) for name in names))
    (tmp_path / "labels.csv").write_text("face_id,label\nnobody,keep\n")
    done = subprocess.run(
        [
            *(sys.executable, "-c", LIGHT, str(tmp_path / "list.txt")),
            *(str(tmp_path / "part"), str(tmp_path / "t.csv")),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stderr.splitlines() if line.endswith(("True", "False"))]
    assert [words[0] for words in said] == [
        *("ingest", "align", "detect", "show", "table", "labels", "labels"),
    ]
    assert [words[0] for words in said if words[-1] == "True"] == []
