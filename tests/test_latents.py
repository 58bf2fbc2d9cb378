"""The latent space: its prior, the moves within it, the directions of the weights."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_generator
from torch import Tensor

from sfhq.synthesis.latents import (
    LatentPrior,
    layer_ladder,
    mix_fine_layers,
    pull_towards,
    sefa_directions,
)
from stylegan2_ops.generator import Generator, GeneratorConfig, truncate

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def prior(generator: Generator) -> LatentPrior:
    return LatentPrior.of(generator, 4096)


def draws(generator: Generator, count: int, seed: int = 5) -> Tensor:
    z = torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))
    return generator.broadcast(generator.mapping(z))


def test_prior_is_measured_the_same_way_each_time(generator: Generator) -> None:
    state = torch.get_rng_state()
    first, second = LatentPrior.of(generator, 256), LatentPrior.of(generator, 256)
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.axes, second.axes)
    assert torch.equal(first.scale, second.scale)
    assert torch.equal(torch.get_rng_state(), state)


def test_axes_are_orthonormal_and_tensors_are_plain(prior: LatentPrior) -> None:
    torch.testing.assert_close(prior.axes @ prior.axes.t(), torch.eye(16), atol=1e-5, rtol=0)
    assert (prior.scale > 0).all()
    for tensor in (prior.mean, prior.axes, prior.scale):
        assert tensor.dtype == torch.float32
        assert not tensor.is_inference()


def test_whiten_and_unwhiten_are_inverse(generator: Generator, prior: LatentPrior) -> None:
    w = draws(generator, 7)
    torch.testing.assert_close(prior.unwhiten(prior.whiten(w)), w, atol=1e-5, rtol=1e-4)
    x = torch.randn(5, 3, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(prior.whiten(prior.unwhiten(x)), x, atol=1e-4, rtol=1e-4)


def test_draws_have_second_moments_of_at_most_1_about_the_mean_face(
    generator: Generator, prior: LatentPrior
) -> None:
    torch.testing.assert_close(
        prior.unwhiten(torch.zeros(1, 16)), generator.latent_avg.reshape(1, 16)
    )
    x = prior.whiten(draws(generator, 4096, seed=6)[:, 0])
    covariance = x.t() @ x / len(x)
    assert (covariance.diag() < 1.15).all()
    assert (covariance - covariance.diag().diag()).abs().max() < 0.15


def test_distance_of_own_draws_is_about_1(generator: Generator, prior: LatentPrior) -> None:
    own = prior.distance(draws(generator, 2048, seed=7))
    assert 0.95 < own.square().mean().sqrt() < 1.05
    far = prior.distance(5 * draws(generator, 64))
    assert far.mean() > 2 * own.mean()


def test_distance_is_the_root_mean_square_of_layers(
    generator: Generator, prior: LatentPrior
) -> None:
    w_plus = torch.stack([draws(generator, 1, seed=s)[0, 0] for s in range(8)])[None]
    by_layer = torch.stack([prior.distance(w_plus[:, i : i + 1]) for i in range(8)])
    torch.testing.assert_close(prior.distance(w_plus), by_layer.square().mean(dim=0).sqrt())
    mean = prior.unwhiten(torch.zeros(1, 1, 16))
    torch.testing.assert_close(prior.distance(mean), torch.zeros(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("radius", [0.5, 0.95, 1.6])
def test_within_reaches_no_further_than_the_radius(
    generator: Generator, prior: LatentPrior, radius: float
) -> None:
    w_plus = draws(generator, 6) * torch.linspace(0.1, 6, 8)[None, :, None]
    moved = prior.within(w_plus, radius)
    for layer in range(8):
        before = prior.distance(w_plus[:, layer : layer + 1])
        after = prior.distance(moved[:, layer : layer + 1])
        torch.testing.assert_close(after, before.clamp(max=radius), atol=1e-4, rtol=1e-4)
        inside = before <= radius
        torch.testing.assert_close(
            moved[inside, layer], w_plus[inside, layer], atol=1e-5, rtol=1e-4
        )
    # Along the ray to the mean: the whitened directions stay.
    cosines = torch.cosine_similarity(prior.whiten(moved), prior.whiten(w_plus), dim=-1)
    torch.testing.assert_close(cosines, torch.ones_like(cosines), atol=1e-4, rtol=0)


def test_layer_ladder() -> None:
    assert layer_ladder(18, 3, 2, 1).tolist() == [3] * 4 + [2] * 4 + [1] * 10
    assert layer_ladder(8, 3, 2, 1).tolist() == [3] * 2 + [2] * 2 + [1] * 4
    assert layer_ladder(14, 3, 2, 1).tolist() == [3] * 3 + [2] * 3 + [1] * 8
    assert layer_ladder(18, 0.5, 0.5, 0.5).dtype == torch.float32


def test_mix_fine_layers() -> None:
    coarse, fine = torch.zeros(2, 18, 4), torch.ones(1, 18, 4)
    share = mix_fine_layers(coarse, fine, 7.0)
    assert share.shape == (2, 18, 4)
    assert share[0, :, 0].tolist() == sorted(share[0, :, 0].tolist())
    torch.testing.assert_close(share[:, 7], torch.full((2, 4), 0.5))
    assert share[:, 0].max() < 1e-3
    assert share[:, 17].min() > 0.999


def test_mix_fine_layers_at_its_limits() -> None:
    rng = torch.Generator().manual_seed(1)
    coarse, fine = torch.randn(2, 18, 4, generator=rng), torch.randn(2, 18, 4, generator=rng)
    torch.testing.assert_close(mix_fine_layers(coarse, fine, -100.0), fine)
    torch.testing.assert_close(mix_fine_layers(coarse, fine, 100.0), coarse)
    torch.testing.assert_close(mix_fine_layers(coarse, coarse, 7.0), coarse)
    hard = mix_fine_layers(coarse, fine, 6.5, width=1e-3)
    torch.testing.assert_close(hard, torch.cat([coarse[:, :7], fine[:, 7:]], dim=1))


def stacked_styles(generator: Generator, layers: list[int] | None = None) -> Tensor:
    named = [m for n, m in generator.synthesis.named_modules() if n.endswith(".affine")]
    kept = [
        m.get_parameter("weight")
        for n, m in generator.synthesis.named_modules()
        if n.endswith((".conv0.affine", ".conv1.affine"))
    ]
    assert len(kept) < len(named)
    chosen = kept if layers is None else [kept[i] for i in layers]
    rows = torch.cat(chosen).double()
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True)
    return unit


@pytest.mark.parametrize("layers", [None, [0], [1, 2], [3, 4, 5, 6]])
def test_sefa_directions_are_the_strongest_in_order(
    generator: Generator, layers: list[int] | None
) -> None:
    directions = sefa_directions(generator, layers)
    torch.testing.assert_close(directions @ directions.t(), torch.eye(16), atol=1e-5, rtol=0)
    a = stacked_styles(generator, layers)
    strength = (a @ directions.double().t()).square().sum(dim=0)
    assert (strength[:-1] >= strength[1:] - 1e-6).all()
    # No direction at all beats the first, and none is below the last.
    rng = torch.Generator().manual_seed(3)
    others = torch.nn.functional.normalize(
        torch.randn(500, 16, generator=rng, dtype=torch.float64), dim=1
    )
    found = (a @ others.t()).square().sum(dim=0)
    assert found.max() <= strength[0] + 1e-6
    assert found.min() >= strength[-1] - 1e-6
    torch.testing.assert_close(strength.sum(), torch.tensor(float(len(a)), dtype=torch.float64))


def test_sefa_directions_are_deterministic_with_signs_fixed(generator: Generator) -> None:
    directions = sefa_directions(generator)
    assert torch.equal(directions, sefa_directions(tiny_generator()))
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    assert (largest > 0).all()


def test_sefa_layers_start_at_4_pixels(generator: Generator) -> None:
    first = stacked_styles(generator, [0])
    weight = generator.synthesis.get_submodule("b4.conv1.affine").get_parameter("weight").double()
    assert torch.equal(first, weight / weight.norm(dim=1, keepdim=True))


def test_pull_towards() -> None:
    rng = torch.Generator().manual_seed(2)
    w_plus, anchor = torch.randn(2, 8, 4, generator=rng), torch.randn(2, 8, 4, generator=rng)
    torch.testing.assert_close(pull_towards(w_plus, anchor, 0.0), anchor)
    torch.testing.assert_close(pull_towards(w_plus, anchor, 1.0), w_plus)
    torch.testing.assert_close(pull_towards(w_plus, anchor, 0.5), (w_plus + anchor) / 2)
    ladder = torch.linspace(0, 1, 8)
    expected = anchor + ladder[None, :, None] * (w_plus - anchor)
    torch.testing.assert_close(pull_towards(w_plus, anchor, ladder), expected)
    mean = torch.zeros(4)
    torch.testing.assert_close(
        pull_towards(w_plus, mean.expand(2, 8, 4), 0.7), truncate(w_plus, mean, 0.7)
    )


def test_axes_that_the_mapping_never_uses_weigh_like_the_mean_of_the_others() -> None:
    config = GeneratorConfig(resolution=32, z_dim=16, w_dim=32, mapping_layers=1)
    generator = Generator(config)
    with torch.no_grad():
        generator.get_parameter("mapping.fc0.weight")[8:] = 0.0
    prior = LatentPrior.of(generator)
    assert prior.rank == pytest.approx(8, abs=0.01)
    used = prior.scale[-8:].square().mean().sqrt()
    torch.testing.assert_close(prior.scale[:-8], used.expand(24))
