"""Splits: nobody is in two of them, shares hold, and a photo keeps its split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from exporting import export, rich_part
from tiny import embedded_part, finish, tiny_pixels, unit

from sfhq.errors import UsageError
from sfhq.export.choose import Choice, choose
from sfhq.export.splits import Groups, Shares, split_groups
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord


def splits_of(choice: Choice) -> dict[str, str]:
    return {face.record.face_id: face.split for face in choice.faces()}


def test_candidates_of_one_parent_are_together(tmp_path: Path) -> None:
    choice = choose([rich_part(tmp_path / "part", 40)], "T", shares=Shares((0.4, 0.3, 0.3)))
    found = splits_of(choice)
    assert {*found.values()} == {"train", "validation", "test"}
    for i in range(0, 40, 2):
        assert found[f"f{i:04d}"] == found[f"f{i + 1:04d}"]


@pytest.mark.parametrize("encoder", ["dlib-face", "clip"])
def test_photos_of_one_face_are_together(tmp_path: Path, encoder: str) -> None:
    """20 pairs of equal vectors with other parents; without them some pairs would part."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(unit(rng.standard_normal((20, 16))), 2, axis=0)
    part = embedded_part(tmp_path / "part", vectors, encoder=encoder, images=True)
    shares = Shares((0.4, 0.3, 0.3))
    choice = choose([part], "T", shares=shares)
    found = splits_of(choice)
    assert all(found[f"f{i:04d}"] == found[f"f{i + 1:04d}"] for i in range(0, 40, 2))
    alone = embedded_part(tmp_path / "alone", vectors, encoder="toy", images=True)
    parted = splits_of(choose([alone], "T", shares=shares))
    assert any(parted[f"f{i:04d}"] != parted[f"f{i + 1:04d}"] for i in range(0, 40, 2))
    assert choice.same == {"part": {"dlib-face": 0.985, "clip": 0.92}[encoder]}
    assert choose([alone], "T", shares=shares).same == {"alone": None}


def test_one_source_is_together_across_parts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    pixels = tiny_pixels(40)
    for root, first in ((one, 0), (two, 20)):
        records = [
            FaceRecord(f"x{i}", source_sha256=f"{i:064x}").with_image("images", pixels[first + i])
            for i in range(20)
        ]
        finish(Part.create(root), "synthesize", [records])
    shares = Shares((0.4, 0.3, 0.3))
    parts = [Part.open(one), Part.open(two)]
    found: dict[str, set[str]] = {}
    for face in choose(parts, "T", shares=shares).faces():
        found.setdefault(face.record.face_id, set()).add(face.split)
    assert all(len(splits) == 1 for splits in found.values())
    assert len({s for splits in found.values() for s in splits}) == 3


def test_names_of_two_parts_stay_unique(tmp_path: Path) -> None:
    """Both have faces of the same ids; names go on, and the column part tells them apart."""
    parts = [rich_part(tmp_path / "a", 6), rich_part(tmp_path / "b", 6, seed=3)]
    export("imagefolder", parts, tmp_path / "out")
    import pyarrow.parquet as pq

    rows = pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    assert sorted(r["key"] for r in rows) == [f"T_{i:08d}" for i in range(12)]
    assert Counter((r["part"], r["face_id"]) for r in rows).most_common(1)[0][1] == 1
    assert Counter(r["face_id"] for r in rows).most_common(1)[0][1] == 2


def test_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    parts = [rich_part(tmp_path / "a" / "part", 4), rich_part(tmp_path / "b" / "part", 4)]
    with pytest.raises(UsageError, match="both are called part") as error:
        export("csv", parts, tmp_path / "out")
    assert str(tmp_path / "a") in str(error.value) and not (tmp_path / "out").exists()


def test_shares_hold_on_many() -> None:
    groups = {f"photo {i}": f"group {i}" for i in range(20_000)}
    counts = Counter(split_groups(groups, Shares((0.8, 0.15, 0.05))).values())
    for name, share in (("train", 0.8), ("validation", 0.15), ("test", 0.05)):
        assert abs(counts[name] / 20_000 - share) < 0.01


def test_a_photo_keeps_its_split_when_others_come() -> None:
    few = {f"photo {i}": f"group {i}" for i in range(100)}
    more = few | {f"photo {i}": f"group {i}" for i in range(100, 300)}
    before, after = split_groups(few, Shares()), split_groups(more, Shares())
    assert all(after[photo] == split for photo, split in before.items())


def test_a_share_of_nothing_gets_nobody() -> None:
    groups = {f"photo {i}": f"group {i}" for i in range(500)}
    assert {*split_groups(groups, Shares((1, 0, 0))).values()} == {"train"}
    assert {*split_groups(groups, Shares((0.5, 0, 0.5))).values()} == {"train", "test"}


@pytest.mark.parametrize("text", ["0.8,0.1", "a,b,c", "0.8,0.1,0.2", "-1,1,1", "nan,0,1", ""])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="wanted three shares"):
        Shares.read(text)


def test_groups_join_through_others() -> None:
    groups = Groups()
    for a, b in (("a", "b"), ("c", "d"), ("b", "c"), ("x", "y")):
        groups.join(a, b)
    groups.place("alone")
    assert groups.names() == {
        **dict.fromkeys("abcd", "a"),
        **dict.fromkeys("xy", "x"),
        "alone": "alone",
    }
