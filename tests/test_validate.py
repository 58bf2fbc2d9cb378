"""sfhq validate on a sound part and on damaged copies, each of which it has to name."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image
from published import NAME, SIDE, art, published_part, write_manifest

import cli
from annotate.caption import Caption
from annotate.judge.captions import caption_problems
from curation.labels.events import Action, LabelEvent
from curation.labels.store import FILE, LabelStore
from sfhq.errors import UsageError
from sfhq.images import encode_image
from sfhq.parts.about import to_table
from sfhq.parts.part import Part
from sfhq.parts.records import Pixels
from sfhq.publish import report as reports
from sfhq.publish.checks import audits, balance, people
from sfhq.publish.checks.context import Options
from sfhq.publish.checks.result import Result, share, wilson
from sfhq.publish.checks.table import CHECKS
from sfhq.publish.validate import Report, validate

FACE = "art004-strict"
GOOD = {  # what a sound part says, check by check
    **dict.fromkeys(("records", "arrays", "files", "strays", "sizes", "marks"), "passed"),
    **dict.fromkeys(("masks", "landmarks", "captions", "aligned", "duplicates"), "passed"),
    **dict.fromkeys(("export", "splits", "split-people"), "passed"),
    **dict.fromkeys(("identities", "balance"), "told"),
    **dict.fromkeys(("nearest-real", "targets"), "not checked"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_part(tmp_path_factory.mktemp("sound") / "part").root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(sound, tmp_path / "part"))


def states(found: Report) -> dict[str, str]:
    return {r.name: r.state for r in found.results}


def said(found: Report, check: str) -> str:
    return "\n".join(f"{f.where}: {f.what}" for f in found.result(check).findings)


def replaced(root: Path, folder: str, face: str, data: bytes) -> None:
    """Another image, with records that vouch for it."""
    part = Part.open(root)
    path = part.image_path(folder, face)
    old, new = hashlib.sha256(path.read_bytes()).hexdigest(), hashlib.sha256(data).hexdigest()
    path.write_bytes(data)
    for stage in part.stages():
        for shard in part.shards(stage):
            if part.stage_info(stage)["kind"] == "about":
                rows = part.read_about(stage, shard)
                if any(old in row.hashes.values() for row in rows):
                    rows = [
                        replace(r, hashes={k: new if v == old else v for k, v in r.hashes.items()})
                        for r in rows
                    ]
                    table = to_table(rows, part_columns(stage))
                    part._write_table(stage, shard, table, {})
            else:
                records = part.read_shard(stage, shard)
                if any(old in r.hashes.values() for r in records):
                    part.write_shard(
                        stage,
                        shard,
                        [
                            replace(
                                r, hashes={k: new if v == old else v for k, v in r.hashes.items()}
                            )
                            for r in records
                        ],
                    )


def part_columns(stage: str) -> dict[str, Any]:
    from sfhq import stages

    return dict(stages.load_stage(stage).columns)


def test_a_sound_part_passes(sound: Path) -> None:
    found = validate(Part.open(sound))
    problems = {r.name: r.findings for r in found.results if r.state == "failed"}
    assert not problems
    assert {k: v for k, v in states(found).items() if k in GOOD} == GOOD
    assert not found.damaged
    assert found.faces == 24
    marks = found.result("marks").figures
    assert (marks["photos"], marks["xmp"], marks["watermark"], marks["c2pa"]) == (24, 24, 24, 0)
    assert found.result("splits").figures["splits"] == {"test": 6, "train": 18}


def test_every_check_is_in_the_table_once_and_documented() -> None:
    names = [c.name for c in CHECKS]
    assert len({*names}) == len(names)
    assert all((c.of_face is None) != (c.of_part is None) for c in CHECKS)
    said = CliRunner().invoke(cli.main, ["validate", "--help"]).output
    assert [n for n in names if n not in said] == []


# Each damage, the check that has to name it, and words of its finding.


def a_photo_is_missing(root: Path) -> None:
    (root / "images" / f"{FACE}.png").unlink()


def a_photo_was_edited(root: Path) -> None:
    path = root / "images" / f"{FACE}.png"
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).copy()
    pixels[:20, :20] = 255
    path.write_bytes(encode_image(pixels))


def a_photo_is_cut_short(root: Path) -> None:
    path = root / "images" / f"{FACE}.png"
    path.write_bytes(path.read_bytes()[:3000])


def a_crop_of_the_art_is_missing(root: Path) -> None:
    (root / "aligned" / "art004.png").unlink()


def marks_were_stripped(root: Path) -> None:
    path = root / "images" / f"{FACE}.png"
    with Image.open(path) as image:
        small = image.convert("RGB").resize((40, 40)).resize((SIDE, SIDE))
    replaced(root, "images", FACE, encode_image(np.asarray(small), source_type=None))


def the_xmp_mark_lies(root: Path) -> None:
    with Image.open(root / "images" / f"{FACE}.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    replaced(root, "images", FACE, encode_image(pixels, source_type="digitalCapture"))


def a_photo_has_another_size(root: Path) -> None:
    with Image.open(root / "images" / f"{FACE}.png") as image:
        pixels = np.asarray(image.convert("RGB").resize((200, 150)))
    replaced(root, "images", FACE, encode_image(pixels))


def a_mask_has_another_size(root: Path) -> None:
    replaced(root, "segmentations", FACE, encode_image(np.full((80, 80), 1, np.uint8)))


def a_mask_has_an_unknown_class(root: Path) -> None:
    ids = np.full((SIDE, SIDE), 1, np.uint8)
    ids[3, 4] = 19
    replaced(root, "segmentations", FACE, encode_image(ids))


def an_array_was_changed(root: Path) -> None:
    path = root / "arrays" / "landmarks_110" / "00000.npy"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def an_array_is_missing(root: Path) -> None:
    (root / "arrays" / "embedding" / "00001.npy").unlink()


def records_are_missing(root: Path) -> None:
    (root / "records" / "synthesize" / "00001.parquet").unlink()


def records_are_torn(root: Path) -> None:
    path = root / "records" / "parse" / "00000.parquet"
    path.write_bytes(path.read_bytes()[:-40])


def a_stray_image_lies_there(root: Path) -> None:
    shutil.copy(root / "images" / f"{FACE}.png", root / "images" / "nobody.png")


def a_caption_lies(root: Path) -> None:
    part = Part.open(root)
    rows = part.read_about("caption", 0)
    rows[3] = replace(rows[3], columns={**rows[3].columns, "caption": "A bald man with glasses."})
    table = to_table(rows, dict(Caption.columns))
    part._write_table("caption", 0, table, {})


def attributes_changed_after_captions(root: Path) -> None:
    from annotate.attribute import Attribute

    part = Part.open(root)
    rows = part.read_about("attribute", 0)
    rows = [replace(r, columns={**r.columns, "years": 5.0, "male": 0.5}) for r in rows]
    sums = __import__("sfhq.parts.arrays", fromlist=["footer"]).footer(
        part.shard_path("attribute", 0)
    )
    part._write_table("attribute", 0, to_table(rows, dict(Attribute.columns)), sums.sums)


def points_lie_elsewhere(root: Path) -> None:
    move_points(root, 500.0)


def two_photos_are_one(root: Path) -> None:
    part = Part.open(root)
    data = part.image_path("images", "art001-strict").read_bytes()
    replaced(root, "images", FACE, data)


def two_photos_are_alike(root: Path) -> None:
    part = Part.open(root)
    records = [r for r in part.faces() if r.shard == 0]
    rows = [np.array(part.row("embedding", r)) for r in records]
    rows[5] = rows[2]
    again = [
        replace(r, rows={}, hashes={}, about={}).with_array("embedding", v)
        for r, v in zip(records, rows, strict=True)
    ]
    part.shard_path("embed", 0).unlink()
    part.write_about("embed", 0, again, {})


def one_person_is_in_two_splits(root: Path) -> None:
    """The photo of another source looks like one person's, though it is no near-duplicate."""
    part = Part.open(root)
    records = [r for r in part.faces() if r.shard == 0]
    rows = [np.array(part.row("embedding", r)) for r in records]
    there = next(i for i, r in enumerate(records) if r.parent_id != records[0].parent_id)
    beside = rows[there] - (rows[there] @ rows[0]) * rows[0]
    rows[there] = 0.97 * rows[0] + (1 - 0.97**2) ** 0.5 * beside / np.linalg.norm(beside)
    again = [
        replace(r, rows={}, hashes={}, about={}).with_array("embedding", v)
        for r, v in zip(records, rows, strict=True)
    ]
    part.shard_path("embed", 0).unlink()
    part.write_about("embed", 0, again, {})
    folder = root / "export"
    listed = pq.read_table(folder / "manifest.parquet").to_pylist()
    split = {r["parent_id"]: r["split"] for r in listed}
    other = "test" if split[records[0].parent_id] == "train" else "train"
    for row in listed:
        if row["parent_id"] == records[there].parent_id:
            row["split"] = other
    write_manifest(folder, listed, digests(folder))


