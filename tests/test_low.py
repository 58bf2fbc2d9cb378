"""The candidate that is refined to be near the art without gradients, on tiny networks."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_images
from torch import Tensor

from encoders.e4e.network import E4e
from sfhq.synthesis import low
from sfhq.synthesis.candidates import CandidateMaker
from sfhq.synthesis.latents import LatentPrior, unactivate
from sfhq.synthesis.likeness import Likeness, Seen
from sfhq.synthesis.low import RADIUS, SHARES, LowRefinement
from stylegan2_ops.generator import Generator

torch.set_num_threads(1)


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
    assert (after.detail[moved] > before.detail[moved] - 1e-4).all()
    assert (prior.distance(made.w_plus) <= RADIUS + 1e-4).all()
    for face, l1, apart in zip(made.params, after.l1.tolist(), after.apart.tolist(), strict=True):
        assert face["l1"] == pytest.approx(l1, abs=1e-3)
        assert face["lab"] == pytest.approx(apart, abs=0.1)
        assert face["share"] in (0, *SHARES)


def test_low_leaves_what_cannot_be_nearer(maker: CandidateMaker, generator: Generator) -> None:
    """The art is the very picture of `strict`, so nothing is nearer."""
    inverted = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(12))
    strict = maker.make("strict", inverted, tiny_images(2), ["a", "b"]).w_plus
    made = maker.make("low", inverted, generator.synthesis(strict).clamp(-1, 1), ["a", "b"])
    torch.testing.assert_close(made.w_plus, strict)
    assert [face["share"] for face in made.params] == [0, 0]
    assert [face["lab"] for face in made.params] == pytest.approx([0, 0], abs=0.01)


def test_low_takes_the_inverted_latent_unless_it_is_blurrier(
    generator: Generator, encoder: E4e, prior: LatentPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inversion was right: its latent, bounded, draws the art itself."""
    rng = torch.Generator().manual_seed(10)
    inverted = prior.within(3 * torch.randn(6, 8, 16, generator=rng), RADIUS)
    images = generator.synthesis(inverted).clamp(-1, 1)
    maker = CandidateMaker(generator, encoder, prior, 0)
    strict = maker.make("strict", inverted, images, list("abcdef")).w_plus
    share = seen(generator, inverted, images).detail / seen(generator, strict, images).detail
    assert ((share > 0.9) & (share < 1)).any()
    made = maker.make("low", inverted, images, list("abcdef"))
    guarded = seen(generator, made.w_plus, images).detail / seen(generator, strict, images).detail
    assert (guarded >= 1 - 1e-4).all()
    monkeypatch.setattr(low, "DETAIL", 0.9)
    made = maker.make("low", inverted, images, list("abcdef"))
    torch.testing.assert_close(made.w_plus, inverted, atol=1e-3, rtol=1e-3)
    assert {face["share"] for face in made.params} == {0}


def test_low_goes_where_the_encoder_says_that_the_person_is(
    encoder: E4e, generator: Generator, prior: LatentPrior
) -> None:
    rng = torch.Generator().manual_seed(9)
    right, wrong = (generator.mapping(torch.randn(8, 16, generator=rng)) for _ in range(2))
    wanted, strict = (generator.broadcast(0.5 * w) for w in (right, wrong))
    images = generator.synthesis(wanted).clamp(-1, 1)

    class Knowing:
        """Inverts as an e4e, and knows the way to the person."""

        def __call__(self, images: Tensor) -> Tensor:
            w_plus: Tensor = encoder(images)
            return w_plus

        def toward(self, apart: Tensor) -> Tensor:
            assert apart.shape == (8, 128)
            way = unactivate(wanted[:, 0]) - unactivate(strict[:, 0])
            return way[:, None].expand(-1, 3, -1)

    inverted = encoder(images)
    likeness = Likeness.to(images)
    found = LowRefinement(generator, Knowing(), prior, likeness).refine(inverted, strict)
    without = LowRefinement(generator, encoder, prior, likeness).refine(inverted, strict)
    assert found.seen.person.mean() < 0.9 * without.seen.person.mean()


def test_a_face_ends_at_the_same_place_in_any_batch(
    maker: CandidateMaker, generator: Generator
) -> None:
    rng = torch.Generator().manual_seed(9)
    wanted = generator.broadcast(generator.mapping(torch.randn(5, 16, generator=rng)))
    images = generator.synthesis(wanted).clamp(-1, 1)
    inverted = wanted + 0.1 * torch.randn(5, 8, 16, generator=rng)
    together = maker.make("low", inverted, images, list("abcde")).w_plus
    alone = [maker.make("low", inverted[i : i + 1], images[i : i + 1], ["a"]) for i in range(5)]
    torch.testing.assert_close(torch.cat([a.w_plus for a in alone]), together, atol=1e-3, rtol=0)
