"""Every kind of damage to every kind of file of a part: one line and a fixed code, no traceback.

The part is one that the real stages made; each case damages one file of a copy and runs every
command that reads it, in this process.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import damage
import numpy as np
import pytest
from click.testing import CliRunner, Result
from damage import ANY, ARRAY, JSON, OUT_OF_RANGE, RECORDS, Damage
from tiny import tree, write_squares

import cli
from curation.faces import Faces
from curation.score import TASTE
from curation.taste.model import fit_taste
from sfhq import stages
from sfhq.errors import IntegrityError, SfhqError
from sfhq.faces.found import POINTS
from sfhq.images import write_atomic
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord

Networks = tuple[Path, Path]
COUNT = 8
Parts = tuple[Path, Path]  # the damaged one, and another that is compared with it


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.main, [str(w) for w in words])


def sfhq(*words: object) -> Result:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def made(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A part with all that a part can hold, and one to compare it with; take a copy to change."""
    top = tmp_path_factory.mktemp("damage")
    generator, e4e = networks
    art = write_squares(top / "art", COUNT)
    part, other = top / "part", top / "other"
    flags = ("--generator", generator, "--e4e", e4e, "--aligned", "--candidates", "strict,low")
    hog = ("--detector", "hog", "--detect-detector", "hog")
    sfhq("run", art, part, *flags, *hog, "--threshold", 1, "--no-export")
    give_points(Part.open(part))
    ids = sorted(r.face_id for r in Part.open(part).faces())
    lines = [f"{i},{('keep', 'reject')[n % 2]}" for n, i in enumerate(ids)]
    (top / "labels.csv").write_text("\n".join(["face_id,label", *lines]) + "\n")
    sfhq("labels", "import", part, top / "labels.csv")
    faces = Faces.of(Part.open(part))
    liked = np.arange(len(faces)) % 2 == 0
    fit_taste(faces.feature_sets(), liked).save(part / TASTE)
    sfhq("score", part)
    sfhq("dedup", part, "--threshold", 1)
    shutil.copytree(part, other)
    return part, other


def give_points(part: Part) -> None:
    """No face is found in such small photos; say otherwise, so that there are points to damage."""
    rng = np.random.default_rng(1)
    for shard in part.shards("detect"):
        known = {row.face_id: row for row in part.read_about("detect", shard)}
        records = [
            FaceRecord(face)
            .with_columns(**row.columns)
            .with_array(POINTS, rng.random((68, 2), np.float32) * 32)
            for face, row in known.items()
        ]
        part.shard_path("detect", shard).unlink()
        part.write_about("detect", shard, records, stages.load_stage("detect").columns)


def look(part: Path) -> None:
    """All that the page of `curate` reads of a part before it is opened, and its pictures."""
    faces = Faces.of(Part.open(part))
    faces.feature_sets()
    for index in range(len(faces)):
        faces.preview(index)
        faces.landmarks(index)


# Command -> how it is run on a damaged part; what it writes goes to the last argument.
COMMANDS: dict[str, Callable[[Path, Path, Path], Result | None]] = {
    "show": lambda part, other, out: run("show", part),
    "table": lambda part, other, out: run("table", part, "--out", out / "t.csv"),
    "sheet": lambda part, other, out: run("sheet", part, "--out", out / "sheet.png"),
    "export": lambda part, other, out: run("export", part, out / "export"),
    "dedup": lambda part, other, out: run("dedup", part, "--redo", "--threshold", 1),
    "verify": lambda part, other, out: run("dedup", part, "--verify"),
    "published": lambda part, other, out: run(
        "dedup", other, "--redo", "--threshold", 1, "--published", part
    ),
    "embed": lambda part, other, out: run("embed", part, "--redo"),
    "score": lambda part, other, out: run("score", part, "--redo"),
    "labels": lambda part, other, out: run("labels", "export", part, out / "labels.csv"),
    "curate": lambda part, other, out: look(part),
}
READERS = ("show", "table", "sheet", "export", "verify", "published", "curate")
VECTORS = ("export", "dedup", "verify", "published", "score", "curate")
EVERY = tuple(name for name in COMMANDS if name != "labels")

# File -> kinds of damage, and the commands that read it.
FILES: dict[str, tuple[tuple[Damage, ...], tuple[str, ...]]] = {
    "part.json": ((*ANY, *JSON), EVERY),
    "records/synthesize.json": ((*ANY, *JSON), EVERY),
    "records/embed.json": ((*ANY, *JSON), (*READERS, "dedup", "score")),
    "records/dedup.json": ((*ANY, *JSON), READERS),
    "records/synthesize/00000.parquet": ((*ANY, *RECORDS), EVERY),
    "records/embed/00000.parquet": ((*ANY, *RECORDS), (*READERS, "dedup", "score")),
    "records/embed/00000.parquet ": ((OUT_OF_RANGE,), VECTORS),
    "records/score/00000.parquet": ((*ANY, *RECORDS), (*READERS, "dedup")),
    "records/dedup/00000.parquet": ((*ANY, *RECORDS), READERS),
    "arrays/embedding/00000.npy": ((*ANY, *ARRAY), VECTORS),
    "arrays/landmarks_68/00000.npy": ((*ANY, *ARRAY), ("embed", "curate")),
    "images/*.png": (ANY, ("sheet", "export", "embed", "curate")),
    "labels.sqlite": (tuple(d for d in ANY if d is not damage.link), ("labels",)),
    "curation/taste.safetensors": (tuple(d for d in ANY if d is not damage.link), ("score",)),
}
CASES = [(name, each) for name, (kinds, _) in FILES.items() for each in kinds]


