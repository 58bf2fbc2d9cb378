"""Labels judged against the truth; overlays and pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from annotated import exact_points, heads, read_part
from command import sfhq
from PIL import Image
from reading import TinyReader, TinyReading
from test_label_stages import aligned_part, attribute, landmark, parse
from tiny import finish, finish_about, tiny_pixels

from annotate.exchange.faces import Labelled, labelled
from annotate.judge.consistency import consistency
from annotate.judge.figures import figures
from annotate.judge.overlay import INFERRED, SEEN, overlay, sheet
from annotate.judge.pairs import pairs
from annotate.judge.report import _histogram, report
from annotate.labels.quality import FORMULAS
from annotate.labels.views import whole_view
from sfhq.errors import UsageError
from sfhq.faces.classes import ID
from sfhq.faces.points import ARRAY, COUNT
from sfhq.images import CLASS_COLOURS
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Pixels
from sfhq.pipeline.engine import run_stage


def test_the_truth_itself_is_perfect(tmp_path: Path) -> None:
    truth = heads(tmp_path / "heads")
    found = figures(pairs(read_part(tmp_path / "read", truth), truth))
    assert found.photos == 4 and found.mean_f1 == 1
    assert {row["f1"] for row in found.classes.values()} == {1.0}
    assert found.classes["hair"]["border_f_1px"] == 1 and found.classes["hair"]["hd95"] == 0
    assert found.classes["eyes"]["f1"] == 1
    assert {row["mean"] for row in found.groups.values()} == {0.0}
    assert found.faces == {"mean": 0, "failure_rate": 0, "area": 1}
    assert found.curves == {"hairline": 0, "contour": 0}
    assert found.flags["visible"] == {"precision": 1, "recall": 1}
    assert found.angles["yaw"] == pytest.approx(2) and found.angles["gaze_pitch"] == 1
    assert found.years == 3
    assert "Attractive" not in found.attributes
    assert found.attributes["Bald"]["balanced_accuracy"] == found.attributes["Bald"]["auc"] == 1
    assert found.attributes["Bald"]["calibration"] == pytest.approx(0.1)


def test_mistakes_are_counted_and_named(tmp_path: Path) -> None:
    truth = heads(tmp_path / "heads")
    found = figures(pairs(read_part(tmp_path / "read", truth, wrong=2), truth), worst=3)
    exact = exact_points()
    unit = exact[45, 0] - exact[36, 0]
    assert found.groups["eyes"]["mean"] == pytest.approx(3 / unit / 2, rel=1e-3)
    assert found.groups["eyes"]["median"] == pytest.approx(3 / unit / 2, rel=1e-3)
    assert found.faces["mean"] == pytest.approx(3 / unit / 2, rel=1e-3)
    assert found.faces["failure_rate"] == 0.5
    masks = [np.asarray(face.mask) for face in labelled(truth)]
    moved = [np.roll(m, 3, 1) if i < 2 else m for i, m in enumerate(masks)]
    hit = sum(
        ((a == ID["hair"]) & (b == ID["hair"])).sum() for a, b in zip(masks, moved, strict=True)
    )
    both = sum((a == ID["hair"]).sum() for a in (*masks, *moved))
    assert found.classes["hair"]["f1"] == pytest.approx(2 * hit / both)
    assert found.mean_f1 < 1 and found.classes["hair"]["hd95"] > 1
    worst = [(kind, name) for name, kind, _ in found.worst]
    assert {*worst[:2]} == {("masks", "read0"), ("masks", "read1")}
    assert [w for w in worst if w[0] == "points"][:2] == [("points", "read0"), ("points", "read1")]


def test_crops_are_laid_on_their_source(tmp_path: Path) -> None:
    truth = heads(tmp_path / "heads", 1)
    (face,) = labelled(truth)
    mask, points = face.mask, face.points
    assert mask is not None and points is not None
    part = Part.create(tmp_path / "read")
    # a crop of 122 pixels of the square from (10, 5) with a side of 50
    matrix = np.array(
        [[50 / 122, 0, 10 + 25 / 122 - 0.5], [0, 50 / 122, 5 + 25 / 122 - 0.5], [0, 0, 1]]
    )
    y, x = np.mgrid[:122, :122]
    at = np.rint(np.stack([x, y], -1) * matrix[0, 0] + matrix[:2, 2]).astype(int)
    crop = mask[at[..., 1], at[..., 0]]
    record = FaceRecord("r", source_sha256=face.record.source_sha256)
    photo = np.zeros((122, 122, 3), np.uint8)
    finish(part, "align", [[record.with_image("aligned", photo).with_array("transform", matrix)]])
    rows = points.copy()
    rows[:, :2] = (points[:, :2] - matrix[:2, 2]) / matrix[0, 0]
    said = FaceRecord("r").with_image("segmentations", crop).with_array(ARRAY, rows)
    finish_about(part, "parse", [[said]])
    found = figures(pairs(part, truth))
    assert found.mean_f1 == 1 and found.groups["the 68"]["mean"] < 1e-5


def test_parts_without_a_common_photo_are_refused(tmp_path: Path) -> None:
    truth = heads(tmp_path / "heads", 1)
    other = aligned_part(tmp_path / "other", tiny_pixels(1))
    run_stage(parse(), other)
    said = sfhq("annotations", "evaluate", other.root, "--truth", truth.root, code=2).stderr
    assert "no photo of it is in" in said
    with pytest.raises(UsageError, match="nothing to compare"):
        figures(iter(()))


def test_evaluate_prints_tables_or_json_and_draws(tmp_path: Path) -> None:
    truth = heads(tmp_path / "heads")
    part = read_part(tmp_path / "read", truth, wrong=1)
    words = ("annotations", "evaluate", part.root, "--truth", truth.root)
    text = sfhq(*words, "--report", tmp_path / "p.html", "--sheet", tmp_path / "s.jpg").stdout
    assert "4 photos" in text and "mean of classes" in text and "hairline: median" in text
    found = json.loads(sfhq(*words, "--json").stdout)
    assert found["photos"] == 4 and found["worst"][0][0] == "read0"
    page = (tmp_path / "p.html").read_text()
    assert "Against the truth" in page and "Worst against the truth" in page
    assert "no fact about people" in page and "http" not in page.replace("http://www.w3.org", "")
    with Image.open(tmp_path / "s.jpg") as image:
        assert image.width == 8 * 200


def test_a_page_without_truth(tmp_path: Path) -> None:
    part = aligned_part(tmp_path / "part", tiny_pixels(3, 48))
    for stage in (parse(), landmark(), attribute()):
        run_stage(stage, part)
    sfhq("annotations", "report", part.root, tmp_path / "page.html", "--examples", 2)
    page = (tmp_path / "page.html").read_text()
    assert "3 photos, 3 with a map of classes, 3 with points" in page
    assert "Least certain" in page and "Against the truth" not in page
    assert page.count("<img") == 4 and page.count("<svg") >= 5
    for words in ("hair colour", "Quality, 0 to 100", "mean share of a photo"):
        assert words in page
    sfhq("annotations", "sheet", part.root, tmp_path / "sheet.jpg", "--across", 2, "--cell", 64)
    with Image.open(tmp_path / "sheet.jpg") as image:
        assert image.size == (128, 2 * (64 + 16))
    first = next(part.faces()).face_id
    one = ("annotations", "sheet", part.root, tmp_path / "one.png", "--cell", 64)
    sfhq(*one, "--where", f"face_id = '{first}'", "--beside", "--across", 2)
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == (128, 64 + 16)
        bare = np.asarray(image.crop((0, 0, 64, 64)))
    photo = Image.fromarray(next(labelled(part)).photo).resize((64, 64), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(bare, np.asarray(photo))
    assert "no labelled face meets --where" in sfhq(*one, "--where", "quality < 0", code=2).stderr
    lost = sfhq("annotations", "sheet", part.root, tmp_path / "sheet.pdf", code=2)
    assert "wanted a name that ends in .png" in lost.stderr


def test_a_histogram_says_where_values_lie_beyond_it() -> None:
    def texts(values: list[float]) -> list[str]:
        return [m.text for m in _histogram(values, 0.0, 10.0) if m.text]

    assert texts([1, 9]) == ["0", "5", "10"]
    assert texts([-1, 9]) == ["≤ 0", "5", "10"] and texts([0, 11]) == ["0", "5", "≥ 10"]


def test_names_in_a_page_are_escaped(tmp_path: Path) -> None:
    part = heads(tmp_path / "<b>heads", 1)
    assert "<b>heads" not in report(part) and "&lt;b&gt;heads" in report(part)


def test_an_overlay_shows_classes_and_flags() -> None:
    photo = np.full((50, 50, 3), 100, np.uint8)
    mask = np.zeros((50, 50), np.uint8)
    mask[:25] = ID["hair"]
    rows = np.zeros((COUNT, 5))
    rows[0, :3], rows[1, :3], rows[2, :3] = (10, 40, 2), (30, 40, 1), (40, 45, 0)
    shown = np.asarray(overlay(photo, mask, rows, 100))
    assert shown.shape == (100, 100, 3)
    wanted = (100 + np.array(CLASS_COLOURS[ID["hair"]])) / 2
    assert np.abs(shown[20, 50] - wanted).max() <= 1
    assert tuple(shown[81, 21]) == SEEN and tuple(shown[81, 61]) == INFERRED
    assert (shown[91, 81] == 100).all()
    wide = sheet([(overlay(photo, None, None, 40), "a")] * 3, across=2)
    assert wide.size == (80, 2 * 56)


def _photos(part: Part) -> Iterator[Pixels]:
    return (face.photo for face in labelled(part))


def test_labels_of_a_read_part_are_those_of_its_stages(tmp_path: Path) -> None:
    part = aligned_part(tmp_path / "part", tiny_pixels(2, 48))
    run_stage(landmark(), part)
    faces: list[Labelled] = list(labelled(part))
    assert [f.mask for f in faces] == [None, None]
    assert all(f.points is not None and f.points.shape == (COUNT, 5) for f in faces)
    assert [p.shape for p in _photos(part)] == [(48, 48, 3)] * 2


def test_a_consistent_reader_is_found_consistent() -> None:
    reader = TinyReader(32)
    photos = [np.ascontiguousarray(p) for p in tiny_pixels(3, 48)]
    found = consistency(reader, [(p, whole_view(p, 32)) for p in photos], crops=2)
    assert (found.photos, found.flipped_pixels, found.batch_differs) == (3, 0, 0)
    assert found.flipped_points < 1e-4
    assert 0 < found.moved <= found.moved_worst and 0 < found.changed <= 1


def test_inconsistent_readers_are_found_out() -> None:
    @dataclass(frozen=True, eq=False)
    class Lopsided(TinyReader):
        def read(self, crops: Pixels) -> TinyReading:
            one = super().read(crops)
            points = one.points.clone()
            points[:, 0, 0] += 1.5
            first = one.parsing.clone()
            first[:, 1, :, 0] += 2
            years = one.years + len(crops)
            return replace(one, points=points, parsing=first, years=years)

    photos = [np.ascontiguousarray(p) for p in tiny_pixels(2, 48)]
    found = consistency(Lopsided(32), [(p, whole_view(p, 32)) for p in photos], crops=1)
    assert found.flipped_pixels >= 2 * 32
    assert found.flipped_points == pytest.approx(1.5, abs=1e-4)
    assert found.batch_differs == 2
    nothing = consistency(TinyReader(32), [])
    assert nothing.photos == 0 and np.isnan(nothing.moved)


def test_docs_state_the_formulas_of_quality() -> None:
    text = (Path(__file__).parent.parent / "docs" / "labels.md").read_text(encoding="utf-8")
    for name, words in FORMULAS.items():
        assert f"| `{name}` | {words} |" in text
