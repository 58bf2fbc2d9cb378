"""`sfhq select`: the largest choice that meets targets, and what is missing for more."""

from __future__ import annotations

import csv
import itertools
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import told as sfhq
from tiny import finish, finish_about

from curation.missing import recipe_of
from curation.select import Target, Targets, choose, select
from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.render.people.recipe import load_render_recipe


def part_of(root: Path, count: int = 40, near: bool = True) -> Part:
    """Faces of which a quarter is old and a tenth wears glasses; every fifth is near the last."""
    part = Part.create(root)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, 16))
    for i in range(5, count, 5):
        vectors[i] = vectors[i - 1] + 0.01 * rng.normal(size=16) * near
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    records = [FaceRecord(f"f{i:03d}") for i in range(count)]
    finish(part, "sample", [records])
    said = [
        FaceRecord(f"f{i:03d}")
        .with_columns(years=80.0 if i % 4 == 0 else 30.0, quality=float(i), glasses="none")
        .with_array("embedding", vectors[i].astype(np.float32))
        for i in range(count)
    ]
    for i in range(0, count, 10):
        said[i] = said[i].with_columns(years=80.0, quality=float(i), glasses="clear")
    columns: Any = {"years": "number", "quality": "number", "glasses": "text"}
    finish_about(part, "attribute", [said], columns)
    return part


def best_by_trying(
    meets: np.ndarray[Any, Any], targets: list[Target], near: list[tuple[int, int]]
) -> int:
    """Size of the largest choice, of all choices."""
    count = meets.shape[1]
    for size in range(count, 0, -1):
        for some in itertools.combinations(range(count), size):
            rows = list(some)
            if any(a in some and b in some for a, b in near):
                continue
            shares = meets[:, rows].mean(1)
            if all(
                t.least - 1e-9 <= s <= t.most + 1e-9 for t, s in zip(targets, shares, strict=True)
            ):
                return size
    return 0