def digests(folder: Path) -> dict[str, str]:
    lines = [line.split("  ", 1) for line in (folder / "SHA256SUMS").read_text().splitlines()]
    return {path: digest for digest, path in lines}


def an_exported_file_was_changed(root: Path) -> None:
    path = root / "export" / "images" / f"{NAME}_00000003.png"
    path.write_bytes(path.read_bytes() + b"\0")


def a_source_is_in_two_splits(root: Path) -> None:
    folder = root / "export"
    rows = pq.read_table(folder / "manifest.parquet").to_pylist()
    rows[3]["split"] = "test" if rows[3]["split"] == "train" else "train"
    write_manifest(folder, rows, digests(folder))


def move_points(root: Path, far: float) -> None:
    part = Part.open(root)
    records = [r for r in part.faces() if r.shard == 0]
    rows = [np.array(part.row("landmarks_110", r)) for r in records]
    rows[1][30, 0] += far
    rows[1][27:60, 1] = 3.0
    again = [
        replace(r, rows={}, hashes={}, about={}).with_array("landmarks_110", v)
        for r, v in zip(records, rows, strict=True)
    ]
    part.shard_path("landmark", 0).unlink()
    part.write_about("landmark", 0, again, {})


DAMAGES: tuple[tuple[Callable[[Path], None], str, str, int], ...] = (
    (a_photo_is_missing, "files", f"{FACE}.png: missing", 4),
    (a_photo_was_edited, "files", f"{FACE}.png: changed", 4),
    (a_photo_is_cut_short, "files", f"{FACE}.png: changed", 4),
    (a_crop_of_the_art_is_missing, "files", "aligned/art004.png: missing", 4),
    (marks_were_stripped, "marks", f"{FACE}: no XMP mark", 4),
    (marks_were_stripped, "marks", f"{FACE}: no watermark", 4),
    (the_xmp_mark_lies, "marks", f"{FACE}: XMP says digitalCapture", 4),
    (a_photo_has_another_size, "sizes", f"{FACE}: 200 x 150 pixels", 4),
    (a_mask_has_another_size, "masks", f"{FACE}: 80 x 80 pixels; the photo has 160 x 160", 4),
    (a_mask_has_an_unknown_class, "masks", f"{FACE}: id 19; wanted at most 18", 4),
    (an_array_was_changed, "arrays", "landmarks_110/00000.npy", 4),
    (an_array_is_missing, "arrays", "embedding/00001.npy: missing", 4),
    (records_are_missing, "records", "1 of 2 shards in records/synthesize", 4),
    (records_are_torn, "records", "damaged records", 4),
    (a_stray_image_lies_there, "strays", "images/nobody.png: no record names it", 0),
    (a_caption_lies, "captions", "art001-low: the caption", 4),
    (attributes_changed_after_captions, "captions", "the attributes say child", 4),
    (points_lie_elsewhere, "landmarks", "art000-low: landmarks_110: 1 visible points", 0),
    (points_lie_elsewhere, "landmarks", "lie on the mask's head", 0),
    (two_photos_are_one, "duplicates", f"{FACE}: the same file as art001-strict", 4),
    (two_photos_are_alike, "duplicates", "cosine 1.0000 with art002-low", 4),
    (an_exported_file_was_changed, "export", f"images/{NAME}_00000003.png: changed", 4),
    (a_source_is_in_two_splits, "splits", "source art001: in 2 splits", 4),
    (one_person_is_in_two_splits, "split-people", "-strict: in 2 splits", 0),
)


