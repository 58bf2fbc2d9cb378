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
from published import NAME, SIDE, published_part, write_manifest

import cli
from annotate.caption import Caption
from sfhq.errors import UsageError
from sfhq.images import encode_image
from sfhq.parts.about import to_table
from sfhq.parts.part import Part
from sfhq.publish.checks.context import Options
from sfhq.publish.checks.result import share
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