@pytest.mark.parametrize("seed", range(12))
def test_no_choice_is_larger(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 9
    meets = rng.random((2, count)) < [[0.3], [0.6]]
    targets = [Target("a", least=0.4), Target("b", least=0.2, most=0.6)]
    pairs = [p for p in itertools.combinations(range(count), 2) if rng.random() < 0.12]
    near = np.array([(j, i) for i, j in pairs], np.int64).reshape(-1, 2)
    worth = rng.random(count)
    chosen, proven = choose(meets, targets, near, None, worth)
    assert proven and chosen.sum() == best_by_trying(meets, targets, pairs)
    if chosen.any():
        shares = meets[:, chosen].mean(1)
        assert shares[0] >= 0.4 - 1e-9 and 0.2 - 1e-9 <= shares[1] <= 0.6 + 1e-9
        assert not any(chosen[a] and chosen[b] for a, b in pairs)


def test_of_faces_that_are_alike_the_best_are_taken() -> None:
    meets = np.array([[True] * 4 + [False] * 16])
    worth = np.arange(20.0)
    chosen, _ = choose(meets, [Target("a", least=0.5)], np.zeros((0, 2), np.int64), None, worth)
    assert np.flatnonzero(chosen).tolist() == [0, 1, 2, 3, 16, 17, 18, 19]
    near = np.array([[1, 0]])
    chosen, _ = choose(meets[:0], [], near, None, worth)
    assert chosen.sum() == 19 and chosen[1] and not chosen[0], "of two that are near, the better"


def test_a_large_part_is_chosen_from_at_once() -> None:
    rng = np.random.default_rng(1)
    meets = rng.random((6, 200_000)) < 0.2
    targets = [Target(str(i), least=0.3) for i in range(6)]
    chosen, proven = choose(meets, targets, np.zeros((0, 2), np.int64), None, np.zeros(200_000))
    assert proven and (meets[:, chosen].mean(1) >= 0.3 - 1e-9).all() and chosen.sum() > 50_000


def test_targets_of_a_part(tmp_path: Path) -> None:
    part = part_of(tmp_path / "part")
    targets = Targets((Target("years >= 70", least=0.5),), apart=0.98, prefer="quality")
    found = select(part, targets)
    assert found.total == 40 and found.shares["years >= 70"] >= 0.5 and found.proven
    numbers = [int(f[1:]) for f in found.faces]
    assert not any(n % 5 == 0 and n - 1 in numbers for n in numbers if n)
    plain = select(part, Targets((Target("years >= 70", least=0.5),)))
    assert len(plain.faces) == len(found.faces) == 24, "there are 12 old faces"
    assert len(select(part, Targets(apart=0.98)).faces) == 33
    everything = select(part, Targets())
    assert len(everything.faces) == 40


def test_what_is_missing_is_told_by_target(tmp_path: Path) -> None:
    part = part_of(tmp_path / "part", near=False)
    targets = Targets(
        (Target("years >= 70", least=0.5), Target("glasses <> 'none'", most=0.5)), count=36
    )
    found = select(part, targets)
    old = sum(1 for i in range(40) if i % 4 == 0 or i % 10 == 0)
    assert len(found.faces) == 2 * old
    assert [(k.target.condition, k.there, k.wanted, k.missing) for k in found.lacks] == [
        ("years >= 70", old, 18, 18 - old)
    ]
    far = Targets(apart=-0.9, count=30)
    lack = select(part, far).lacks[0]
    assert lack.target.condition == "faces far enough apart" and lack.wanted == 30


def targets_file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_command(tmp_path: Path) -> None:
    part = part_of(tmp_path / "part")
    told = targets_file(
        tmp_path / "t.toml",
        'count = 36\n[share]\n"years >= 70" = 0.5\n'
        "\"glasses = 'clear'\" = { share = 0.1, within = 0.05 }\n",
    )
    out, missing = tmp_path / "chosen.csv", tmp_path / "missing"
    words = ["select", part.root, "--target", told, "--out", out, "--missing", missing]
    result = sfhq(*words)
    assert result.exit_code == 0, result.stderr
    assert "36 asked for" in result.stdout and "missing: 6 faces: years >= 70 (12 there)" in (
        result.stdout
    )
    line = next(k for k in result.stdout.splitlines() if k.startswith("sfhq render"))
    assert line == f"sfhq render missing-1 --count 6 --recipe {missing / 'missing-1.toml'}"
    assert load_render_recipe(missing / "missing-1.toml").age == {"70-85": 1.0}
    with open(out, newline="") as file:
        faces = [row["face_id"] for row in csv.DictReader(file)]
    data = json.loads(sfhq(*words[:4], "--json").stdout)
    assert data["chosen"] == len(faces) == len({*faces}) and data["proven"] is True
    assert sfhq(*words[:4], "--strict").exit_code == 3


def test_recipes_that_the_renderer_understands(tmp_path: Path) -> None:
    for condition in (
        *("years >= 70", "years < 18", "not (years < 18)", "years between 5 and 12", "male > 0.5"),
        *("male < 0.5", "not (male > 0.5)", "glasses <> 'none'", "glasses = 'sunglasses'"),
        *("hat = 'cap'", "facial_hair = 'full beard'", "hat = 'none'", "not (hat <> 'none')"),
    ):
        text = recipe_of(condition)
        assert text is not None, condition
        tomllib.loads(text)
        load_render_recipe(targets_file(tmp_path / "r.toml", text))
    assert recipe_of("not (years < 18)") == '[age]\n"18-85" = 1.0\n'
    assert recipe_of("years < 18") == '[age]\n"5-17" = 1.0\n'
    for condition in ("yaw > 30", "years >= 70 and male > 0.5", "skin_tone = 'dark'"):
        assert recipe_of(condition) is None


def test_targets_that_are_none(tmp_path: Path) -> None:
    for text, said in (
        ("count = 0", "count is 0; wanted a whole number from 1"),
        ("apart = 2", "apart is 2; wanted a number from -1 to 1"),
        ("size = 3", "size is unknown; wanted count, apart, prefer"),
        ("share = 3", "share is no table"),
        ('[share]\n"a" = 2', "least is 2; wanted a number from 0 to 1"),
        ('[share]\n"a" = { best = 1 }', "'a' has best; wanted least, most"),
        ('[share]\n"a" = { least = 0.5, most = 0.2 }', "least 0.5 is above most 0.2"),
        ("count = [", "t.toml: "),
    ):
        with pytest.raises(UsageError, match=said.replace("(", r"\(")):
            Targets.read(targets_file(tmp_path / "t.toml", text))
    with pytest.raises(UsageError, match="no such file of targets"):
        Targets.read(tmp_path / "none.toml")
    part = part_of(tmp_path / "part")
    with pytest.raises(UsageError, match="the columns are: "):
        select(part, Targets((Target("shoes = 1"),)))
    with pytest.raises(UsageError, match=r"no choice meets all targets; of 40 faces 0 meet"):
        select(part, Targets((Target("years > 100", least=0.5),)))
    bare = Part.create(tmp_path / "bare")
    finish(bare, "sample", [[FaceRecord("a")]])
    with pytest.raises(UsageError, match="has no embedding, which `apart` needs; run: sfhq embed"):
        select(bare, Targets(apart=0.9))