@pytest.mark.parametrize(
    ("damage", "check", "words", "code"), DAMAGES, ids=lambda v: getattr(v, "__name__", None)
)
def test_damage_is_named(
    root: Path, damage: Callable[[Path], None], check: str, words: str, code: int
) -> None:
    damage(root)
    done = CliRunner().invoke(cli.main, ["validate", str(root), "--json"])
    assert done.exit_code == code
    found = json.loads(done.stdout)
    assert found["damaged"] == (code == 4)
    (result,) = [r for r in found["checks"] if r["name"] == check]
    assert result["state"] == "failed"
    assert words in "\n".join(f"{f['where']}: {f['what']}" for f in result["findings"])


def test_strict_turns_doubts_into_a_code(root: Path) -> None:
    a_stray_image_lies_there(root)
    run = CliRunner().invoke
    assert run(cli.main, ["validate", str(root)]).exit_code == 0
    done = run(cli.main, ["validate", str(root), "--strict"])
    assert done.exit_code == 3
    assert "doubt   strays" in done.output
    assert "to look at: strays" in done.output


def test_nothing_is_written_into_the_part(root: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    validate(Part.open(root))
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


def test_what_lacks_its_columns_says_what_to_run(tmp_path: Path) -> None:
    from tiny import embedded_part, unit

    vectors = unit(np.random.default_rng(1).standard_normal((5, 8)))
    part = embedded_part(tmp_path / "bare", vectors, images=True)
    found = validate(part)
    for check, stage in (("masks", "parse"), ("captions", "caption"), ("balance", "attribute")):
        assert found.result(check).state == "not checked"
        assert f"run: sfhq {stage} " in found.result(check).note
    assert "false-match rates of toy are not measured" in found.result("identities").note
    assert not found.damaged


def test_earlier_parts_count(sound: Path, tmp_path: Path) -> None:
    found = validate(Part.open(sound), Options(earlier=(sound,)), only=["duplicates"])
    result = found.result("duplicates")
    assert result.state == "failed"
    assert result.count == 24
    assert f"with {NAME}/" in said(found, "duplicates") or NAME in said(found, "duplicates")
    assert found.result("files").note == "left out by --only"


def test_targets(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(
        '[[target]]\nname = "over 70"\nwhere = "years > 70"\nleast = 0.2\n'
        '[[target]]\nwhere = "male < 0.5"\nleast = 0.9\n'
        "[[target]]\nwhere = \"skin_tone = 'light'\"\nmost = 0.1\n"
    )
    result = validate(Part.open(sound), Options(targets=path), only=["targets"]).result("targets")
    assert result.state == "failed"
    assert [f.where for f in result.findings] == ["male < 0.5", "skin_tone = 'light'"]
    assert result.figures["targets"][0] | {} == {
        "name": "over 70",
        "where": "years > 70",
        "least": 0.2,
        "most": None,
        **share(6, 24),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "wanted tables"),
        ("x = ", "not TOML"),
        ("[[target]]\nleast = 0.2\n", "wanted where"),
        ('[[target]]\nwhere = "a"\n', "wanted least or most, 0 to 1"),
        ('[[target]]\nwhere = "a"\nleast = 20\n', "wanted least or most, 0 to 1"),
        ('[[target]]\nwhere = "a"\nlest = 0.2\n', "unknown: lest"),
        ('[[target]]\nwhere = "yeers > 70"\nleast = 0.2\n', "yeers"),
    ],
)
def test_bad_targets_are_one_line(sound: Path, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        validate(Part.open(sound), Options(targets=path), only=["targets"])
    assert "\n" not in str(caught.value)


def test_an_unknown_check_is_refused(sound: Path) -> None:
    with pytest.raises(UsageError, match="wanted records, arrays"):
        validate(Part.open(sound), only=["file"])


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
