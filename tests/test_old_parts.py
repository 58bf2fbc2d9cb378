"""Parts of other versions: one of sfhq 0.1.0 reads, exports and goes on; a newer one says so."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from published import pack_digest
from tiny import tree

import cli
from sfhq.errors import IntegrityError
from sfhq.parts.join import history
from sfhq.parts.part import FORMAT, Part
from sfhq.parts.records import FaceRecord, record_schema, to_columns

HERE = Path(__file__).parent
SAMPLES = HERE.parent / "sfhq" / "samples"
# Made with sfhq 0.1.0 of three sample pictures:
#   run ART PART --candidates strict,low --licence CC0-1.0 --provenance "sfhq sample art"
#   embed PART --features geometry --redo; labels import PART; score PART --drop
#   dedup PART --threshold 0.9
PART = HERE / "fixtures" / "part_0.1.0.zip"
# render PART --count 2 --size 64 --seed 5 --style photo,oil
HEADS = HERE / "fixtures" / "heads_0.1.0.zip"
ART = ("oil_0000.jpg", "pencil_0002.jpg", "clay_0033.jpg")
PACK_THEN = {
    "generator": "d8fab70fd25ace5abae4553d31fa087a71cbdf1f69584344a31849c781562017",
    "e4e": "9776eaaa8a2f5371b8974932df1563fa531bc0cd883e566499176d4d8733fe2f",
}
SAME = ("--candidates", "strict,low", "--licence", "CC0-1.0", "--provenance", "sfhq sample art")


def sfhq(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli.main, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.fixture
def art(tmp_path: Path) -> Path:
    folder = tmp_path / "art"
    folder.mkdir()
    for name in ART:
        (folder / name).write_bytes((SAMPLES / name).read_bytes())
    return folder


@pytest.fixture
def part(tmp_path: Path, art: Path) -> Part:
    """The old part, its source where it lies in this test, as if made by today's networks."""
    with zipfile.ZipFile(PART) as archive:
        archive.extractall(tmp_path / "part")
    for path in (tmp_path / "part").glob("records/*/stage.json"):
        text = path.read_text().replace('"/samples"', json.dumps(str(art)))
        for kind, digest in PACK_THEN.items():
            text = text.replace(digest, pack_digest(kind))
        path.write_text(text)
    return Part.open(tmp_path / "part")


def test_it_is_an_old_one(part: Part) -> None:
    assert json.loads((part.root / "part.json").read_text())["format"] == 1 < FORMAT
    assert "realism" in pq.read_schema(part.shard_path("dedup", 0)).names


def test_it_reads_without_being_written_to(part: Part) -> None:
    before = tree(part.root)
    assert part.stages() == [
        *("ingest", "align", "invert", "synthesize", "embed", "score", "dedup")
    ]
    faces = list(part.faces(rejected=True))
    assert len(faces) == 6 and sum(r.alive for r in faces) == 2
    assert {r.candidate for r in faces} == {"strict", "low"}
    assert all(0 < (r.prior_distance or 0) < 1 for r in faces)
    assert {r.about["taste"] for r in faces} == {"accept", "unsure"}
    assert all(0 <= r.about["score"] <= 1 for r in faces)
    assert part.row("embedding", faces[0]).shape == (128,)
    assert part.row("features_geometry", faces[0]).shape == (38,)
    assert {r.reason for r in faces if not r.alive} == {"near-duplicate"}
    assert len(list(history(part, "score"))) == 6
    assert len(sfhq("table", part.root, "--where", "alive").splitlines()) == 3
    assert "near-duplicate" in sfhq("show", part.root)
    assert tree(part.root) == before


def test_it_exports(part: Part, tmp_path: Path) -> None:
    said = sfhq("export", part.root, tmp_path / "out")
    assert "2 photos in" in said
    rows = pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    assert [r["candidate"] for r in rows] == ["strict", "strict"]
    assert all(r["score"] > 0.9 and r["has_landmarks"] for r in rows)


