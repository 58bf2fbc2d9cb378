"""Curation by commands: labels in and out, a taste, scores, one-line errors."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from curating import faces_to_judge, liked
from PIL import Image
from tiny import embedded_part, tiny_pixels, unit

import cli
from curation.commands.taste import _thresholds
from curation.labels.store import FILE, LabelStore
from curation.taste.judge import _without_nan
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
    assert "90 labels stored, 1 names no face here" in run("labels", "import", part.root, table)
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


def test_import_counts_truly(part: Part, tmp_path: Path) -> None:
    first, second = sorted(liked(part))[:2]
    table = tmp_path / "labels.csv"
    for word, said in (("keep", "1 label stored\n"), ("reject", "1 label stored\n")) * 2:
        table.write_text(f"Face_ID;Label\n{first};{word}\n")
        assert run("labels", "import", part.root, table) == said
    table.write_text(f"face_id,label\n{first},reject\n{second},keep\nx,keep\ny,keep\n")
    wanted = "1 label stored, 1 known before, 2 name no face here\n"
    assert run("labels", "import", part.root, table) == wanted
    wanted = "0 labels stored, 2 known before, 2 name no face here\n"
    assert run("labels", "import", part.root, table) == wanted


def test_labels_by_path_and_after_a_move(tmp_path: Path) -> None:
    """Two files of one name; then one of them moves, and its label is carried over."""
    art = tmp_path / "art"
    for folder, seed in (("a", 1), ("b", 2)):
        (art / folder).mkdir(parents=True)
        Image.fromarray(tiny_pixels(1, 64, seed)[0]).save(art / folder / "1.png")
    part = tmp_path / "part"
    run("ingest", art, part)
    table = tmp_path / "labels.csv"
    table.write_text("file,label\n1.png,reject\n")
    said = run("labels", "import", part, table, code=2)
    assert said.count("\n") == 1 and "a/1.png" in said and "b/1.png" in said
    table.write_text("file,label\na/1.png,reject\n")
    assert run("labels", "import", part, table) == "1 label stored\n"

    def rejected() -> list[str]:
        with LabelStore(part / FILE, readonly=True) as store:
            labels = store.labels()
        return [r.source for r in Part.open(part).faces() if labels.get(r.face_id) is False]

    assert rejected() == ["a/1.png"]
    (art / "a").rename(art / "c")
    run("ingest", art, part, "--redo")
    assert rejected() == []
    run("labels", "export", part, tmp_path / "out.csv")
    assert run("labels", "import", part, tmp_path / "out.csv") == "1 label stored\n"
    assert rejected() == ["c/1.png"]
    assert (
        run("labels", "import", part, tmp_path / "out.csv") == "0 labels stored, 1 known before\n"
    )


def test_a_worthless_taste_says_that_it_decides_nothing(part: Part, tmp_path: Path) -> None:
    ids = sorted(liked(part))[:60]
    chance = np.random.default_rng(0).random(len(ids)) < 0.5
    lines = [f"{f},{'keep' if k else 'reject'}" for f, k in zip(ids, chance, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["face_id,label", *lines]) + "\n")
    run("labels", "import", part.root, tmp_path / "labels.csv")
    said = run("taste", "fit", part.root, "--precision", "0.99")
    assert "no threshold reaches a precision of 0.99, so this taste will accept or reject" in said
    assert "label more faces, give a lower --precision" in said
    assert "inf" not in said
    said = run("taste", "evaluate", part.root, "--precision", "0.99")
    assert "accepted are kept  no face" in said and "nan" not in said


def test_json_of_what_is_not_defined() -> None:
    found = _without_nan({"a": math.nan, "b": (1.0, [math.nan, {"c": "x"}])})
    assert json.loads(json.dumps(found)) == {"a": None, "b": [1.0, [None, {"c": "x"}]]}


@pytest.mark.parametrize(
    ("accept", "reject", "lines"),
    [
        (0.9, 0.1, ["accept from 0.900, reject up to 0.100"]),
        (math.inf, 0.1, ["reject up to 0.100", "so this taste will accept nothing"]),
        (0.9, -math.inf, ["accept from 0.900", "so this taste will reject nothing"]),
    ],
)
def test_thresholds_in_words(accept: float, reject: float, lines: list[str]) -> None:
    found = _thresholds(accept, reject, 0.95)
    assert len(found) == len(lines)
    assert all(part in line for part, line in zip(lines, found, strict=True))


def test_labels_of_one_inspiration(tmp_path: Path) -> None:
    vectors = np.random.default_rng(3).standard_normal((40, 16))
    part = embedded_part(tmp_path / "part", unit(vectors), shard_size=50)
    records = [replace(r, parent_id="only") for r in part.read_shard("synthesize", 0)]
    part.write_shard("synthesize", 0, records)
    lines = [f"{r.face_id},{'keep' if i % 2 else 'reject'}" for i, r in enumerate(records)]
    (tmp_path / "labels.csv").write_text("\n".join(["face_id,label", *lines]) + "\n")
    run("labels", "import", part.root, tmp_path / "labels.csv")
    for words in (("fit",), ("evaluate",)):
        said = run("taste", *words, part.root, code=2)
        assert said.count("\n") == 1 and "come from one inspiration" in said


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
        (("curate", "{part}", "--random-share", "3"), "3.0 is not in the range 0<=x<=1"),
        (("curate", "{part}", "--random-share", "nan"), "nan is not a number in the range 0<=x<=1"),
        (("curate", "{part}", "--repeat-share", "-1"), "is not in the range"),
        (("curate", "{part}", "--overlap", "inf"), "is not in the range"),
        (("curate", "{part}", "--port", "70000"), "is not in the range"),
        (("curate", "{part}", "--retrain", "0"), "is not in the range"),
        (("curate", "{part}", "--seed", "-1"), "is not in the range"),
        (("labels", "import", "{part}", "a.csv", "--annotator", " "), "is empty; wanted a name"),
        *(
            (("taste", name, "{part}", "--precision", value), "range 0<x<1")
            for name in ("fit", "evaluate", "report")
            for value in ("nan", "0", "1", "-0.5", "95", "inf")
        ),
        (("export", "{part}", "x", "--sample", "0"), "is not in the range"),
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
