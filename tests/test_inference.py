"""Prepared networks give what the networks give."""

from __future__ import annotations

import gc
import pickle
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.e4e.inference import PreparedE4e
from encoders.e4e.irse import BackboneConfig
from encoders.e4e.network import E4e, E4eConfig
from stylegan2_ops import inference
from stylegan2_ops.build import Impl, find_compiler
from stylegan2_ops.generator import Generator, GeneratorConfig
from stylegan2_ops.inference import Precision, PreparedSynthesis, prepared
from stylegan2_ops.layers import NoiseMode
from stylegan2_ops.packed import (
    fits_winograd,
    pack_conv2d,
    pack_strided_winograd,
    pack_upsampling,
    pack_winograd,
)

IMPLS: list[Impl] = ["ref", "native"]


def lively(config: GeneratorConfig) -> Generator:
    """A generator in which noise and biases matter."""
    torch.manual_seed(3)
    generator = Generator(config).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.3)
        elif name.endswith("bias") and "affine" not in name:
            parameter.normal_(0, 0.3)
    return generator


@pytest.fixture(scope="module")
def generator() -> Generator:
    return lively(
        GeneratorConfig(
            resolution=64, w_dim=32, z_dim=32, channel_base=2048, channel_max=64, conv_clamp=9.0
        )
    )


@pytest.fixture(scope="module")
def latents(generator: Generator) -> Tensor:
    return torch.randn(3, generator.config.num_ws, 32, generator=torch.Generator().manual_seed(1))


def skip_without_compiler(impl: Impl) -> None:
    if impl == "native" and find_compiler() is None:
        pytest.skip("no C++ compiler")


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("mode", ["const", "none"])
@pytest.mark.parametrize("stop_at", [None, 4, 16])
@pytest.mark.parametrize("winograd", [True, False])
def test_float32_is_the_network_to_rounding(
    generator: Generator,
    latents: Tensor,
    impl: Impl,
    mode: NoiseMode,
    stop_at: int | None,
    winograd: bool,
) -> None:
    skip_without_compiler(impl)
    wanted = generator.synthesis(latents, mode, stop_at)
    ours = PreparedSynthesis(generator.synthesis, "fp32", impl, winograd)(latents, mode, stop_at)
    assert ours.dtype == torch.float32
    # 1e-5 on images in [-1, 1], here in units of how far these images reach.
    assert (ours - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("impl", IMPLS)
def test_bfloat16_is_near(generator: Generator, latents: Tensor, impl: Impl) -> None:
    skip_without_compiler(impl)
    wanted = generator.synthesis(latents)
    ours = PreparedSynthesis(generator.synthesis, "bf16", impl)(latents)
    assert (ours - wanted).norm() / wanted.norm() < 2e-2
    mse = float((ours - wanted).square().mean()) / float(wanted.abs().max()) ** 2
    assert mse < 4 * 10**-4.5  # a PSNR of 45 dB for images from -1 to 1


@pytest.mark.parametrize("impl", IMPLS)
def test_random_noise_is_random_and_as_strong(
    generator: Generator, latents: Tensor, impl: Impl
) -> None:
    skip_without_compiler(impl)
    render = PreparedSynthesis(generator.synthesis, "fp32", impl)
    torch.manual_seed(0)
    first, second = render(latents, "random"), render(latents, "random")
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, render(latents, "random"))
    theirs = generator.synthesis(latents, "random") - generator.synthesis(latents, "none")
    ours = first - render(latents, "none")
    assert 0.8 < float(ours.std() / theirs.std()) < 1.25


def test_a_batch_is_its_members(generator: Generator, latents: Tensor) -> None:
    render = PreparedSynthesis(generator.synthesis, "fp32", "ref")
    whole = render(latents)
    single = torch.cat([render(one[None]) for one in latents])
    assert (whole - single).abs().max() < 1e-5 * float(whole.abs().max())


def test_large_batches_are_rendered_in_chunks(
    generator: Generator, latents: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = PreparedSynthesis(generator.synthesis, "fp32", "ref")
    monkeypatch.setattr(inference, "CHUNK_PIXELS", 64 * 64)
    parts = torch.cat([render(one[None]) for one in latents])
    assert torch.equal(render(latents), parts)


def test_a_filter_that_is_not_separable_takes_the_reference(latents: Tensor) -> None:
    other = lively(GeneratorConfig(resolution=64, w_dim=32, z_dim=32, channel_base=1024))
    kernel = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    other.synthesis.get_buffer("b32.conv0.resample_filter").copy_(kernel / kernel.sum())
    render = PreparedSynthesis(other.synthesis, "fp32", "native")
    assert not render.native
    wanted = other.synthesis(latents)
    assert (render(latents) - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max()))


def test_small_images_are_not_worth_a_compiler(generator: Generator) -> None:
    assert not PreparedSynthesis(generator.synthesis).native


