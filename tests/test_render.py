"""Rendered heads: the same bytes, exact labels, a part that later stages accept, clear errors."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny import tree

from cli import main
from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import Array
from sfhq.pipeline.engine import run_stage
from sfhq.render.render import Render

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("anny") is None or importlib.util.find_spec("mitsuba") is None,
    reason="needs pip install 'sfhq[render]'",
)
ROOT = Path(__file__).parents[1]
SMALL = Render(count=4, seed=3, size=64, styles=("photo", "oil"), samples=1)
FLIP = np.arange(19)
FLIP[[2, 3, 4, 5, 7, 8]] = [3, 2, 5, 4, 8, 7]


def fails(*words: object, code: int = 2) -> str:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("sfhq: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Part:
    part = Part.create(tmp_path_factory.mktemp("render") / "heads")
    run_stage(SMALL, part)
    return part


def pictures(root: Path) -> dict[str, str]:
    return {k: v for k, v in tree(root).items() if k.endswith((".png", ".npy"))}


@pytest.mark.parametrize("count", [2, pytest.param(10, marks=pytest.mark.long)])
def test_heads_are_the_same_bytes_twice(tmp_path: Path, count: int) -> None:
    several = replace(SMALL, count=count, styles=("photo", "oil", "clay"))
    one, other = Part.create(tmp_path / "one"), Part.create(tmp_path / "other")
    run_stage(several, one, shard_size=1)
    run_stage(several, other, shard_size=1, workers=2)
    first, second = tree(one.root), tree(other.root)
    first.pop("part.json"), second.pop("part.json")
    assert first == second
    assert len([k for k in first if k.startswith("renders/")]) == count


def test_a_face_does_not_depend_on_the_run_it_is_in(heads: Part, tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    run_stage(replace(SMALL, count=2, seed=5), part)
    whole, half = pictures(heads.root), pictures(part.root)
    same = [k for k in half if k.endswith(".png")]
    assert len(same) > 7 and all(half[k] == whole[k] for k in same)


def test_a_ray_at_the_end_of_the_last_strand_crashes_nothing(tmp_path: Path) -> None:
    """Mitsuba crashes, and with it the worker, on a hit at the end of a file's last curve."""
    from sfhq.render.scene.picture import _write_curves

    hidden = np.array([0.0, 7.5, 0.4], np.float32)
    rng = np.random.default_rng(0)
    _write_curves(tmp_path / "curves.txt", rng.normal(0, 1, (3, 4, 3)), np.ones((3, 4)), hidden)
    curves = (tmp_path / "curves.txt").read_text().strip().split("\n\n")
    last = np.array([line.split() for line in curves[-1].splitlines()], float)
    assert (
        len(curves) == 4 and np.abs(last[:, :3] - hidden).max() < 2e-3 and (last[:, 3] < 1e-3).all()
    )
    words = [sys.executable, "-c", "from cli import main; main()", "render", str(tmp_path / "part")]
    options = ["--count", "1", "--seed", "21311", "--size", "128"]
    done = subprocess.run([*words, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_a_record_holds(heads: Part) -> None:
    records = list(heads.records("render"))
    assert [r.seed for r in records] == [3, 4, 5, 6]
    assert [r.params["style"] for r in records] == ["oil", "photo", "oil", "photo"]
    for record in records:
        assert record.alive and record.licence == "CC0-1.0" and record.width == 64
        assert len(record.params["attributes"]) == 40
        assert record.params["attributes"]["Attractive"] is None
        assert 5 <= record.params["details"]["years"] <= 85
        blurry = record.params["details"]["blur"] > 6
        assert record.params["attributes"]["Blurry"] == blurry
        assert heads.row("render_landmarks", record).shape == (110, 3)
        styled = record.params["style"] != "photo"
        assert ("art" in record.hashes) == styled
        assert record.source == f"{'art' if styled else 'renders'}/{record.face_id}.png"
        folder = record.source.partition("/")[0]
        assert record.source_sha256 == record.hashes[folder]


def test_masks_are_files_of_ids(heads: Part) -> None:
    for record in heads.records("render"):
        masks = {}
        for folder in ("segmentations", "bare", "covers"):
            with Image.open(heads.image_path(folder, record.face_id)) as image:
                assert image.mode == "P" and image.size == (64, 64)
                masks[folder] = np.asarray(image)
        assert set(np.unique(masks["segmentations"])) <= set(range(19))
        assert not set(np.unique(masks["bare"])) & {6, 9, 15, 16, 17, 18}
        assert {1, 10} <= set(np.unique(masks["bare"]))
        # What the body shows is what is seen where nothing covers it.
        open_ = masks["covers"] == 0
        assert (masks["bare"] == masks["segmentations"])[open_].mean() > 0.97
        with Image.open(heads.image_path("renders", record.face_id)) as image:
            assert image.mode == "RGB" and np.asarray(image).std() > 8


@pytest.mark.parametrize("seed", [2, 9, 47])
def test_left_and_right_swap_in_a_mirror(seed: int) -> None:
    from sfhq.render.labels.classes import read
    from sfhq.render.people.recipe import RenderRecipe
    from sfhq.render.people.sampling import person
    from sfhq.render.scene.model import make, mirror

    model = make(person(seed, RenderRecipe()))
    labels, flipped = read(model, 96), read(mirror(model), 96)
    np.testing.assert_array_equal(flipped.classes, FLIP[labels.classes[:, ::-1]])
    np.testing.assert_array_equal(flipped.bare, FLIP[labels.bare[:, ::-1]])
    np.testing.assert_array_equal(flipped.covers, labels.covers[:, ::-1])
    assert len(np.unique(labels.classes)) > 8


def test_left_is_the_subjects_left() -> None:
    from sfhq.render.labels.classes import read
    from sfhq.render.person import Hair, Person
    from sfhq.render.scene.model import make

    labels = read(make(Person(seed=1, hair=Hair(style="bald"))), 96)
    x = np.arange(96)[None] + np.zeros((96, 1))
    for left, right in ((2, 3), (4, 5), (7, 8)):
        assert x[labels.classes == left].mean() > 48 > x[labels.classes == right].mean()
    rows = {c: np.mean(np.nonzero(labels.classes == c)[0]) for c in (2, 4, 10, 12, 13, 14)}
    assert rows[2] < rows[4] < rows[10] < rows[12] < rows[13] < rows[14]


def test_masks_are_those_of_a_larger_picture() -> None:
    from sfhq.render.labels.classes import read
    from sfhq.render.people.recipe import RenderRecipe
    from sfhq.render.people.sampling import person
    from sfhq.render.scene.model import make

    model = make(person(9, RenderRecipe()))
    small, large = read(model, 64), read(model, 256)
    reduced = large.shares.reshape(19, 64, 4, 64, 4).mean((2, 4))
    np.testing.assert_allclose(small.shares.sum(0), 1, atol=1e-5)
    assert np.abs(small.shares - reduced).max() < 0.5  # a border's shift in pixels
    assert (small.classes != reduced.argmax(0)).mean() < 0.01


def test_glasses_are_seen_through() -> None:
    from sfhq.render.labels.classes import ID, read
    from sfhq.render.person import Hair, Person, Wear
    from sfhq.render.scene.model import make

    plain = Person(seed=4, hair=Hair(style="buzz", length=0.05))
    labels = read(make(replace(plain, wear=Wear(glasses="round"))), 128)
    without = read(make(plain), 128)
    lens = labels.classes == ID["eye_g"]
    assert lens.sum() > 300 and not (labels.classes == ID["l_eye"]).any()
    assert (labels.bare == without.bare).mean() > 0.999
    assert ((labels.covers & 1 > 0) == lens).mean() > 0.99
    # Clear glass does not colour what is behind it; a frame does.
    inside = lens & (np.abs(labels.albedo[0] - without.albedo[0]).max(-1) < 1e-3)
    assert inside.sum() > 0.5 * lens.sum()


@pytest.mark.parametrize("style", ["long", "wavy", "curly", "bob"])
def test_hair_behind_shows_ears_and_what_is_worn(style: str) -> None:
    from sfhq.render.labels.classes import ID, read
    from sfhq.render.person import Hair, Person, Wear
    from sfhq.render.scene.model import make

    hair = Hair(style=style, length=1.8 if style != "bob" else 1.0, wave=0.3, curl=0.3)
    worn = Wear(earrings=True, necklace=True, clothes="tee")
    loose = Person(seed=6, male=0.0, hair=hair, wear=worn)
    shown = read(make(loose), 128).classes
    behind = read(make(replace(loose, hair=replace(hair, behind=True))), 128).classes
    ears = (ID["l_ear"], ID["r_ear"])
    assert np.isin(behind, ears).sum() > np.isin(shown, ears).sum() + 30
    assert (behind == ID["ear_r"]).sum() > 3 and (behind == ID["neck_l"]).sum() > 3


@pytest.mark.parametrize(("years", "yaw"), [(30.0, 0.0), (30.0, 35.0), (8.0, -20.0)])
def test_headscarf_covers_hair_ears_and_neck_and_leaves_the_face(years: float, yaw: float) -> None:
    from sfhq.render.labels.classes import ID, read
    from sfhq.render.person import Hair, Person, View, Wear
    from sfhq.render.scene.model import make

    bare = Person(
        seed=6, years=years, male=0.0, hair=Hair(style="long", length=1.8), view=View(yaw=yaw)
    )
    plain = read(make(bare), 128).classes
    found = read(make(replace(bare, wear=Wear(hat="headscarf"))), 128)
    count = {name: int((found.classes == number).sum()) for name, number in ID.items()}
    assert count["l_ear"] + count["r_ear"] == 0
    assert count["hair"] < 0.02 * (plain == ID["hair"]).sum()
    assert count["neck"] < 0.3 * (plain == ID["neck"]).sum()
    assert count["hat"] > 2000
    inner = ("l_eye", "r_eye", "l_brow", "r_brow", "nose", "u_lip", "l_lip")
    features = np.isin(plain, [ID[n] for n in inner])
    assert (found.classes == plain)[features].mean() > 0.97
    assert count["skin"] > 0.55 * (plain == ID["skin"]).sum()


def test_there_is_light_in_the_mouth() -> None:
    from sfhq.render.develop import FACE, IN_MOUTH, _through_lips
    from sfhq.render.labels.classes import ID, read
    from sfhq.render.person import Person
    from sfhq.render.scene.model import make

    labels = read(make(Person(seed=2, expression={"jawOpen": 0.5})), 128)
    inside = (labels.classes == ID["mouth"]) & (labels.solid > 0.99)
    assert inside.sum() > 20
    light = np.ones((128, 128, 3), np.float32)
    light[labels.classes == ID["mouth"]] = 0.0
    out = _through_lips(light, labels)
    assert out[inside].min() > 0.98 * IN_MOUTH
    assert (out[np.isin(labels.classes, FACE)] == 1).all()


def test_a_glint_is_brought_down_and_a_slope_of_light_is_not() -> None:
    from sfhq.render.develop import _calm, _tame

    pure = np.ones((128, 128), np.float32)
    slope = np.repeat(np.linspace(0.2, 2.0, 128, dtype=np.float32)[None, :, None], 128, 0)
    slope = slope.repeat(3, 2)
    spotted = slope.copy()
    spotted[40:42, 60:62] = 30.0  # two by two: the median of nine does not see it
    out = _tame(_calm(spotted, pure), pure, 1.5)
    assert out.max() < 6
    np.testing.assert_array_equal(_tame(_calm(slope, pure), pure, 1.5), slope)


def test_colour_is_softer_than_light() -> None:
    """A line of another tone keeps its edges; a line of another colour as light loses some."""
    from sfhq.render.develop import LUMA, camera

    grey = np.full((64, 64, 3), 0.3, np.float32)
    tone, hue = grey.copy(), grey.copy()
    tone[:, 32] *= 1.5
    hue[:, 32] *= np.array([1.5, 1.0, 0.4])
    plain, toned, coloured = (
        camera(image, 0.0, np.random.default_rng(0)).astype(np.float64)
        for image in (grey, tone, hue)
    )
    light = (toned - plain) @ LUMA
    colour = (coloured - plain)[..., 0] - (coloured - plain)[..., 2]

    def kept(line: Array) -> float:
        return float(line[:, 32].mean() / line[:, 29:36].mean(0).sum())

    assert kept(colour) < 0.9 * kept(light)


def test_later_stages_take_the_part(heads: Part, tmp_path: Path) -> None:
    from annotate.align import Align

    part = Part.create(tmp_path / "part")
    run_stage(replace(SMALL, size=128, samples=2, styles=("photo",)), part)
    counts = run_stage(Align.load(size=128, max_padding=0.6), part)
    assert counts.entered == 4 and counts.alive >= 3
    assert {r.source for r in part.records("align")} <= {r.source for r in part.records("render")}


def test_a_rendered_part_is_a_source(heads: Part, tmp_path: Path) -> None:
    from sfhq.ingest import Ingest

    part = Part.create(tmp_path / "part")
    counts = run_stage(Ingest(str(heads.root)), part)
    assert counts.alive == 4
    assert {r.source.partition("/")[0] for r in part.records("ingest")} == {"art", "renders"}
    with pytest.raises(UsageError, match="a part; wanted"):
        Ingest(str(part.root)).settings()


def test_the_sheet_shows_labels(heads: Part, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    result = CliRunner().invoke(main, ["sheet", str(heads.root), "--labels", "--out", str(out)])
    assert result.exit_code == 0, result.output
    with Image.open(out) as image:
        green = (np.asarray(image.convert("RGB")) == (60, 245, 140)).all(-1)
    assert green.sum() > 200


def test_the_command(tmp_path: Path) -> None:
    words = ["render", str(tmp_path / "h"), "--count", "2", "--size", "64", "--samples", "1"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "2 in       2 out" in result.output
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 0
    assert "render was run with size=64" in fails(*words[:4], "--size", "96", *words[6:])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--count", 0), "'--count': 0 is not in the range x>=1"),
        (("--count", 1, "--size", 20), "'--size': 20 is not in the range 64<=x<=1024"),
        (("--count", 1, "--seed", -1), "'--seed': -1 is not in the range"),
        (("--count", 1, "--samples", 0), "'--samples': 0 is not in the range"),
        (("--count", 1, "--style", "oils"), "unknown style 'oils'; did you mean oil?"),
        (("--count", 1, "--style", ","), "no style"),
        (("--count", 1, "--recipe", "nothing.toml"), "nothing.toml: cannot read the recipe"),
    ],
)
def test_what_cannot_be_leaves_nothing(
    tmp_path: Path, words: tuple[object, ...], says: str
) -> None:
    assert says in fails("render", tmp_path / "part", *words)
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("module", ["anny", "mitsuba"])
def test_a_missing_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    find = importlib.util.find_spec
    hidden = lambda name, *rest: None if name == module else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    said = fails("render", tmp_path / "part", "--count", 1)
    assert module in said and "pip install 'sfhq[render]'" in said
    assert not (tmp_path / "part").exists()


def test_a_full_disk_is_one_line_and_what_is_done_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace_in_place = os.replace
    written: list[str] = []

    def full(source: object, target: object) -> None:
        if str(target).endswith(".png"):
            written.append(str(target))
            if len(written) == 6:
                raise OSError(errno.ENOSPC, "No space left on device")
        replace_in_place(source, target)  # type: ignore[arg-type]

    words = ("render", tmp_path / "h", "--count", "2", "--size", "64", "--samples", "1")
    monkeypatch.setattr(os, "replace", full)
    assert "free some room" in fails(*words, code=1)
    assert not list((tmp_path / "h").rglob("*.part"))
    assert not list((tmp_path / "h" / "records" / "render").glob("*.parquet"))
    monkeypatch.setattr(os, "replace", whole)
    assert CliRunner().invoke(main, [str(w) for w in words]).exit_code == 0


def test_a_person_whom_nobody_is_does_not_stop_the_others(tmp_path: Path) -> None:
    from sfhq.render.people.recipe import RenderRecipe

    recipe = RenderRecipe(always=("Double_Chin", "Pointy_Nose", "Goatee", "Pale_Skin", "Gray_Hair"))
    part = Part.create(tmp_path / "part")
    counts = run_stage(replace(SMALL, count=2, recipe=recipe), part)
    assert counts.entered == 2
    assert set(counts.rejected) <= {"no such person"}
    for record in part.records("render"):
        assert record.alive or "raise the shares" in record.detail


@pytest.mark.long
def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "from cli import main; main()", "render"]
    options = ["--count", "40", "--size", "64", "--samples", "1"]
    subprocess.run([*words, str(tmp_path / "whole"), *options], check=True, cwd=ROOT)
    killed = 0
    for wait in (5.0, 9.0, 12.0):
        process = subprocess.Popen([*words, str(tmp_path / "part"), *options], cwd=ROOT)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    subprocess.run([*words, str(tmp_path / "part"), *options], check=True, cwd=ROOT)
    first, second = tree(tmp_path / "whole"), tree(tmp_path / "part")
    first.pop("part.json"), second.pop("part.json")
    assert first == second
    assert killed
