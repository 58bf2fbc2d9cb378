"""A stage is a file and a row: from these come command, help, recipe key, run, resume and redo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import sfhq
from tiny import tree, write_squares
from toy_halo import Halo

from sfhq import stages
from sfhq.parts.lineage import readers
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.pipeline import Pipeline, load_recipe
from sfhq.pipeline.engine import run_stage

# The one row. A stage of the project's own would have it in sfhq/stages.py.
ROW = stages.StageRow("halo", "toy_halo:Halo", "Measure the rim of every photo.", in_run=True)
STEPS = ("ingest", "halo")


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "STAGES", (*stages.STAGES, ROW))


@pytest.fixture
def art(tmp_path: Path) -> Path:
    return write_squares(tmp_path / "art", 5)


@pytest.fixture
def part(art: Path, tmp_path: Path) -> Path:
    sfhq("ingest", art, tmp_path / "part")
    return tmp_path / "part"


def test_it_is_listed_and_explains_itself() -> None:
    assert "Measure the rim of every photo." in sfhq("--help").stdout
    text = sfhq("halo", "--help").stdout
    assert "sfhq halo part-05 --rim 3" in text
    assert "--rim INTEGER RANGE" in text and "Pixels of the rim.  [default: 2]" in text
    assert "--rim" in sfhq("run", "--help").stdout, "a run takes its options, too"


def test_its_command_runs_it_and_show_and_table_know_it(part: Path) -> None:
    done = sfhq("halo", part, "--rim", 3, "--json")
    assert json.loads(done.stdout) == {"stage": "halo", "entered": 5, "alive": 5, "rejected": {}}
    assert Part.open(part).stage_info("halo")["settings"] == {"rim": 3, "limit": None}
    assert "halo             5 in       5 out" in sfhq("show", part).stdout
    lines = sfhq("table", part, "--columns", "halo", "--where", "halo > 0").stdout.splitlines()
    assert lines[0] == '"halo"' and len(lines) == 6


def test_its_settings_are_checked(part: Path) -> None:
    assert "'--rim': 0 is not in the range 1<=x<=9" in sfhq("halo", part, "--rim", 0, code=2).stderr
    sfhq("halo", part)
    said = sfhq("halo", part, "--rim", 4, code=2).stderr
    assert "halo was run with rim=2, now rim=4" in said


def test_a_recipe_has_its_table(part: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text("[halo]\nrim = 5\n")
    sfhq("halo", part, "--recipe", recipe)
    assert Part.open(part).stage_info("halo")["settings"]["rim"] == 5
    recipe.write_text("[halo]\nrims = 5\n")
    said = sfhq("halo", part, "--recipe", recipe, code=2).stderr
    assert "unknown key halo.rims; did you mean halo.rim?" in said


def test_a_run_includes_it(art: Path, tmp_path: Path) -> None:
    recipe = load_recipe(None, {"ingest.source": art, "halo.rim": 4})
    assert "halo" in Pipeline.from_recipe(recipe).names
    ended = Pipeline.from_recipe(recipe, STEPS).run(tmp_path / "part")
    assert [(e.stage, e.counts.alive) for e in ended] == [("ingest", 5), ("halo", 5)]
    before = tree(tmp_path / "part")
    Pipeline.from_recipe(recipe, STEPS).run(tmp_path / "part")
    assert tree(tmp_path / "part") == before, "nothing is done twice"


def test_it_resumes_with_the_same_bytes(art: Path, tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        recipe = load_recipe(None, {"ingest.source": art})
        opened = Part.create(tmp_path / name, "toy")
        run_stage(recipe.build("ingest", opened.root), opened, shard_size=2)
    whole, broken = Part.open(tmp_path / "whole"), Part.open(tmp_path / "broken")
    run_stage(Halo(), whole)
    run_stage(Halo(), broken)
    broken.shard_path("halo", 1).unlink()
    broken.write_stage_info("halo", {**broken.stage_info("halo"), "complete": False})
    kept = broken.shard_path("halo", 0).stat().st_mtime_ns
    run_stage(Halo(), broken)
    assert broken.shard_path("halo", 0).stat().st_mtime_ns == kept
    assert tree(whole.root / "records") == tree(broken.root / "records")


def test_redo_does_it_again_and_nothing_else(part: Path) -> None:
    before = tree(part)
    sfhq("halo", part)
    first = tree(part)
    sfhq("halo", part, "--rim", 4, "--redo")
    opened = Part.open(part)
    assert opened.stages() == ["ingest", "halo"]
    assert opened.stage_info("halo")["settings"]["rim"] == 4
    kept = {p: d for p, d in before.items() if p != "part.json"}  # which says what has ended
    assert {p: d for p, d in tree(part).items() if p in kept} == kept
    sfhq("halo", part, "--redo")
    assert tree(part) == first
    sfhq("ingest", opened.stage_info("ingest")["settings"]["source"], part, "--redo")
    assert opened.stages() == ["ingest"], "what read the photos goes with them"


def test_its_rejections_count_for_those_after_it(part: Path) -> None:
    values = sorted(r.about["halo"] for r in _with_halo(part))
    limit = (values[2] + values[3]) / 2
    sfhq("halo", part, "--limit", limit, "--redo")
    assert f"rejected: {2} bright rim" in sfhq("show", part).stdout
    opened = Part.open(part)
    assert len(list(opened.faces())) == 3
    assert readers(opened, "halo") == []
    assert sfhq("halo", part, "--limit", limit, "--strict", code=3)


def _with_halo(part: Path) -> list[FaceRecord]:
    sfhq("halo", part)
    return list(Part.open(part).faces())