def test_bad_arguments_are_named(generator: Generator, latents: Tensor) -> None:
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        PreparedSynthesis(generator.synthesis, "fp8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="impl is 'fast'"):
        PreparedSynthesis(generator.synthesis, impl="fast")  # type: ignore[arg-type]
    render = PreparedSynthesis(generator.synthesis)
    with pytest.raises(ValueError, match="w_plus has shape"):
        render(latents[:, 1:])
    with pytest.raises(ValueError, match="stop_at is 5"):
        render(latents, stop_at=5)
    with pytest.raises(ValueError, match="noise_mode is 'loud'"):
        render(latents, "loud")  # type: ignore[arg-type]


def test_prepared_networks_are_shared_and_forgotten() -> None:
    generator = lively(GeneratorConfig(resolution=32, w_dim=16, z_dim=16, channel_base=512))
    first = prepared(generator.synthesis)
    assert prepared(generator.synthesis) is first
    assert prepared(generator.synthesis, "bf16") is not first
    gone = weakref.ref(generator.synthesis)
    del generator, first
    gc.collect()
    assert gone() is None


def lively_encoder(config: E4eConfig) -> E4e:
    torch.manual_seed(5)
    encoder = E4e(config).eval().requires_grad_(False)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
        elif isinstance(module, nn.PReLU):
            module.weight.uniform_(0.1, 0.4)
    encoder.latent_avg.normal_()
    return encoder


@pytest.fixture(scope="module", params=[16, 24], ids=["as-wide", "reduced"])
def encoder(request: pytest.FixtureRequest) -> E4e:
    backbone = BackboneConfig((8, 12, 16, 24), (1, 2, 2, 1))
    return lively_encoder(E4eConfig(10, 64, 32, request.param, backbone))


@pytest.mark.parametrize("stage", [None, 0, 2, 5, 8, 20])
@pytest.mark.parametrize("size", [64, 96])
def test_the_prepared_encoder_is_the_encoder(encoder: E4e, stage: int | None, size: int) -> None:
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1
    wanted = encoder(images, stage)
    assert (PreparedE4e(encoder)(images, stage) - wanted).abs().max() < 1e-4
    half = PreparedE4e(encoder, "bf16")(images, stage)
    assert (half - wanted).norm() / wanted.norm() < 2e-2


def test_few_heads_are_enough() -> None:
    encoder = lively_encoder(E4eConfig(2, 64, 16, 16, BackboneConfig((8, 8, 8, 8), (1, 1, 1, 1))))
    images = torch.rand(1, 3, 64, 64)
    assert (PreparedE4e(encoder)(images) - encoder(images)).abs().max() < 1e-4


def test_the_prepared_encoder_travels_to_workers(encoder: E4e) -> None:
    images = torch.rand(1, 3, 64, 64)
    ready = PreparedE4e(encoder, "fp32")
    copy = pickle.loads(pickle.dumps(ready))
    assert torch.equal(copy(images), ready(images))


def test_an_encoder_in_training_is_refused(encoder: E4e) -> None:
    encoder.train()
    with pytest.raises(ValueError, match=r"wanted network\.eval"):
        PreparedE4e(encoder)
    encoder.eval()
    precision: Precision = "fp64"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="precision is 'fp64'"):
        PreparedE4e(encoder, precision)


def test_strided_winograd_is_the_convolution() -> None:
    torch.manual_seed(6)
    weight, bias = torch.randn(40, 24, 3, 3) / 15, torch.randn(40)
    for size in (8, 16, 48):
        x = torch.randn(2, 24, size, size)
        wanted = F.leaky_relu(F.conv2d(x, weight, bias, stride=2, padding=1), 0.01)
        fast = pack_strided_winograd(weight, size, bias, 0.01)
        found = fast(x.contiguous(memory_format=torch.channels_last))
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() < 1e-5 * float(wanted.abs().max()) * 10


def test_winograd_is_the_convolution() -> None:
    skip_without_compiler("native")
    torch.manual_seed(7)
    weight, bias = torch.randn(48, 16, 3, 3) / 12, torch.randn(48)
    assert fits_winograd(weight) and not fits_winograd(weight[:, :8])
    assert not fits_winograd(torch.zeros(16, 16, 1, 1))
    for size in (4, 7, 32):
        x = torch.randn(2, 16, size, size).contiguous(memory_format=torch.channels_last)
        wanted = F.conv2d(x, weight, bias, padding=1)
        assert (pack_winograd(weight, bias)(x) - wanted).abs().max() < 1e-4
        plain = F.conv2d(x, weight, padding=1)
        assert (pack_winograd(weight)(x) - plain).abs().max() < 1e-4


def test_the_encoder_by_winograd_is_the_encoder() -> None:
    skip_without_compiler("native")
    config = E4eConfig(10, 128, 32, 32, BackboneConfig((16, 16, 32, 48), (1, 2, 2, 1)))
    encoder = lively_encoder(config)
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    ready = PreparedE4e(encoder, "fp32", "native")
    assert ready.winograd and not PreparedE4e(encoder).winograd  # too small to compile for
    assert (ready(images) - encoder(images)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("flags", "takes", "fast"),
    [
        ("sse2 avx2", False, False),
        ("avx2 avx512bw avx512dq avx512vl", True, False),
        ("avx2 avx512bw avx512dq avx512vl avx512_bf16", True, True),
        ("avx512bw avx512dq", False, False),
        ("asimd bf16", True, True),
    ],
)
def test_bfloat16_by_the_flags_of_the_cpu(
    flags: str, takes: bool, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "cpu_features", lambda: flags)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert (inference.takes_bf16(), inference.has_fast_bf16()) == (takes, fast)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not inference.takes_bf16() and not inference.has_fast_bf16()


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, NotImplementedError])
def test_a_torch_without_those_operators_convolves_as_well(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise error("the operator is no more")

    for name in ("_reorder_convolution_weight", "_reorder_convolution_transpose_weight"):
        monkeypatch.setattr(torch.ops.mkldnn, name, gone)
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 16, 8, 8), torch.randn(16, 16, 3, 3), torch.randn(16)
    plain = F.conv2d(x, weight, bias, padding=1)
    found = pack_conv2d(weight, 8, bias, padding=1, leaky=0.2)(x)
    torch.testing.assert_close(found, F.leaky_relu(plain, 0.2))
    found = pack_upsampling(weight, 8)(x)
    torch.testing.assert_close(found, F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
    found = pack_strided_winograd(weight, 8, bias, 0.2)(x)
    wanted = F.leaky_relu(F.conv2d(x, weight, bias, stride=2, padding=1), 0.2)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
