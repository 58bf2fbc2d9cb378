"""What single checks of sfhq validate find: shortcuts, skin, intervals, people, the report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from published import NAME, SIDE, art, published_part

import cli
from annotate.judge.captions import caption_problems
from curation.labels.events import Action, LabelEvent
from curation.labels.store import FILE, LabelStore
from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import Pixels
from sfhq.publish import report as reports
from sfhq.publish.checks import audits, balance, people
from sfhq.publish.checks.context import Options
from sfhq.publish.checks.result import Result, wilson
from sfhq.publish.validate import validate


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_part(tmp_path_factory.mktemp("sound") / "part").root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(sound, tmp_path / "part"))


class TestShortcuts:
    def test_candidates_whose_colours_give_them_away_are_named(self, tmp_path: Path) -> None:
        def photograph(index: int, number: int) -> Pixels:
            return np.asarray(art(index) // (1 + number), np.uint8)

        part = published_part(tmp_path / "part", 22, photograph=photograph)
        result = validate(part, only=["shortcuts"]).result("shortcuts")
        assert result.state == "failed"
        assert result.severity == "quality"
        assert [f.where for f in result.findings] == [
            "candidate low from others"
        ]  # strict: the same
        assert result.figures["auc"]["candidate low from others"]["low"] > 0.7

    def test_labels_of_people_count_and_few_tell_nothing(self, root: Path) -> None:
        part = Part.open(root)
        with LabelStore(root / FILE) as store:
            for number, record in enumerate(part.faces()):
                action = Action.KEEP if number % 2 else Action.REJECT
                event = LabelEvent(record.face_id, "", action, "ann", "s", f"c{number}", 1.0)
                store.append([event])
        result = validate(part, only=["shortcuts"]).result("shortcuts")
        assert result.state == "not checked"  # 12 of each are too few
        assert "needs 20 photos each" in result.note

    def test_the_area_is_that_of_a_linear_model(self) -> None:
        rng = np.random.default_rng(2)
        truth = rng.random(300) < 0.4
        noise = rng.standard_normal((300, 5))
        blind = audits.auc(noise, truth)
        assert blind[1] < 0.5 < blind[2] + 0.05
        seen = audits.auc(noise + 3.0 * truth[:, None], truth)
        assert seen[0] > 0.99
        assert seen[1] > audits.GIVEN_AWAY


class TestSkin:
    def test_the_angle_is_that_of_the_cheeks(self) -> None:
        from sfhq.colour import to_lab

        skin = np.zeros((100, 100, 3), np.uint8) + np.array([214, 164, 134], np.uint8)
        lightness, _, b = to_lab(skin[:1, :1])[0, 0]
        expected = np.degrees(np.arctan2(lightness - 50, b))
        assert audits.angle_of(skin) == pytest.approx(expected, abs=0.01)
        blue = np.zeros((100, 100, 3), np.uint8) + np.array([60, 90, 200], np.uint8)
        assert audits.angle_of(blue) is None

    @pytest.mark.parametrize(
        ("added", "state", "word"), [(40, "failed", "lighter"), (0, "passed", "")]
    )
    def test_photos_lighter_than_their_art_are_noticed(
        self, tmp_path: Path, added: int, state: str, word: str
    ) -> None:
        def draw(index: int) -> Pixels:
            tone = np.array([150 + index, 105, 80], np.uint8)
            return np.zeros((SIDE, SIDE, 3), np.uint8) + tone

        def photograph(index: int, number: int) -> Pixels:
            return np.asarray(draw(index) + np.uint8(added + number), np.uint8)

        part = published_part(tmp_path / "part", draw=draw, photograph=photograph)
        result = validate(part, only=["skin"]).result("skin")
        assert result.state == state
        assert result.figures["photos"] == 24
        expected = np.mean(
            [
                (audits.angle_of(photograph(i, n)) or 0) - (audits.angle_of(draw(i)) or 0)
                for i in range(12)
                for n in range(2)
            ]
        )
        assert result.figures["mean_drift"] == pytest.approx(expected, abs=0.5)
        assert word in result.note


class TestIntervals:
    def test_wilson(self) -> None:
        from scipy.stats import binomtest

        for hits, count in ((0, 10), (3, 10), (10, 10), (50, 200)):
            known = binomtest(hits, count).proportion_ci(method="wilson")
            assert wilson(hits, count) == pytest.approx((known.low, known.high), abs=1e-5)
        assert wilson(0, 0) == (0.0, 1.0)

    def test_small_cells_are_all_that_could_be(self, sound: Path) -> None:
        records = list(Part.open(sound).faces())
        total, few = balance.small_cells(records)
        assert total == 2 * 2 * 2  # sex, two ages, two skin tones
        assert sum(cell[-1] for cell in few) == 24
        assert min(cell[-1] for cell in few) == 0  # also cells that nobody is in


class TestPeople:
    def test_the_cosine_grows_as_the_rate_falls(self) -> None:
        rates = (1e-1, 1e-2, 3e-3, 1e-3, 1e-4)
        cosines = [people.cosine_at("dlib-face", rate) or 0.0 for rate in rates]
        assert cosines == sorted(cosines)
        assert people.cosine_at("clip", 1e-3) is None

    def test_a_real_face_in_the_part_is_found(
        self, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        part = Part.open(sound)
        record = next(iter(part.faces()))
        mine = np.asarray(part.row("embedding", record))
        other = np.zeros(64, np.float32)
        other[0] = 1.0
        folder = tmp_path / "real"
        folder.mkdir()
        for name in ("a", "b"):
            Image.fromarray(np.full((32, 32, 3), ord(name), np.uint8)).save(folder / f"{name}.png")
        (folder / "c.jpg").write_bytes(b"torn")

        def encoder(name: str) -> Callable[[list[Any]], Any]:
            assert name == "dlib-face"
            return lambda images: np.stack(
                [2.0 * mine if image[0, 0, 0] == ord("a") else other for image in images]
            )

        monkeypatch.setattr("sfhq.stages.network", lambda what: encoder)
        result = validate(part, Options(real=folder), only=["nearest-real"]).result("nearest-real")
        assert result.state == "failed"
        assert result.count == 1
        assert result.findings[0].where == record.face_id
        assert "a.png" in result.findings[0].what
        assert (result.figures["real"], result.figures["unread"]) == (2, 1)

    def test_an_empty_folder_is_refused(self, sound: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no photograph in it"):
            validate(Part.open(sound), Options(real=tmp_path), only=["nearest-real"])


class TestReport:
    def test_the_page_needs_no_other_file_and_escapes_names(self, sound: Path) -> None:
        found = validate(Part.open(sound))
        bad = Result("files", "t", "integrity")
        bad.add("<script>alert(1)</script>", "<b>")
        page = reports.as_page(replace(found, results=(bad, *found.results[1:])))
        assert "<script>" not in page
        assert "&lt;script&gt;" in page
        assert "http" not in page.replace("http://www.w3.org", "")

    def test_the_command_writes_it(self, sound: Path, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "report.html"
        done = CliRunner().invoke(cli.main, ["validate", str(sound), "--html", str(target)])
        assert done.exit_code == 0, done.output
        assert done.output.splitlines()[0] == f"{NAME}: 24 photos"
        assert "Who the photos show" in target.read_text()

    @pytest.mark.parametrize("option", ["--real", "--targets", "--export"])
    def test_what_is_not_there_is_one_line(self, sound: Path, tmp_path: Path, option: str) -> None:
        missing = str(tmp_path / "nothing")
        done = CliRunner().invoke(cli.main, ["validate", str(sound), option, missing])
        assert done.exit_code == 2
        assert f"{missing}: no such file or folder; {option}" in done.stderr


def test_captions_without_facts_have_no_problems() -> None:
    from sfhq.parts.records import FaceRecord

    assert caption_problems(FaceRecord("a")) == []
    broken = FaceRecord("a", about={"caption": "A man.", "caption_facts": "{"})
    assert "cannot be read" in caption_problems(broken)[0]
