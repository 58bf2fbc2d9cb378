"""Generator and discriminator: layout, counts, latents, noise, truncation, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from stylegan2_ops.discriminator import Discriminator, minibatch_std
from stylegan2_ops.generator import (
    Generator,
    GeneratorConfig,
    channels_at,
    count_ws,
    seed_to_z,
    truncate,
)
from stylegan2_ops.layers import FullyConnected
from stylegan2_ops.mapping import MappingNetwork, normalize_second_moment

TINY = GeneratorConfig(resolution=32, z_dim=16, w_dim=16, channel_base=256, channel_max=8)
CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}


@pytest.fixture(scope="module")
def tiny() -> Generator:
    """A tiny generator whose noise, biases and w_avg are not at their neutral start."""
    torch.manual_seed(0)
    generator = Generator(TINY).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith(("noise_strength", "bias")):
            parameter.add_(0.3 * torch.randn_like(parameter))
    generator.mapping.w_avg.copy_(torch.randn(TINY.w_dim))
    return generator


@pytest.fixture
def w_plus() -> Tensor:
    return torch.randn(2, TINY.num_ws, TINY.w_dim, generator=torch.Generator().manual_seed(1))


# sizes and names


def expected_state() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published 1024-pixel network."""
    state: dict[str, tuple[int, ...]] = {"mapping.w_avg": (512,)}
    for index in range(8):
        state[f"mapping.fc{index}.weight"] = (512, 512)
        state[f"mapping.fc{index}.bias"] = (512,)
    state["synthesis.b4.const"] = (512, 4, 4)
    before = 512
    for res, channels in CHANNELS.items():
        block = f"synthesis.b{res}"
        state[f"{block}.resample_filter"] = (4, 4)
        convs = {"conv1": channels} if res == 4 else {"conv0": before, "conv1": channels}
        for conv, width in convs.items():
            state[f"{block}.{conv}.weight"] = (channels, width, 3, 3)
            state[f"{block}.{conv}.bias"] = (channels,)
            state[f"{block}.{conv}.noise_strength"] = ()
            state[f"{block}.{conv}.noise_const"] = (res, res)
            state[f"{block}.{conv}.resample_filter"] = (4, 4)
            state[f"{block}.{conv}.affine.weight"] = (width, 512)
            state[f"{block}.{conv}.affine.bias"] = (width,)
        state[f"{block}.torgb.weight"] = (3, channels, 1, 1)
        state[f"{block}.torgb.bias"] = (3,)
        state[f"{block}.torgb.affine.weight"] = (channels, 512)
        state[f"{block}.torgb.affine.bias"] = (channels,)
        before = channels
    return state


def test_the_full_generator_has_the_published_layout() -> None:
    with torch.device("meta"):
        generator = Generator(GeneratorConfig())
    found = {name: tuple(value.shape) for name, value in generator.state_dict().items()}
    assert len(found) == 182
    assert found == expected_state()
    assert sum(p.numel() for p in generator.parameters()) == 30_370_060
    assert sum(b.numel() for b in generator.buffers()) == 2_797_104


@pytest.mark.parametrize(
    ("resolution", "count"), [(32, 8), (64, 10), (128, 12), (256, 14), (512, 16), (1024, 18)]
)
def test_count_ws(resolution: int, count: int) -> None:
    assert count_ws(resolution) == count == GeneratorConfig(resolution).num_ws


def test_channels() -> None:
    assert {res: channels_at(res, 32768, 512) for res in CHANNELS} == CHANNELS


def test_config_as_json() -> None:
    assert GeneratorConfig(**GeneratorConfig(256).to_dict()) == GeneratorConfig(256)  # type: ignore[arg-type]


@pytest.mark.parametrize("resolution", [0, 16, 48, 2048])
def test_config_refuses_other_resolutions(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"resolution is {resolution}; wanted a power of two"):
        GeneratorConfig(resolution)


