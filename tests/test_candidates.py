"""Candidates: every way, on tiny networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_images
from torch import Tensor

from sfhq.errors import UsageError
from sfhq.synthesis.candidates import STRICT_RADIUS, CandidateMaker
from sfhq.synthesis.latents import LatentPrior, sefa_directions
from sfhq.synthesis.likeness import Likeness, detail, reduce, to_lab
from sfhq.synthesis.names import DEFAULT_CANDIDATES, DONORS, check_names
from stylegan2_ops.generator import Generator, seed_to_z, truncate

torch.set_num_threads(1)
WAYS = ("strict", "low", "close-2", "psi-0.6", "psi-1", "donor-7", "sefa-0+1.5", "sefa-3-2")
IDS = ["a", "b", "c"]


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