def test_it_goes_on(part: Part, art: Path) -> None:
    """What is done stays; what is new is done; what is redone is of today's kind."""
    kept = tree(part.root / "records" / "synthesize")
    flags = (*SAME, "--features", "geometry", "--threshold", 0.9, "--no-export")
    sfhq("run", art, part.root, *flags)
    assert tree(part.root / "records" / "synthesize") == kept
    assert json.loads((part.root / "part.json").read_text())["format"] == FORMAT
    assert len(list(part.faces())) == 2
    assert "detect" in part.stages()
    sfhq("dedup", part.root, "--threshold", 0.95, "--redo")
    assert len(list(part.faces())) > 2
    assert "score" in part.stage_info("dedup")["inputs"]
    sfhq("embed", part.root, "--redo")
    labels = ["parse", "landmark", "attribute", "caption"]
    assert part.stages() == [
        *("ingest", "align", "invert", "synthesize", "detect", "embed"),
        *labels,
    ]


def test_a_part_of_another_pack_is_refused_by_name(part: Part, art: Path) -> None:
    path = part.root / "records" / "invert" / "stage.json"
    path.write_text(path.read_text().replace(pack_digest("e4e"), PACK_THEN["e4e"]))
    said = sfhq("run", art, part.root, *SAME, code=2)
    assert f"invert was run with encoder='{PACK_THEN['e4e']}'" in said


def test_other_settings_are_refused_by_name(part: Part, art: Path) -> None:
    said = sfhq("dedup", part.root, code=2)
    assert "dedup was run with threshold=0.9, now threshold=None" in said
    said = sfhq("synthesize", part.root, "--candidates", "strict", code=2)
    assert "synthesize was run with candidates=['strict', 'low']" in said


def test_what_an_older_version_began_is_not_finished(part: Part) -> None:
    path = part.root / "records" / "synthesize" / "stage.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "complete": False}))
    said = sfhq("synthesize", part.root, "--candidates", "strict,low", code=2)
    assert f"was begun by an older version; run: sfhq synthesize {part.root} --redo" in said


def test_rendered_heads_keep_their_style_and_are_a_source(tmp_path: Path) -> None:
    with zipfile.ZipFile(HEADS) as archive:
        archive.extractall(tmp_path / "heads")
    heads = Part.open(tmp_path / "heads")
    assert [(r.candidate, r.params["style"]) for r in heads.faces()] == [("", "oil"), ("", "photo")]
    assert "2 in       2 out" in sfhq("ingest", heads.root, tmp_path / "part")


def test_a_column_that_is_missing_has_its_default(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    part.write_shard("sample", 0, [FaceRecord("a", seed=3, params={"b": 1}), FaceRecord("b")])
    path = part.shard_path("sample", 0)
    table = pq.read_table(path, partitioning=None)
    for lost in ("prior_distance", "params", "quad", "licence", "hashes"):
        table = table.drop_columns([lost])
    pq.write_table(table, path)
    assert part.read_shard("sample", 0) == [FaceRecord("a", seed=3), FaceRecord("b")]


def test_a_column_that_nobody_knows_is_of_a_newer_version(tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    columns = {**to_columns([FaceRecord("a")]), "aura": ["blue"]}
    schema = record_schema().append(pa.field("aura", pa.string()))
    path = part.shard_path("sample", 0)
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pydict(columns, schema), path)
    with pytest.raises(IntegrityError, match=r"does not know \(aura\); a newer version made it"):
        part.read_shard("sample", 0)


def test_a_part_of_a_newer_format_says_so(tmp_path: Path) -> None:
    Part.create(tmp_path / "part")
    (tmp_path / "part" / "part.json").write_text(json.dumps({"format": 3, "name": "x"}))
    with pytest.raises(IntegrityError, match="reads up to format 2; a newer version made it: pip"):
        Part.open(tmp_path / "part")
