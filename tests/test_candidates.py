"""Candidates: every way on tiny networks, and the two stages that make photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import inverted_part, tiny_e4e, tiny_generator, tiny_images, tree
from torch import Tensor

from encoders.e4e.network import E4e
from encoders.e4e.pair import Pair
from sfhq.errors import UsageError
from sfhq.faces.identity import recognition
from sfhq.parts.part import Part
from sfhq.parts.photos import read_pixels
from sfhq.parts.records import FaceRecord
from sfhq.pipeline.engine import run_stage
from sfhq.pipeline.recipe import ModelSettings
from sfhq.synthesis import candidates
from sfhq.synthesis.candidates import (
    LOW_RADIUS,
    LOW_ROUNDS,
    STRICT_RADIUS,
    CandidateMaker,
    render,
)
from sfhq.synthesis.close import RADIUS
from sfhq.synthesis.latents import LatentPrior, sefa_directions
from sfhq.synthesis.likeness import Likeness, Seen, detail, reduce, to_lab
from sfhq.synthesis.names import DEFAULT_CANDIDATES, DONORS, check_names
from sfhq.synthesis.sample import Sample
from sfhq.synthesis.synthesize import Synthesize
from stylegan2_ops.generator import Generator, seed_to_z, truncate

torch.set_num_threads(1)
WAYS = ("strict", "low", "close-2", "psi-0.6", "psi-1", "donor-7", "sefa-0+1.5", "sefa-3-2")
IDS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator()


@pytest.fixture(scope="module")
def encoder() -> E4e:
    return tiny_e4e()


@pytest.fixture(scope="module")
def prior(generator: Generator) -> LatentPrior:
    return LatentPrior.of(generator, 1024)


@pytest.fixture(scope="module")
def maker(generator: Generator, encoder: E4e, prior: LatentPrior) -> CandidateMaker:
    return CandidateMaker(generator, encoder, prior, seed=11)


@pytest.fixture(scope="module")
def faces() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(8)
    return torch.randn(3, 8, 16, generator=rng), tiny_images(3)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("smile",), "unknown candidate 'smile'; wanted strict, low"),
        (("",), "unknown candidate ''"),
        (("psi-",), "unknown candidate"),
        (("psi--1",), "unknown candidate"),
        (("psi-nan",), "unknown candidate"),
        (("strict ",), "unknown candidate"),
        (("strict\n",), "unknown candidate"),
        (("donor-x",), "unknown candidate"),
        (("sefa-0",), "unknown candidate"),
        (("sefa-1.5+1",), "unknown candidate"),
        (("psi-2.1",), "psi is out of range; wanted 0 to 2"),
        (("close-0",), "steps are out of range; wanted 1 to 10000"),
        (("close-10001",), "steps are out of range"),
        (("close-",), "unknown candidate"),
        (("donor-19",), "the layer is out of range; wanted 0 to 18"),
        (("sefa-0+4.5",), "the step is out of range"),
        (("sefa-0-99",), "the step is out of range"),
        (("strict", "low", "strict"), "repeat a name"),
    ],
)
def test_names_that_cannot_be(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        check_names(names)
    assert "\n" not in str(caught.value)


def test_names_that_can() -> None:
    check_names(WAYS)
    check_names(DEFAULT_CANDIDATES)
    check_names(("close", "close-1", "close-10000"))
    check_names(())


@pytest.mark.parametrize("name", WAYS)
def test_every_way_gives_one_latent_a_face(
    maker: CandidateMaker, faces: tuple[Tensor, Tensor], name: str
) -> None:
    made = maker.make(name, *faces, IDS)
    assert made.name == name
    assert made.w_plus.shape == (3, 8, 16)
    assert made.w_plus.isfinite().all()
    assert len(made.params) == 3


@pytest.mark.parametrize("name", WAYS)
def test_every_way_is_deterministic(
    maker: CandidateMaker, faces: tuple[Tensor, Tensor], name: str
) -> None:
    state = torch.get_rng_state()
    first, second = maker.make(name, *faces, IDS), maker.make(name, *faces, IDS)
    assert torch.equal(first.w_plus, second.w_plus)
    assert first.params == second.params
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", WAYS)
def test_no_way_looks_at_the_other_faces(
    maker: CandidateMaker, faces: tuple[Tensor, Tensor], name: str
) -> None:
    inverted, images = faces
    together = maker.make(name, inverted, images, IDS)
    for row in (0, 2):
        alone = maker.make(name, inverted[row : row + 1], images[row : row + 1], IDS[row:][:1])
        torch.testing.assert_close(alone.w_plus[0], together.w_plus[row], atol=1e-4, rtol=1e-4)
        assert alone.params[0].keys() == together.params[row].keys()
        assert alone.params[0].get("donor_seed") == together.params[row].get("donor_seed")


def test_strict_stays_within_its_radius(
    maker: CandidateMaker, prior: LatentPrior, faces: tuple[Tensor, Tensor]
) -> None:
    made = maker.make("strict", 6 * faces[0], faces[1], IDS)
    assert (prior.distance(made.w_plus) <= STRICT_RADIUS + 1e-4).all()
    assert made.params[0]["radius"] == STRICT_RADIUS


def seen(generator: Generator, w_plus: Tensor, images: Tensor) -> Seen:
    """The rendered pictures beside the inspirations."""
    return Likeness.to(images).see(generator.synthesis(w_plus), torch.arange(len(images)))


def test_low_is_nearer_than_strict_and_no_blurrier(
    maker: CandidateMaker, generator: Generator, prior: LatentPrior
) -> None:
    rng = torch.Generator().manual_seed(9)
    wanted = generator.broadcast(generator.mapping(torch.randn(12, 16, generator=rng)))
    images = generator.synthesis(wanted).clamp(-1, 1)
    inverted = wanted + 0.1 * torch.randn(12, 8, 16, generator=rng)
    ids = [str(i) for i in range(12)]
    strict, made = (maker.make(name, inverted, images, ids) for name in ("strict", "low"))
    before, after = (seen(generator, c.w_plus, images) for c in (strict, made))
    moved = torch.tensor(
        [bool((a != b).any()) for a, b in zip(made.w_plus, strict.w_plus, strict=True)]
    )
    assert moved.sum() >= 5
    assert (after.apart[moved] < before.apart[moved]).all()
    assert (after.l1[moved] < before.l1[moved]).all()
    assert after.person[moved].mean() < before.person[moved].mean()
    assert (after.detail[moved] > before.detail[moved]).all()
    assert (prior.distance(made.w_plus) <= LOW_RADIUS + 1e-4).all()
    for face, l1, apart in zip(made.params, after.l1.tolist(), after.apart.tolist(), strict=True):
        assert face["l1"] == pytest.approx(l1, abs=1e-3)
        assert face["lab"] == pytest.approx(apart, abs=0.1)
        assert 0 <= face["rounds"] <= LOW_ROUNDS


def test_low_leaves_what_cannot_be_nearer(maker: CandidateMaker, generator: Generator) -> None:
    """The art is the very picture of `strict`, so nothing is nearer."""
    inverted = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(12))
    strict = maker.make("strict", inverted, tiny_images(2), IDS[:2]).w_plus
    made = maker.make("low", inverted, generator.synthesis(strict).clamp(-1, 1), IDS[:2])
    torch.testing.assert_close(made.w_plus, strict)
    assert [face["rounds"] for face in made.params] == [0, 0]
    assert [face["lab"] for face in made.params] == pytest.approx([0, 0], abs=0.01)


def test_low_takes_the_inverted_latent_unless_it_is_blurrier(
    generator: Generator, prior: LatentPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that was right: its latent, bounded, draws the art itself."""
    rng = torch.Generator().manual_seed(10)
    inverted = prior.within(3 * torch.randn(6, 8, 16, generator=rng), LOW_RADIUS)
    images = generator.synthesis(inverted).clamp(-1, 1)
    maker = CandidateMaker(generator, lambda _: inverted, prior, 0)
    strict = maker.make("strict", inverted, images, list("abcdef")).w_plus
    share = seen(generator, inverted, images).detail / seen(generator, strict, images).detail
    assert ((share > 0.9) & (share < 1)).any()
    made = maker.make("low", inverted, images, list("abcdef"))
    guarded = seen(generator, made.w_plus, images).detail / seen(generator, strict, images).detail
    assert (guarded >= 1 - 1e-4).all()
    monkeypatch.setattr(candidates, "LOW_DETAIL", 0.9)
    made = maker.make("low", inverted, images, list("abcdef"))
    torch.testing.assert_close(made.w_plus, inverted, atol=1e-3, rtol=1e-3)
    assert {face["rounds"] for face in made.params} == {0}


