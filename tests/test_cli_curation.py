"""Curation by commands: labels in and out, a taste, scores, one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from curating import faces_to_judge, liked

import cli
from sfhq.parts.join import history
from sfhq.parts.part import Part


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli.main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return faces_to_judge(tmp_path / "part", 120)


def test_from_a_table_of_labels_to_scores(part: Part, tmp_path: Path) -> None:
    taste = liked(part)
    table = tmp_path / "labels.csv"
    lines = [f"{f},{'keep' if kept else 'reject'}" for f, kept in sorted(taste.items())[:90]]
    table.write_text("\n".join(["face_id,label", *lines, "nobody,keep"]) + "\n")
    assert "90 labels stored, 1 name no face here" in run("labels", "import", part.root, table)
    assert "90 rows" in run("labels", "export", part.root, tmp_path / "out.parquet")
    assert "cross-validated AUC" in run("taste", "fit", part.root, "--precision", "0.9")
    found = json.loads(run("taste", "evaluate", part.root, "--json"))
    assert found["auc"][0] > 0.8
    assert "accepted are kept" in run("taste", "report", part.root)
    assert "Calibration" in (part.root / "curation" / "taste.html").read_text()
    run("score", part.root, "--drop")
    stayed = {r.face_id for r in history(part, "score") if r.alive}
    assert {f for f in stayed if taste[f]} and len(stayed) < 120
    run("dedup", part.root, "--threshold", "0.9")
    assert "no two with a cosine above 0.9" in run("dedup", part.root, "--verify")


@pytest.mark.parametrize(("kept", "rejected"), [(0, 0), (20, 0), (9, 30)])
@pytest.mark.parametrize("how", ["evaluate", "report"])
def test_too_few_labels_to_measure_with(
    part: Part, tmp_path: Path, kept: int, rejected: int, how: str
) -> None:
    ids = sorted(liked(part))
    lines = [f"{f},keep" for f in ids[:kept]] + [f"{f},reject" for f in ids[40 : 40 + rejected]]
    if lines:
        (tmp_path / "labels.csv").write_text("\n".join(["face_id,label", *lines]) + "\n")
        run("labels", "import", part.root, tmp_path / "labels.csv")
    said = run("taste", how, part.root, code=2)
    wanted = "of each: label some more" if lines else "make some with: sfhq curate"
    assert said.startswith("sfhq: ") and said.count("\n") == 1 and wanted in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("taste", "fit", "{part}"), "no labels yet; make some with: sfhq curate"),
        (("score", "{part}"), "make one with: sfhq taste fit"),
        (("labels", "import", "{part}", "nothing.csv"), "no such file"),
        (("labels", "import", "{part}", "nothing.xls"), "cannot tell the format"),
        (("curate", "{part}/none"), "not a part"),
        (("curate", "{part}", "--random-share", "3"), "wanted a share"),
        (("embed", "{part}", "--features", "magic"), "unknown feature set 'magic'"),
        (("dedup", "{part}", "--verify", "--calibrate"), "give one of them"),
    ],
)
def test_errors_are_one_line(part: Part, words: tuple[str, ...], message: str) -> None:
    sent = [w.format(part=part.root) for w in words]
    result = CliRunner().invoke(cli.main, sent)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