@pytest.mark.parametrize(
    ("name", "harm"), CASES, ids=[f"{name.strip()}-{harm.__name__}" for name, harm in CASES]
)
def test_damage_is_one_line_and_a_code(
    made: Parts, tmp_path: Path, name: str, harm: Damage
) -> None:
    part, other = tmp_path / "part", tmp_path / "other"
    shutil.copytree(made[0], part)
    harm(sorted(part.glob(name.strip()))[0])
    before = tree(part / "records")
    for command in FILES[name][1]:
        if command == "published":
            shutil.copytree(made[1], other)
        try:
            result = COMMANDS[command](part, other, tmp_path)
        except SfhqError as error:
            assert error.exit_code in (2, 4), command
            continue
        assert result is not None, f"{command} did not notice"
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if command == "show" and name.endswith(".parquet") and result.exit_code == 0:
            continue  # it prints what the descriptions say, and opens records of rejections only
        assert result.exit_code in (2, 4), f"{command}: {result.output}"
        lines = result.stderr.splitlines()
        assert lines and lines[-1].startswith("sfhq: ") and len(lines[-1]) < 1000, command
        assert all(line.startswith(("sfhq: ", "detect: ")) for line in lines), command
        if not name.startswith("images"):  # everything is checked before anything is deleted
            assert tree(part / "records") == before, command
            if command == "published":
                assert tree(other) == tree(made[1])


def nan_in_one_vector(part: Path) -> None:
    """As a disk that lies would: the array alone changes."""
    damage.array(damage.with_nan)(part / "arrays" / "embedding" / "00000.npy")


@pytest.mark.parametrize("whose", ["own", "published"])
def test_one_nan_does_not_turn_deduplication_off(made: Parts, tmp_path: Path, whose: str) -> None:
    part, other = (Path(shutil.copytree(p, tmp_path / p.name)) for p in made)
    nan_in_one_vector(part if whose == "own" else other)
    for words in (("--redo", "--threshold", 0.9), ("--verify",)):
        result = run("dedup", part, *words, "--published", other)
        assert result.exit_code == 4 and "embedding/00000.npy: cannot read array" in result.stderr
    assert part.joinpath("records/dedup.json").is_file()


def test_arrays_of_older_parts_are_looked_at_too(made: Parts, tmp_path: Path) -> None:
    """Their records hold no digests, so the numbers themselves must be sound."""
    import pyarrow.parquet as pq

    part = Path(shutil.copytree(made[0], tmp_path / "part"))
    records = part / "records/embed/00000.parquet"
    table = pq.read_table(records, partitioning=None)
    pq.write_table(table.replace_schema_metadata(None), records)
    opened = Part.open(part)
    array = part / "arrays/embedding/00000.npy"
    good = array.read_bytes()
    assert len(opened.array("embedding", 0)) == table.num_rows
    for harm, says in (
        (damage.with_nan, "not finite"),
        (damage.zeros, "not of unit length"),
        (damage.single, "a single value"),
        (damage.words, "not numbers"),
    ):
        array.write_bytes(good)
        damage.array(harm)(array)
        with pytest.raises(IntegrityError, match=says):
            opened.array("embedding", 0)
    array.write_bytes(good)
    damage.array(damage.half)(array)
    with pytest.raises(IntegrityError, match="rows; records name row"):
        for record in opened.faces():
            opened.row("embedding", record)


@pytest.mark.parametrize("stage", ["dedup", "embed", "synthesize"])
def test_a_stage_that_is_lost_is_missed_until_it_has_run_again(
    made: Parts, tmp_path: Path, stage: str
) -> None:
    part = Path(shutil.copytree(made[0], tmp_path / "part"))
    (part / f"records/{stage}.json").unlink()
    shutil.rmtree(part / f"records/{stage}")
    result = run("show", part)
    assert result.exit_code == 4
    assert f"records/{stage}.json: missing, but {stage} has run here" in result.stderr
    assert f"run: sfhq {stage} {part}" in result.stderr
    if stage == "dedup":
        assert run("dedup", part, "--threshold", 1).exit_code == 0
        assert run("show", part).exit_code == 0