def test_distances_and_detail_are_those_of_their_definitions() -> None:
    white, grey = torch.ones(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5 * 2 - 1)
    torch.testing.assert_close(
        to_lab(white)[0, :, 0, 0], torch.tensor([100.0, 0, 0]), atol=1e-2, rtol=0
    )
    red = to_lab(torch.tensor([1.0, -1, -1]).reshape(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(red, torch.tensor([53.24, 80.09, 67.20]), atol=0.02, rtol=0)
    assert float(to_lab(grey)[0, 0, 0, 0]) == pytest.approx(53.39, abs=0.02)
    apart = Likeness.to(white).see(grey, torch.zeros(1, dtype=torch.long))
    assert float(apart.l1) == pytest.approx(1.0) and float(apart.apart) == pytest.approx(
        46.61, abs=0.02
    )
    assert float(apart.detail) == pytest.approx(0, abs=1e-3)
    sharp = tiny_images(1, 128)
    soft = F.interpolate(F.interpolate(sharp, (16, 16), mode="area"), (128, 128), mode="bilinear")
    assert detail(soft) < 0.8 * detail(sharp)
    assert reduce(sharp, 64).shape == (1, 3, 64, 64)
    assert torch.equal(reduce(sharp, 256), sharp)


def test_psi_is_plain_truncation(
    maker: CandidateMaker, generator: Generator, faces: tuple[Tensor, Tensor]
) -> None:
    made = maker.make("psi-0.6", *faces, IDS)
    assert made.psi == 0.6
    torch.testing.assert_close(made.w_plus, truncate(faces[0], generator.latent_avg, 0.6))
    torch.testing.assert_close(maker.make("psi-1", *faces, IDS).w_plus, faces[0])
    mean = maker.make("psi-0", *faces, IDS).w_plus
    torch.testing.assert_close(mean, generator.latent_avg.expand(3, 8, 16))


def test_donors_are_named_by_seed_and_can_be_drawn_again(
    maker: CandidateMaker, generator: Generator, faces: tuple[Tensor, Tensor]
) -> None:
    made = maker.make("donor-0", *faces, IDS)
    for row, face in enumerate(made.params):
        seed = face["donor_seed"]
        assert 11 <= seed < 11 + DONORS
        w = truncate(
            generator.broadcast(generator.mapping(seed_to_z(seed, 16))), generator.latent_avg, 0.4
        )
        # At crossover 0 the last layer is the donor's but for the logistic's tail.
        torch.testing.assert_close(made.w_plus[row, 7], w[0, 7], atol=5e-3, rtol=5e-3)
    coarse = maker.make("donor-18", *faces, IDS).w_plus
    base = truncate(faces[0], generator.latent_avg, 0.9)
    torch.testing.assert_close(coarse[:, 0], base[:, 0], atol=5e-3, rtol=5e-3)


def test_another_seed_gives_other_donors(
    maker: CandidateMaker, faces: tuple[Tensor, Tensor]
) -> None:
    other = replace(maker, seed=5000)
    assert maker.make("donor-7", *faces, IDS).params != other.make("donor-7", *faces, IDS).params


def test_opposite_steps_lie_opposite_of_strict(
    maker: CandidateMaker, generator: Generator, faces: tuple[Tensor, Tensor]
) -> None:
    strict = maker.make("strict", *faces, IDS).w_plus
    up = maker.make("sefa-2+1.5", *faces, IDS)
    down = maker.make("sefa-2-1.5", *faces, IDS)
    torch.testing.assert_close((up.w_plus + down.w_plus) / 2, strict, atol=1e-5, rtol=1e-5)
    step = F.normalize((up.w_plus - strict)[0, 0], dim=0)
    torch.testing.assert_close(step, sefa_directions(generator)[2], atol=1e-4, rtol=1e-4)
    assert (up.params[0]["step"], down.params[0]["step"]) == (1.5, -1.5)


def test_a_direction_that_is_not_there(maker: CandidateMaker, faces: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(UsageError, match="sefa-16\\+1: direction 16; wanted 0 to 15"):
        maker.make("sefa-16+1", *faces, IDS)


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
        shown = read_pixels(part, record, "images")
        assert np.array_equal(shown, render(stage.generator, w_plus)[0])
        assert (record.seed is not None) == record.candidate.startswith("donor")
        assert record.psi == (float(record.candidate[4:]) if "psi" in record.candidate else None)
    assert records[0].params["radius"] == STRICT_RADIUS
    assert {"rounds", "l1"} <= records[1].params.keys()
    donor = records[WAYS.index("donor-7")]
    assert donor.seed == donor.params["donor_seed"]


@pytest.mark.parametrize("keep", [1, 2])
def test_keep_takes_those_nearest_the_prior(stage: Synthesize, tmp_path: Path, keep: int) -> None:
    part = inverted_part(tmp_path / "part")
    counts = run_stage(replace(stage, keep=keep), part)
    assert counts.alive == 5 * keep
    assert counts.rejected == {"farther from the prior": 5 * (4 - keep)}
    by_parent: dict[str, list[FaceRecord]] = {}
    for record in part.records("synthesize"):
        by_parent.setdefault(record.parent_id, []).append(record)
    for family in by_parent.values():
        kept = [r.prior_distance for r in family if r.alive]
        gone = [r.prior_distance for r in family if not r.alive]
        assert max(k for k in kept if k is not None) <= min(g for g in gone if g is not None)
        for record in family:
            assert ("images" in record.hashes) == record.alive
            assert ("w_plus" in record.rows) == record.alive
            assert part.image_path("images", record.face_id).exists() == record.alive


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


@pytest.fixture(scope="module")
def given() -> tuple[CandidateMaker, Tensor, Tensor]:
    """Pictures of the embedded generator, and latents that are far from them."""
    pair = Pair.load(ModelSettings())
    network = pair.generator
    w = network.mapping(torch.cat([seed_to_z(s, network.config.z_dim) for s in (3, 4)]))
    images = network.synthesis(truncate(network.broadcast(w), network.latent_avg, 0.5))
    start = network.broadcast(network.latent_avg[None]).expand(2, -1, -1)
    maker = CandidateMaker(network, pair.encoder, LatentPrior.of(network), seed=0)
    return maker, start.detach(), images.detach()


class TestClose:
    def test_comes_nearer_to_the_person_and_stays_near_the_prior(
        self, given: tuple[CandidateMaker, Tensor, Tensor]
    ) -> None:
        maker, start, images = given
        with torch.inference_mode():  # as the stages run
            far, near = (maker.make(f"close-{n}", start, images, ["a", "b"]) for n in (1, 8))
        distances = [[float(str(p["person"])) for p in made.params] for made in (far, near)]
        assert all(b < 0.8 * a for a, b in zip(*distances, strict=True))
        assert {p["steps"] for p in near.params} == {8}
        assert float(maker.prior.distance(near.w_plus).max()) <= RADIUS + 1e-3
        assert torch.equal(near.w_plus, near.w_plus[:, :1].expand_as(near.w_plus))  # as at first

    def test_a_face_ends_at_the_same_place_in_any_batch(
        self, given: tuple[CandidateMaker, Tensor, Tensor]
    ) -> None:
        maker, start, images = given
        both = maker.make("close-2", start, images, ["a", "b"]).w_plus
        alone = maker.make("close-2", start[1:], images[1:], ["b"]).w_plus
        assert torch.equal(both[1:], alone)

    def test_goes_on_where_another_way_has_loaded_the_network_first(
        self, given: tuple[CandidateMaker, Tensor, Tensor]
    ) -> None:
        maker, start, images = given
        recognition.cache_clear()
        with torch.inference_mode():  # as the stages run: low asks for the network, then close
            maker.make("low", start, images, ["a", "b"])
            made = maker.make("close-2", start, images, ["a", "b"])
        assert bool(made.w_plus.isfinite().all())

    def test_goes_to_the_photograph_where_the_encoder_knows_it(
        self, given: tuple[CandidateMaker, Tensor, Tensor]
    ) -> None:
        """An encoder that says what dlib's network would see in a photograph of the person."""
        maker, start, images = given
        truth = recognition(torch.device("cpu"))(images.flip(0))  # the other one of two people

        class Knows:
            def __call__(self, pictures: Tensor) -> Tensor:
                return start[: len(pictures)]

            def as_photo(self, vectors: Tensor) -> Tensor:
                seen = recognition(torch.device("cpu"))(images)
                nearest: Tensor = truth[torch.cdist(vectors, seen).argmin(1)]
                return nearest

        knows = replace(maker, encoder=Knows())
        with torch.inference_mode():
            vectors = knows._likeness(images).vector
            made = [m.make("close-6", start, images, ["a", "b"]).w_plus for m in (maker, knows)]
        torch.testing.assert_close(vectors, truth, atol=1e-4, rtol=1e-3)
        assert not torch.equal(*made)
