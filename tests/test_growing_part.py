"""A picture more in the source: every stage does the new ones, and leaves alone what is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from command import sfhq
from PIL import Image
from tiny import write_squares

from sfhq.parts.part import Part
from sfhq.parts.table import part_table
from sfhq.pipeline.counts import funnel

Networks = tuple[Path, Path]


def run(networks: Networks, art: Path, part: Path, code: int = 0) -> Result:
    generator, e4e = networks
    flags = ("--generator", generator, "--e4e", e4e, "--aligned", "--candidates", "strict,low")
    return sfhq("run", art, part, *flags, "--threshold", 0.9999, code=code)


def written(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of records, arrays and images: inode (writing anew changes it) and bytes."""
    return {
        str(p.relative_to(root)): (p.stat().st_ino, p.read_bytes())
        for folder in ("records", "arrays", "aligned", "images")
        for p in (root / folder).rglob("*")
        if p.is_file() and p.suffix != ".json"
    }


@pytest.fixture(scope="module")
def grown(
    networks: Networks, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, tuple[int, bytes]]]:
    """A part that has been run again with a picture more, and its files before that."""
    folder = tmp_path_factory.mktemp("growing")
    art, part = write_squares(folder / "art", 3), folder / "part"
    run(networks, art, part)
    before = written(part)
    pixels = np.random.default_rng(9).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(art / "000-first-by-name.png")
    run(networks, art, part)
    return part, before


def test_a_picture_more_extends_a_part(grown: tuple[Path, dict[str, tuple[int, bytes]]]) -> None:
    root, before = grown
    after = written(root)
    own = {name: value for name, value in before.items() if "dedup" not in name}
    assert len(own) > 10
    assert {name: after.get(name) for name in own} == own
    part = Part.open(root)
    for stage in part.stages():
        assert part.shards(stage) == [0, 1], stage
        assert part.stage_info(stage)["complete"]
    assert [row["outdated"] for row in funnel(part)] == [[]] * len(part.stages())
    assert part.stage_info("ingest")["counts"]["alive"] == 4
    table = part_table(part)
    assert len({*table.column("source").to_pylist()}) == 4
    assert None not in table.column("face_count").to_pylist()


def test_dedup_sees_the_new_ones_beside_the_old(
    grown: tuple[Path, dict[str, tuple[int, bytes]]],
) -> None:
    part = Part.open(grown[0])
    assert part.stage_info("dedup")["counts"]["entered"] == 8
    assert part.stage_info("dedup")["sees"] == 2


def test_nothing_is_done_a_third_time(
    grown: tuple[Path, dict[str, tuple[int, bytes]]], networks: Networks
) -> None:
    root, _ = grown
    before = written(root)
    run(networks, root.parent / "art", root)
    assert written(root) == before


def test_a_dry_run_says_that_there_is_more_to_do(tmp_path: Path) -> None:
    art, root = write_squares(tmp_path / "art", 3), tmp_path / "part"
    sfhq("ingest", art, root)
    assert "ingest     done" in sfhq("run", art, root, "--dry-run").stdout
    Image.new("RGB", (64, 64)).save(art / "more.png")
    assert "ingest     to do" in sfhq("run", art, root, "--dry-run").stdout


def test_a_dry_run_does_not_know_how_many_faces_groups_show(tmp_path: Path) -> None:
    art = write_squares(tmp_path / "art", 3)
    said = sfhq("run", art, tmp_path / "part", "--faces", "all", "--dry-run").stdout
    assert said.startswith("3 images, any number of photos\n")


def test_pictures_that_vanished_stop_a_run_in_one_line(networks: Networks, tmp_path: Path) -> None:
    art, root = write_squares(tmp_path / "art", 3), tmp_path / "part"
    sfhq("ingest", art, root)
    before = written(root)
    gone = sorted(art.iterdir())[1]
    gone.unlink()
    error = run(networks, art, root, code=2).stderr
    assert error.count("\n") == 1
    assert f"1 of its images are not in {art} any more, first {gone.name}; put them back" in error
    assert written(root) == before
    shutil.rmtree(art)
    assert "no such file or folder" in run(networks, art, root, code=2).stderr
    assert written(root) == before
