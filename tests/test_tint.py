"""The colour of a face survives a pull to the mean face."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_generator
from torch import Tensor

from sfhq.synthesis.candidates import CandidateMaker
from sfhq.synthesis.latents import LatentPrior
from sfhq.synthesis.tint import Tint, middle
from sfhq.weights.checkpoints import load_generator
from stylegan2_ops.generator import Generator, truncate
from stylegan2_ops.inference import prepared

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return load_generator()[0]


@pytest.fixture(scope="module")
def prior(generator: Generator) -> LatentPrior:
    return LatentPrior.of(generator)


@pytest.fixture(scope="module")
def tint(generator: Generator, prior: LatentPrior) -> Tint:
    return Tint.of(generator, prior)


@pytest.fixture(scope="module")
def faces(generator: Generator) -> Tensor:
    rng = torch.Generator().manual_seed(5)  # not the seed that the tint is measured with
    with torch.inference_mode():
        w = generator.mapping(torch.randn(128, generator.config.z_dim, generator=rng))
        return generator.broadcast(w)


def colours(generator: Generator, w_plus: Tensor) -> Tensor:
    render = prepared(generator.synthesis, "fp32")
    with torch.inference_mode():
        return torch.cat([middle(render(w, stop_at=64)) for w in w_plus.split(8)])


def test_the_middle_is_the_middle() -> None:
    image = torch.full((1, 3, 8, 8), -1.0)
    image[:, :, 2:6, 2:6] = 1.0
    torch.testing.assert_close(middle(image), torch.tensor([[100.0, 0.0, 0.0]]), atol=0.02, rtol=0)


def test_the_colour_of_unseen_faces_is_foretold(
    generator: Generator, prior: LatentPrior, tint: Tint, faces: Tensor
) -> None:
    told = prior.whiten(faces[:, 0]) @ tint.slope
    seen = colours(generator, faces)
    for axis in range(3):
        assert torch.corrcoef(torch.stack([told[:, axis], seen[:, axis]]))[0, 1] > 0.6


def test_a_step_changes_its_own_colour_and_no_other(tint: Tint) -> None:
    change = tint.step @ tint.slope  # (3, 3): the ridge takes a part of it
    own = change.diagonal()
    assert (own > 0.3).all() and (own <= 1.001).all()
    assert (change - torch.diag(own)).abs().max() < 0.35 * own.min()


def spread(before: Tensor, after: Tensor) -> float:
    """What is left of the differences in lightness between faces: 1 for all, 0 for none."""
    x, y = (v[:, 0] - v[:, 0].mean() for v in (before, after))
    return float((x * y).sum() / (x * x).sum())


def test_light_and_dark_faces_stay_so_when_they_are_pulled(
    generator: Generator, prior: LatentPrior, tint: Tint, faces: Tensor
) -> None:
    pulled = prior.within(faces, 0.5)
    kept = tint.keep(prior, faces, pulled)
    before = colours(generator, faces)
    without, given = (spread(before, colours(generator, w)) for w in (pulled, kept))
    assert 1 - given < 0.6 * (1 - without)


def test_who_was_not_pulled_stays(prior: LatentPrior, tint: Tint, faces: Tensor) -> None:
    torch.testing.assert_close(tint.keep(prior, faces, faces), faces, atol=1e-4, rtol=1e-4)


def test_gradients_reach_both_latents(prior: LatentPrior, tint: Tint, faces: Tensor) -> None:
    before = faces[:2].clone().requires_grad_()
    after = (0.5 * faces[:2]).requires_grad_()
    tint.keep(prior, before, after).square().sum().backward()
    assert before.grad is not None and before.grad.abs().sum() > 0
    assert after.grad is not None and after.grad.abs().sum() > 0


def test_the_same_twice() -> None:
    generator = tiny_generator()
    prior = LatentPrior.of(generator, 256)
    first, second = (Tint.of(generator, prior, 64) for _ in range(2))
    assert torch.equal(first.slope, second.slope) and torch.equal(first.step, second.step)
    assert first.slope.shape == (generator.config.w_dim, 3)
    assert first.step.isfinite().all()


@pytest.mark.parametrize("name", ["strict", "donor-7", "sefa-0+1.5"])
def test_candidates_keep_it(
    generator: Generator, prior: LatentPrior, tint: Tint, faces: Tensor, name: str
) -> None:
    before = colours(generator, faces)
    left = []
    for given in (None, tint):
        maker = CandidateMaker(generator, lambda x: x, prior, seed=3, tint=given)
        ids = [str(i) for i in range(len(faces))]
        with torch.inference_mode():
            made = maker.make(name, faces, torch.zeros(len(faces), 3, 8, 8), ids).w_plus
        left.append(spread(before, colours(generator, made)))
    assert left[0] < left[1] < 1.1


def test_a_plain_ladder_is_left_alone(
    generator: Generator, prior: LatentPrior, tint: Tint, faces: Tensor
) -> None:
    maker = CandidateMaker(generator, lambda x: x, prior, seed=3, tint=tint)
    made = maker.make("psi-0.6", faces, torch.zeros(len(faces), 3, 8, 8), [""] * len(faces))
    wanted = truncate(faces, generator.latent_avg, 0.6)
    torch.testing.assert_close(made.w_plus, wanted)
