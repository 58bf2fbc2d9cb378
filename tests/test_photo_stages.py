"""The two stages that make photographs, on tiny networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import inverted_part, tree
from torch import Tensor

from encoders.e4e.network import E4e
from sfhq.errors import UsageError
from sfhq.faces.dlib_models import RECOGNITION, model_digest
from sfhq.faces.identity import recognition
from sfhq.parts.part import Part
from sfhq.parts.photos import load_images, read_pixels
from sfhq.parts.records import FaceRecord
from sfhq.pipeline.engine import run_stage
from sfhq.synthesis.candidates import (
    STRICT_RADIUS,
    render,
)
from sfhq.synthesis.latents import LatentPrior
from sfhq.synthesis.sample import Sample
from sfhq.synthesis.synthesize import Synthesize
from sfhq.tensors import to_tensor
from stylegan2_ops.generator import Generator, seed_to_z, truncate

torch.set_num_threads(1)
WAYS = ("strict", "low", "close-2", "psi-0.6", "psi-1", "donor-7", "sefa-0+1.5", "sefa-3-2")


@pytest.fixture
def stage(generator: Generator, encoder: E4e, prior: LatentPrior) -> Synthesize:
    return Synthesize(generator, "g" * 64, encoder, "e" * 64, prior)


def test_synthesize_makes_every_candidate_of_every_face(stage: Synthesize, tmp_path: Path) -> None:
    part = inverted_part(tmp_path / "part")
    counts = run_stage(replace(stage, candidates=WAYS, batch=2), part)
    assert (counts.entered, counts.alive) == (5, 5 * len(WAYS))
    records = list(part.records("synthesize"))
    assert [r.candidate for r in records] == list(WAYS) * 5
    for record in records:
        assert record.face_id == f"{record.parent_id}-{record.candidate}"
        assert record.source == f"{int(record.parent_id[4:])}.png"
        w_plus = torch.tensor(part.row("w_plus", record))[None]
        assert record.prior_distance == pytest.approx(stage.prior.distance(w_plus).item(), abs=1e-5)
        shown = read_pixels(part, record, "images").astype(int)
        assert np.abs(shown - render(stage.generator, w_plus)[0]).max() <= 1  # batches round
        assert (record.seed is not None) == record.candidate.startswith("donor")
        assert record.psi == (float(record.candidate[4:]) if "psi" in record.candidate else None)
    assert records[0].params["radius"] == STRICT_RADIUS
    assert {"share", "l1", "lab"} <= records[1].params.keys()
    donor = records[WAYS.index("donor-7")]
    assert donor.seed == donor.params["donor_seed"]


@pytest.mark.parametrize("keep", [1, 2])
def test_keep_takes_those_that_keep_the_person(
    stage: Synthesize, tmp_path: Path, keep: int
) -> None:
    part = inverted_part(tmp_path / "part")
    counts = run_stage(replace(stage, keep=keep), part)
    assert counts.alive == 5 * keep
    assert counts.rejected == {"keeps less of the person": 5 * (4 - keep)}
    by_parent: dict[str, list[FaceRecord]] = {}
    for record in part.records("synthesize"):
        by_parent.setdefault(record.parent_id, []).append(record)
    for family in by_parent.values():
        kept = [float(str(r.params["person"])) for r in family if r.alive]
        gone = [float(str(r.params["person"])) for r in family if not r.alive]
        assert max(kept) <= min(gone)
        for record in family:
            assert ("images" in record.hashes) == record.alive
            assert ("w_plus" in record.rows) == record.alive
            assert part.image_path("images", record.face_id).exists() == record.alive


def test_person_is_the_distance_of_vectors_of_photo_and_art(
    stage: Synthesize, tmp_path: Path
) -> None:
    part = inverted_part(tmp_path / "part")
    run_stage(replace(stage, batch=3), part)
    network = recognition(torch.device("cpu"))
    size = stage.generator.config.resolution
    for record in part.records("synthesize"):
        art = load_images(part, [replace(record, face_id=record.parent_id)], "aligned", size)
        photo = to_tensor(read_pixels(part, record, "images")[None])
        wanted = float((network(photo) - network(art)).norm())
        assert record.params["person"] == pytest.approx(wanted, abs=2e-3)  # batches round
    assert stage.settings()["recognition"] == model_digest(RECOGNITION)


def test_keep_chooses_among_those_within_the_limit(stage: Synthesize, tmp_path: Path) -> None:
    everything = inverted_part(tmp_path / "all")
    run_stage(stage, everything)
    by_parent: dict[str, list[FaceRecord]] = {}
    for record in everything.records("synthesize"):
        by_parent.setdefault(record.parent_id, []).append(record)
    limit = float(np.median([r.prior_distance or 0 for f in by_parent.values() for r in f])) + 1e-3
    part = inverted_part(tmp_path / "part")
    run_stage(replace(stage, keep=1, max_prior_distance=limit), part)
    kept = {r.parent_id: r.candidate for r in part.records("synthesize") if r.alive}
    wanted = {}
    for parent, family in by_parent.items():
        near = [r for r in family if (r.prior_distance or 0) <= limit]
        if near:
            wanted[parent] = min(near, key=lambda r: float(str(r.params["person"]))).candidate
    assert kept == wanted


def test_max_prior_distance_rejects_what_is_farther(stage: Synthesize, tmp_path: Path) -> None:
    everything = inverted_part(tmp_path / "all")
    run_stage(stage, everything)
    found = sorted(
        r.prior_distance for r in everything.records("synthesize") if r.prior_distance is not None
    )
    limit = found[len(found) // 2]
    part = inverted_part(tmp_path / "part")
    counts = run_stage(replace(stage, max_prior_distance=limit), part)
    for record in part.records("synthesize"):
        assert record.prior_distance is not None
        if abs(record.prior_distance - limit) > 1e-5:
            assert record.alive == (record.prior_distance < limit)
        if not record.alive:
            assert record.reason == "too far from the prior"
            assert f"wanted {limit} or less" in record.detail
    assert counts.rejected["too far from the prior"] == pytest.approx(len(found) / 2, abs=1)


def test_two_runs_give_the_same_bytes(stage: Synthesize, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_stage(stage, inverted_part(tmp_path / name / "part"))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": ()}, "no candidate named"),
        ({"candidates": ("smile",)}, "unknown candidate"),
        ({"keep": 0}, "keep is 0; wanted 1"),
        ({"seed": -1}, "seed is -1; wanted 0 to"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"batch": 0}, "batch is 0; wanted 1"),
    ],
)
def test_synthesize_settings_that_cannot_be(
    stage: Synthesize, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        replace(stage, **change)  # type: ignore[arg-type]


@pytest.fixture
def sampler(generator: Generator, encoder: E4e, prior: LatentPrior) -> Sample:
    return Sample(generator, "g" * 64, encoder, "e" * 64, prior, count=3, seed=7)


def latents(part: Part) -> Tensor:
    return torch.stack([torch.tensor(part.row("w_plus", r)) for r in part.records("sample")])


def drawn(generator: Generator, seeds: Sequence[int], psi: float) -> Tensor:
    z = torch.cat([seed_to_z(s, 16) for s in seeds])
    return truncate(generator.broadcast(generator.mapping(z)), generator.latent_avg, psi)


def test_sample_draws_published_seeds(
    sampler: Sample, generator: Generator, tmp_path: Path
) -> None:
    part = Part.create(tmp_path / "part")
    counts = run_stage(replace(sampler, anchor_psi=1.0), part, shard_size=2)
    assert counts.alive == 3
    assert part.shards("sample") == [0, 1]
    records = list(part.records("sample"))
    assert [r.seed for r in records] == [7, 8, 9]
    assert [r.face_id for r in records] == [f"seed{s:010d}" for s in (7, 8, 9)]
    assert {r.psi for r in records} == {1.2}
    assert {r.candidate for r in records} == {"anchored"}
    assert {(r.width, r.height) for r in records} == {(32, 32)}
    assert {r.params["anchor_psi"] for r in records} == {1.0}
    expected = drawn(generator, [7, 8, 9], 1.2)
    torch.testing.assert_close(latents(part), expected, atol=1e-5, rtol=1e-5)
    for record, realism in zip(records, sampler.prior.distance(expected).tolist(), strict=True):
        assert record.prior_distance == pytest.approx(realism, abs=1e-4)
    shown = np.stack([read_pixels(part, r, "images") for r in records])
    wanted = render(generator, latents(part))
    assert np.abs(shown.astype(int) - wanted.astype(int)).max() <= 1


def test_anchor_psi_leads_from_the_encoder_to_the_draw(
    sampler: Sample, generator: Generator, encoder: E4e, tmp_path: Path
) -> None:
    found = {}
    for psi in (0.0, 0.25, 1.0):
        part = Part.create(tmp_path / str(psi))
        run_stage(replace(sampler, anchor_psi=psi), part)
        found[psi] = latents(part)
    w = drawn(generator, [7, 8, 9], 1.2)
    seen = encoder(generator.synthesis(w).clamp(-1, 1))
    torch.testing.assert_close(found[0.0], seen, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[1.0], w, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0.25], 0.75 * seen + 0.25 * w, atol=1e-4, rtol=1e-4)


def test_a_sample_does_not_depend_on_the_others(sampler: Sample, tmp_path: Path) -> None:
    whole, part = Part.create(tmp_path / "whole"), Part.create(tmp_path / "part")
    run_stage(sampler, whole)
    run_stage(replace(sampler, seed=9, count=1), part)
    torch.testing.assert_close(latents(part)[0], latents(whole)[2], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count is 0; wanted 1"),
        ({"seed": -1}, "seed is -1; wanted 0"),
        ({"seed": 2**32 - 2}, "wanted 0 to 4294967293"),
        ({"psi": float("nan")}, "psi is nan; wanted 0 to 10"),
        ({"psi": -0.5}, "psi is -0.5"),
        ({"anchor_psi": 1.5}, "anchor_psi is 1.5; wanted 0 to 1"),
        ({"anchor_psi": float("nan")}, "anchor_psi is nan"),
        ({"batch": 0}, "batch is 0; wanted 1"),
    ],
)
def test_sample_settings_that_cannot_be(
    sampler: Sample, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        replace(sampler, **change)  # type: ignore[arg-type]


def test_the_last_seed_of_all_can_be_drawn(sampler: Sample, tmp_path: Path) -> None:
    part = Part.create(tmp_path / "part")
    run_stage(replace(sampler, seed=2**32 - 1, count=1), part)
    assert [r.seed for r in part.records("sample")] == [2**32 - 1]
