"""How much of the person candidates keep: the measure, the stage, and which ones stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reading import TinyReader
from tiny import finish, inverted_part, tiny_pixels

from annotate.resemble import STRANGERS, Resemble, ResembleSettings, Seen, resemblance
from sfhq.errors import UsageError
from sfhq.parts.join import history
from sfhq.parts.part import Part
from sfhq.parts.photos import read_pixels
from sfhq.parts.records import FaceRecord
from sfhq.pipeline.engine import run_stage
from sfhq.pipeline.recipe import Recipe

DIGEST = "0" * 64


def seen(
    face: tuple[float, ...] = (1, 0),
    skin: tuple[float, ...] | None = (60, 10, 15),
    hair: tuple[float, ...] | None = (20, 5, 5),
) -> Seen:
    return Seen(
        np.array(face, float),
        None if skin is None else np.array(skin, float),
        None if hair is None else np.array(hair, float),
    )


def test_the_same_looks_are_one_and_strangers_are_one_in_e() -> None:
    assert resemblance(seen(), seen()) == pytest.approx(1)
    away = 1 - STRANGERS["face"]
    other = seen(
        (away, (1 - away**2) ** 0.5),
        (60, 10, 15 + STRANGERS["skin"]),
        (20 + STRANGERS["hair"], 5, 5),
    )
    assert resemblance(seen(), other) == pytest.approx(np.exp(-1))


def test_a_lost_colour_counts_as_nothing_in_common() -> None:
    assert resemblance(seen(), seen(hair=None)) == pytest.approx(2 / 3), "bald"
    assert resemblance(seen(hair=None), seen(hair=None)) == pytest.approx(1)
    assert resemblance(seen(), seen(skin=(50, 10, 15))) < 1
    assert resemblance(seen(), seen((0.8, 0.6))) < 1


def candidates_part(root: Path) -> Part:
    """Three candidates of each of four faces; the second is the art itself."""
    part = inverted_part(root, 4)
    records: list[FaceRecord] = []
    for record in part.read_shard("invert", 0):
        art = read_pixels(part, record, "aligned")
        others = tiny_pixels(2, seed=11 + len(records))
        for name, pixels in zip(
            ("strict", "low", "psi-0.6"), (others[0], art, others[1]), strict=True
        ):
            made = replace(
                record,
                face_id=f"{record.face_id}-{name}",
                parent_id=record.face_id,
                candidate=name,
                prior_distance=0.5,
            )
            records.append(made.with_image("images", pixels))
    finish(part, "synthesize", [records[:6], records[6:]])
    return part


def test_every_candidate_is_compared_with_its_own_art(tmp_path: Path) -> None:
    part = candidates_part(tmp_path / "part")
    run_stage(Resemble(TinyReader(32), DIGEST), part)
    found = {r.face_id: r.about["resemblance"] for r in part.faces()}
    assert len(found) == 12
    for face, value in found.items():
        assert value == pytest.approx(1) if face.endswith("-low") else value < 0.98, face


def test_only_those_that_keep_the_person_stay(tmp_path: Path) -> None:
    part = candidates_part(tmp_path / "part")
    run_stage(Resemble(TinyReader(32), DIGEST, keep=1), part)
    fates = {r.face_id: r for r in history(part, "resemble")}
    assert [f for f, r in fates.items() if r.alive] == [f"face0{i}-low" for i in range(4)]
    other = fates["face00-strict"]
    assert other.reason == "keeps less of the person"
    assert other.detail.endswith("is not among the highest 1 of its face")


def test_a_part_without_candidates_is_refused(tmp_path: Path) -> None:
    part = inverted_part(tmp_path / "part")
    with pytest.raises(UsageError, match="sfhq synthesize"):
        run_stage(Resemble(TinyReader(32), DIGEST), part)


def test_the_embedded_network_knows_a_photo_from_another() -> None:
    pytest.importorskip("scipy")
    stage = Resemble.build(ResembleSettings(), Recipe(), Path())
    faces = [np.full((256, 256, 3), 128, np.uint8), *tiny_pixels(1, 256)]
    art, other = (stage.see(f) for f in faces)
    assert resemblance(art, art) == pytest.approx(1) and resemblance(art, other) < 0.9