@pytest.mark.parametrize("name", ["z_dim", "w_dim", "channel_max", "mapping_layers"])
def test_config_refuses_empty_layers(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0; wanted a positive integer"):
        GeneratorConfig(**{name: 0})


def test_config_refuses_to_run_out_of_channels() -> None:
    with pytest.raises(ValueError, match="leaves no channel at 64 pixels"):
        GeneratorConfig(64, channel_base=32)


# mapping


def test_normalize_second_moment() -> None:
    z = torch.randn(4, 16, dtype=torch.float64)
    wanted = z.numpy() / np.sqrt((z.numpy() ** 2).mean(1, keepdims=True) + 1e-8)
    np.testing.assert_allclose(normalize_second_moment(z).numpy(), wanted, rtol=1e-13)


def test_mapping_is_the_formula(tiny: Generator) -> None:
    z = torch.randn(3, 16)
    x = z.numpy() / np.sqrt((z.numpy() ** 2).mean(1, keepdims=True) + 1e-8)
    for index in range(8):
        layer: FullyConnected = getattr(tiny.mapping, f"fc{index}")
        x = x @ layer.weight.numpy().T * (0.01 / math.sqrt(16)) + layer.bias.numpy() * 0.01
        x = np.where(x > 0, x, 0.2 * x) * math.sqrt(2)
    np.testing.assert_allclose(tiny.mapping(z).numpy(), x, rtol=1e-4, atol=1e-5)


def test_w_avg_is_a_moving_average() -> None:
    torch.manual_seed(0)
    mapping = MappingNetwork(16, 16, 2)
    z = torch.randn(64, 16)
    before = mapping.w_avg.clone()
    w = mapping(z)
    assert torch.equal(mapping.w_avg, before)
    mapping(z, update_average=True)
    mapping(z, update_average=True)
    mean = w.detach().mean(0)
    assert torch.allclose(mapping.w_avg, (1 - 0.995**2) * mean, atol=1e-6)
    assert not mapping.w_avg.requires_grad


def test_equalised_rate_at_the_start() -> None:
    torch.manual_seed(0)
    layer = FullyConnected(256, 256, lr_multiplier=0.01)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02)
    assert layer(torch.randn(512, 256)).std().item() == pytest.approx(1, rel=0.05)


# w_plus


def test_each_w_reaches_the_image(tiny: Generator, w_plus: Tensor) -> None:
    base = tiny.synthesis(w_plus)
    assert base.shape == (2, 3, 32, 32)
    assert base.dtype == torch.float32
    for index in range(TINY.num_ws):
        changed = w_plus.clone()
        changed[:, index] += 1.0
        difference = (tiny.synthesis(changed) - base).abs().amax(dim=(1, 2, 3))
        assert (difference > 1e-4).all(), f"w {index} does nothing"


def test_each_layer_takes_its_own_w(tiny: Generator, w_plus: Tensor) -> None:
    """0: b4.conv1; 1: b4.torgb and b8.conv0; 2: b8.conv1; 3: b8.torgb and b16.conv0; ..."""
    taken: dict[str, int] = {}
    handles = []
    for name, module in tiny.synthesis.named_modules():
        if name.endswith(".affine"):

            def note(_: object, inputs: tuple[Tensor], name: str = name) -> None:
                match = [i for i in range(TINY.num_ws) if torch.equal(inputs[0], w_plus[:, i])]
                taken[name.removesuffix(".affine")] = match[0]

            handles.append(module.register_forward_pre_hook(note))
    try:
        tiny.synthesis(w_plus)
    finally:
        for handle in handles:
            handle.remove()
    wanted = {"b4.conv1": 0, "b4.torgb": 1}
    for place, res in enumerate((8, 16, 32)):
        first = 2 * place + 1
        wanted |= {f"b{res}.conv0": first, f"b{res}.conv1": first + 1, f"b{res}.torgb": first + 2}
    assert taken == wanted


@pytest.mark.parametrize("stop_at", [4, 8, 16, 32])
def test_a_preview_depends_on_the_ws_up_to_its_torgb(
    tiny: Generator, w_plus: Tensor, stop_at: int
) -> None:
    w = w_plus.clone().requires_grad_()
    preview = tiny.synthesis(w, stop_at=stop_at)
    assert preview.shape == (2, 3, stop_at, stop_at)
    [grad] = torch.autograd.grad(preview.square().sum(), w)
    used = (grad.abs().amax(dim=(0, 2)) > 0).tolist()
    count = 2 * int(math.log2(stop_at)) - 2
    assert used == [True] * count + [False] * (TINY.num_ws - count)


def test_the_samples_of_a_batch_do_not_meet(tiny: Generator, w_plus: Tensor) -> None:
    together = tiny.synthesis(w_plus)
    alone = torch.cat([tiny.synthesis(w_plus[:1]), tiny.synthesis(w_plus[1:])])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 16), (2, 7, 16), (2, 8, 15), (1, 2, 8, 16)])