def test_stages_that_end_are_noted_in_older_parts(made: Parts, tmp_path: Path) -> None:
    """Of a part that notes nothing, a folder of records without a description is a loss."""
    part = Path(shutil.copytree(made[0], tmp_path / "part"))
    (part / "part.json").write_text('{"format": 2, "name": "old"}')
    assert run("show", part).exit_code == 0
    kept = (part / "records/dedup.json").read_bytes()
    (part / "records/dedup.json").unlink()
    assert run("show", part).exit_code == 4
    (part / "records/dedup.json").write_bytes(kept)
    assert run("dedup", part, "--threshold", 1).exit_code == 0
    assert "dedup" in (Part.open(part).ended() or [])


# what is written


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    for target in (tmp_path / "there", tmp_path / "dangling"):
        if target.name == "there":
            target.write_text("precious")
        (tmp_path / "sheet.png.part").symlink_to(target)
        (tmp_path / "sheet.png").unlink(missing_ok=True)
        (tmp_path / "sheet.png").symlink_to(target)
        write_atomic(tmp_path / "sheet.png", b"new")
        assert (tmp_path / "sheet.png").read_bytes() == b"new"
        assert not (tmp_path / "sheet.png").is_symlink()
    assert (tmp_path / "there").read_text() == "precious"
    assert not (tmp_path / "dangling").exists()


@pytest.mark.parametrize("folder", ["records", "audit"])
def test_nothing_is_written_outside_a_part(made: Parts, tmp_path: Path, folder: str) -> None:
    part = Path(shutil.copytree(made[0], tmp_path / "part"))
    shutil.move(part / folder, tmp_path / "outside")
    (part / folder).symlink_to(tmp_path / "outside")
    before = tree(tmp_path / "outside")
    result = run("dedup", part, "--threshold", 0.5, "--redo")
    assert result.exit_code == 4 and "leads out of the part by a link" in result.stderr
    if folder == "audit":
        assert tree(tmp_path / "outside") == before


def test_masks_are_served_once_they_are_verified(tmp_path: Path) -> None:
    from tiny import embedded_part, finish_about, tiny_pixels, unit

    from sfhq.parts.records import FaceRecord

    part = embedded_part(tmp_path / "part", unit(np.eye(4)), images=True)
    ids = [r.face_id for r in part.faces()]
    pixels = tiny_pixels(4)
    masked = [
        FaceRecord(i).with_image("segmentations", np.ascontiguousarray(p[..., 0] % 19))
        for i, p in zip(ids, pixels, strict=True)
    ]
    assert Faces.of(part).mask(0) is None
    finish_about(part, "detect", [masked])
    faces = Faces.of(part)
    path = part.image_path("segmentations", ids[0])
    assert faces.mask(0) == path.read_bytes()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for harm in (
        lambda: path.symlink_to(secret),
        lambda: path.symlink_to("/dev/zero"),
        lambda: os.mkfifo(path),
        lambda: path.write_text("another"),
    ):
        path.unlink()
        harm()
        with pytest.raises(IntegrityError):
            faces.mask(0)


# --redo


REDO: tuple[tuple[tuple[str, ...], int], ...] = (
    (("ingest", "{gone}"), 2),
    (("ingest", "{empty}"), 2),
    (("sample", "--count", "4"), 2),
    (("align",), 2),
    (("align", "--generator", "{junk}"), 4),
    (("invert", "--e4e", "{gone}"), 2),
    (("invert", "--e4e", "{junk}"), 4),
    (("synthesize", "--candidates", "nobody"), 2),
    (("detect", "--recipe", "{gone}"), 2),
    (("embed", "--features", "nobody"), 2),
    (("score", "--model", "{gone}"), 2),
    (("score", "--model", "{junk}"), 4),
    (("dedup", "--published", "{empty}"), 2),
    (("run", "{gone}"), 2),
    (("run", "{art}", "--e4e", "{junk}"), 4),
)


@pytest.mark.parametrize(("words", "code"), REDO, ids=[" ".join(w) for w, _ in REDO])
def test_every_redo_checks_before_it_deletes(
    made: Parts, networks: Networks, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    part = Path(shutil.copytree(made[0], tmp_path / "part"))
    (tmp_path / "junk").write_bytes(b"junk" * 100)
    (tmp_path / "empty").mkdir()
    names = {n: str(tmp_path / n) for n in ("gone", "junk", "empty")}
    given = [w.format(**names, art=made[0].parent / "art") for w in words]
    if words == ("align",):
        opened = Part.open(part)
        info = opened.stage_info("ingest")
        settings = {**info["settings"], "source": str(tmp_path / "unmounted")}
        opened.write_stage_info("ingest", {**info, "settings": settings})
    before = tree(part)
    sources = [w for w in given[1:2] if given[0] in ("ingest", "run")]
    result = run(given[0], *sources, part, *given[1 + len(sources) :], "--redo")
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("sfhq: ") and result.stderr.count("\n") == 1
    assert tree(part) == before
