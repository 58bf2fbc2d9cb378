"""sfhq validate on photos that were brought in: they lie outside the part and are read there."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny import tiny_pixels

import cli
from annotate.labels.classifier import Classes
from annotate.parse import Parse
from sfhq.errors import UsageError
from sfhq.export.target import PIECES
from sfhq.images import TRAINED, encode_image
from sfhq.imports.stage import Import, layout_of
from sfhq.imports.whole import import_set
from sfhq.parts.part import Part
from sfhq.publish.card import card_body
from sfhq.publish.validate import Report, validate

SIDE, PHOTOS = 64, 5


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A set of marked photos with maps of classes."""
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rows = []
    for i, pixels in enumerate(tiny_pixels(PHOTOS, SIDE)):
        (root / f"images/{i}.png").write_bytes(encode_image(pixels, "PNG", TRAINED))
        Image.fromarray(np.full((SIDE, SIDE), 1, np.uint8)).save(root / f"masks/{i}.png")
        row = {"file_name": f"images/{i}.png", "mask_file_name": f"masks/{i}.png"}
        rows.append(json.dumps({**row, "digital_source_type": TRAINED if i else "none known"}))
    (root / "metadata.jsonl").write_text("\n".join(rows))
    return root


@pytest.fixture
def part(source: Path, tmp_path: Path) -> Part:
    import_set(Import(str(source), layout_of(source)), tmp_path / "part")
    return Part.open(tmp_path / "part")


def said(found: Report, check: str) -> list[str]:
    return [f"{f.where}: {f.what}" for f in found.result(check).findings]


def test_brought_photos_are_read(part: Part) -> None:
    found = validate(part)
    assert not found.damaged
    assert found.result("sizes").figures["sizes"] == {f"{SIDE} x {SIDE}": PHOTOS}
    marks = found.result("marks")
    assert (marks.figures["photos"], marks.figures["xmp"]) == (PHOTOS, PHOTOS)
    assert f"marks of the {PHOTOS} that were not made here are only counted" in marks.note


def test_a_brought_photo_that_changed_is_named(part: Part, source: Path) -> None:
    photo = source / "images/2.png"
    photo.write_bytes(encode_image(tiny_pixels(PHOTOS, SIDE)[0], "PNG", TRAINED))
    found = validate(part)
    assert found.damaged
    assert said(found, "files") == [
        "2: images/2.png: changed since it was taken in (sha256 differs)"
    ]
    done = CliRunner().invoke(cli.main, ["validate", str(part.root)])
    assert done.exit_code == 4, done.output


def test_a_brought_photo_that_is_missing_is_named(part: Part, source: Path) -> None:
    (source / "images/3.png").unlink()
    assert said(validate(part), "files") == [f"3: images/3.png: missing in {source}"]


def test_a_brought_photo_of_another_size_than_its_mask_is_named(part: Part, source: Path) -> None:
    photo = source / "images/1.png"
    photo.write_bytes(encode_image(tiny_pixels(1, 2 * SIDE)[0], "PNG", TRAINED))
    found = validate(part)
    assert said(found, "masks") == ["1: 64 x 64 pixels; the photo has 128 x 128"]
    assert said(found, "sizes") == ["1: 128 x 128 pixels; the others have 64 x 64"]


def test_a_source_that_is_gone_is_named(part: Part, source: Path) -> None:
    source.rename(source.with_name("elsewhere"))
    found = validate(part)
    assert found.damaged
    assert found.result("files").count == PHOTOS
    assert f"{source}: no such file or folder" in said(found, "files")[0]


def test_equal_files_are_found_without_vectors(part: Part, source: Path) -> None:
    """Import refuses them, so records that claim to be of one file are made by hand."""
    first, other = part.read_shard("import", 0)[:2]
    from dataclasses import replace

    data = (source / first.source).read_bytes()
    (source / other.source).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    rows = part.read_shard("import", 0)
    part.write_shard(
        "import",
        0,
        [
            replace(r, source_sha256=digest if r.face_id == other.face_id else r.source_sha256)
            for r in rows
        ],
    )
    result = validate(Part.open(part.root)).result("duplicates")
    assert result.state == "failed"
    assert f"the same file as {first.face_id}" in result.findings[0].what
    assert "no embedding; run: sfhq embed" in result.note


def test_parse_says_where_brought_photos_lie(part: Part, source: Path) -> None:
    stage = Parse(Classes.load())
    with pytest.raises(UsageError, match="import brought the maps") as refused:
        stage.check(part)
    advice = str(refused.value).rpartition("run: ")[2] or str(refused.value)
    folder = source / "images"
    assert advice.endswith(f"sfhq ingest {folder} OTHER")
    other = part.root.with_name("other")
    done = CliRunner().invoke(cli.main, ["ingest", str(folder), str(other)])
    assert done.exit_code == 0, done.output
    assert len(list(Part.open(other).faces())) == PHOTOS
    shutil.rmtree(other)


def test_record_files_that_are_foreign_or_gone_are_named(part: Part, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = part.root / "records/import/00000.parquet"
    kept = path.read_bytes()
    pq.write_table(pa.table({"a": [1, 2, 3]}), path)
    found = validate(Part.open(part.root))
    assert found.damaged
    assert any(str(path) in text for text in said(found, "records"))
    assert len({*said(found, "records")}) == found.result("records").count
    path.write_bytes(kept)
    assert not validate(Part.open(part.root), only=["records"]).damaged
    path.unlink()
    done = CliRunner().invoke(cli.main, ["validate", str(part.root)])
    assert done.exit_code == 4
    assert "missing: 00000.parquet" in done.output
    assert "no photos, for records cannot be read" in done.output


def test_a_part_without_photos_is_refused_beside_others(part: Part, tmp_path: Path) -> None:
    bare = Part.create(tmp_path / "bare")
    from tiny import finish

    from sfhq.parts.records import FaceRecord

    finish(bare, "align", [[FaceRecord("a").with_image("aligned", tiny_pixels(1, SIDE)[0])]])
    target = tmp_path / "out"
    words = ["export", str(part.root), str(target), "--format", "csv", "--also", str(bare.root)]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 2, done.output
    assert f"{bare.root}: its faces have no photos yet" in done.output
    assert not target.exists()


def test_the_card_of_a_brought_part_says_what_its_set_states(part: Part) -> None:
    text = card_body(part, report=validate(part))
    assert f"0 of {PHOTOS} photos were made by a program here." in text
    assert f"{PHOTOS} were imported as they are" in text
    assert f"states of {PHOTOS - 1} of them that they are synthetic" in text
    assert "No network worked on this part." in text
    assert "| network |" not in text
    assert "were trained on photographs of people" not in text
    assert "run: sfhq embed PART" in text
    assert str(part.root) not in text


def test_half_an_export_is_named(part: Part, tmp_path: Path) -> None:
    target = tmp_path / "out"
    words = ["export", str(part.root), str(target), "--format", "imagefolder"]
    assert CliRunner().invoke(cli.main, words).exit_code == 0
    words = ["validate", str(part.root), "--export", str(target)]
    assert CliRunner().invoke(cli.main, words).exit_code == 0
    (target / "SHA256SUMS").unlink()
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 4
    assert f"{target}: no SHA256SUMS, so this is not an export" in done.output
    (target / PIECES).touch()
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 4
    assert "this is an export that has not ended; run: sfhq export" in done.output