def test_synthesis_names_a_wrong_shape(tiny: Generator, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"w_plus has shape .*; wanted \(N, 8, 16\)"):
        tiny.synthesis(torch.zeros(shape))


def test_synthesis_names_unknown_words(tiny: Generator, w_plus: Tensor) -> None:
    with pytest.raises(ValueError, match="noise_mode is 'fixed'; wanted one of"):
        tiny.synthesis(w_plus, noise_mode="fixed")
    with pytest.raises(ValueError, match=r"stop_at is 64; wanted one of \[4, 8, 16, 32\]"):
        tiny.synthesis(w_plus, stop_at=64)


# noise


def test_noise_modes(tiny: Generator, w_plus: Tensor) -> None:
    const = tiny.synthesis(w_plus, "const")
    none = tiny.synthesis(w_plus, "none")
    assert torch.equal(const, tiny.synthesis(w_plus, "const"))
    assert torch.equal(none, tiny.synthesis(w_plus, "none"))
    assert not torch.allclose(const, none, atol=1e-3)
    first, second = tiny.synthesis(w_plus, "random"), tiny.synthesis(w_plus, "random")
    assert not torch.allclose(first, second, atol=1e-3)
    torch.manual_seed(5)
    first = tiny.synthesis(w_plus, "random")
    torch.manual_seed(5)
    assert torch.equal(first, tiny.synthesis(w_plus, "random"))


def test_no_noise_ignores_the_stored_noise(tiny: Generator, w_plus: Tensor) -> None:
    before, const = tiny.synthesis(w_plus, "none"), tiny.synthesis(w_plus, "const")
    noise = tiny.synthesis.b16.conv1.noise_const  # type: ignore[union-attr]
    noise.add_(1.0)  # type: ignore[operator]
    try:
        assert torch.equal(tiny.synthesis(w_plus, "none"), before)
        assert not torch.equal(tiny.synthesis(w_plus, "const"), const)
    finally:
        noise.sub_(1.0)  # type: ignore[operator]


# truncation and seeds


def test_truncate_scalar(w_plus: Tensor) -> None:
    average = torch.randn(16)
    torch.testing.assert_close(truncate(w_plus, average, 0.0), average.expand_as(w_plus))
    torch.testing.assert_close(truncate(w_plus, average, 1.0), w_plus)
    half = truncate(w_plus, average, 0.5)
    torch.testing.assert_close(half, (w_plus + average) / 2)
    away = truncate(w_plus, average, 2.0)
    torch.testing.assert_close(away - w_plus, w_plus - average)


def test_truncate_cutoff_and_per_layer(w_plus: Tensor) -> None:
    average = torch.randn(16)
    cut = truncate(w_plus, average, 0.0, cutoff=3)
    torch.testing.assert_close(cut[:, :3], average.expand(2, 3, 16))
    torch.testing.assert_close(cut[:, 3:], w_plus[:, 3:])
    psi = torch.linspace(0, 1, 8)
    each = truncate(w_plus, average, psi)
    for layer in range(8):
        wanted = average + psi[layer] * (w_plus[:, layer] - average)
        torch.testing.assert_close(each[:, layer], wanted)
    torch.testing.assert_close(psi, torch.linspace(0, 1, 8))  # not written to


@pytest.mark.parametrize("shape", [(16,), (8, 16), (2, 8, 16)])
def test_truncate_towards_any_anchor(w_plus: Tensor, shape: tuple[int, ...]) -> None:
    anchor = torch.randn(shape)
    torch.testing.assert_close(truncate(w_plus, anchor, 0.0), anchor.expand(2, 8, 16))


def test_the_generator_truncates(tiny: Generator) -> None:
    z = torch.randn(2, 16)
    average = tiny.synthesis(tiny.broadcast(tiny.latent_avg[None]))
    torch.testing.assert_close(tiny(z, psi=0.0), average.expand(2, -1, -1, -1))
    torch.testing.assert_close(tiny(z), tiny.synthesis(tiny.broadcast(tiny.mapping(z))))
    torch.testing.assert_close(tiny(z, psi=0.0, cutoff=0), tiny(z))


@pytest.mark.parametrize("seed", [0, 1, 85, 2**32 - 1])
def test_seed_to_z_is_the_published_latent(seed: int) -> None:
    z = seed_to_z(seed)
    wanted = np.random.RandomState(seed).randn(1, 512).astype(np.float32)
    assert z.dtype == torch.float32
    assert np.array_equal(z.numpy(), wanted)


def test_seed_zero_starts_with_the_known_number() -> None:
    assert seed_to_z(0)[0, 0].item() == pytest.approx(1.764052345967664, abs=1e-7)


# discriminator


@pytest.mark.parametrize("resolution", [8, 16, 32, 64])
@pytest.mark.parametrize("n", [1, 3, 4, 8])
def test_discriminator_gives_a_logit_a_sample(resolution: int, n: int) -> None:
    network = Discriminator(resolution, channel_base=128, channel_max=8)
    assert network(torch.randn(n, 3, resolution, resolution)).shape == (n, 1)


def test_the_full_discriminator_has_the_published_size() -> None:
    with torch.device("meta"):
        network = Discriminator(1024)
    fromrgb, blocks = 3 * 32 + 32, 0
    for res in (1024, 512, 256, 128, 64, 32, 16, 8):
        width, out = CHANNELS[res], CHANNELS[res // 2]
        blocks += 9 * width * width + width + 9 * width * out + out + width * out
    epilogue = 9 * 513 * 512 + 512 + 8192 * 512 + 512 + 512 + 1
    assert sum(p.numel() for p in network.parameters()) == fromrgb + blocks + epilogue
    assert network.b1024.fromrgb.weight.shape == (32, 3, 1, 1)  # type: ignore[union-attr]
    assert network.b4.conv.weight.shape == (512, 513, 3, 3)


@pytest.mark.parametrize(
    ("n", "size", "group"), [(8, 4, 4), (4, 4, 4), (6, 4, 3), (2, 4, 2), (5, 4, 1)]
)
def test_minibatch_std_is_the_formula(n: int, size: int, group: int) -> None:
    x = torch.randn(n, 3, 2, 5, generator=torch.Generator().manual_seed(n))
    out = minibatch_std(x, size)
    assert out.shape == (n, 4, 2, 5)
    assert torch.equal(out[:, :3], x)
    values = x.numpy().astype(np.float64)
    for sample in range(n):
        # members of a group are n / group apart
        members = values[sample % (n // group) :: n // group]
        assert len(members) == group
        wanted = np.sqrt(members.var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(out[sample, 3].numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_r1_reaches_the_weights() -> None:
    """The gradient of the gradient penalty, against central differences along a direction."""
    torch.manual_seed(0)
    network = Discriminator(8, channel_base=64, channel_max=8)
    images = torch.randn(4, 3, 8, 8)

    def penalty() -> Tensor:
        x = images.clone().requires_grad_()
        [grad] = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        return grad.square().sum(dim=(1, 2, 3)).mean()

    weight = network.b8.conv1.weight  # type: ignore[union-attr]
    assert isinstance(weight, torch.nn.Parameter)
    grads = torch.autograd.grad(penalty(), list(network.parameters()), allow_unused=True)
    unused = [
        name
        for (name, _), g in zip(network.named_parameters(), grads, strict=True)
        if g is None and not name.endswith("bias")
    ]
    assert not unused
    [analytic] = torch.autograd.grad(penalty(), weight)
    # Along a single weight the penalty is smooth between kinks of leaky ReLU; take small steps.
    step = 1e-3 * analytic / analytic.norm()
    with torch.no_grad():
        weight.add_(step)
    above = penalty().item()
    with torch.no_grad():
        weight.sub_(2 * step)
    below = penalty().item()
    assert (above - below) / 2e-3 == pytest.approx(analytic.norm().item(), rel=0.05)


def test_path_length_reaches_the_weights(tiny: Generator, w_plus: Tensor) -> None:
    """Second order through the synthesis network, as path length regularisation takes it."""
    w = w_plus.clone().requires_grad_()
    strength = tiny.synthesis.b16.conv0.weight  # type: ignore[union-attr]
    assert isinstance(strength, torch.nn.Parameter)
    strength.requires_grad_(True)
    try:
        image = tiny.synthesis(w)
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(2)) / 32
        [grad] = torch.autograd.grad((image * noise).sum(), w, create_graph=True)
        [second] = torch.autograd.grad(grad.square().sum(2).mean(1).sqrt().mean(), strength)
    finally:
        strength.requires_grad_(False)
    assert torch.isfinite(second).all()
    assert second.abs().max() > 0
