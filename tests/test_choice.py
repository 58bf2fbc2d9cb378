"""Ways to compute are chosen by what measured fastest, and the choice is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from encoders.e4e import inference as encoding
from encoders.e4e.inference import PreparedE4e
from encoders.e4e.irse import BackboneConfig
from encoders.e4e.network import E4e, E4eConfig
from stylegan2_ops import build, choice, inference
from stylegan2_ops.build import find_compiler
from stylegan2_ops.choice import choices_path, fastest
from stylegan2_ops.generator import Generator, GeneratorConfig
from stylegan2_ops.inference import PreparedSynthesis

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler")
Ways = dict[str, Callable[[], Callable[[], object]]]


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands for that of the compiled kernels, without a choice in it."""
    monkeypatch.setattr(choice, "build", lambda: tmp_path / "ops.so")
    choice.forget()
    yield tmp_path
    choice.forget()


class Clock:
    """Ways whose time is told, and who was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **times: float) -> None:
        self.times, self.called = times, list[str]()
        self.now = ""
        monkeypatch.setattr(choice, "seconds", self.seconds)

    def seconds(self, way: Callable[[], object]) -> float:
        way()
        return self.times[self.now]

    @property
    def ways(self) -> Ways:
        def ready(name: str) -> Callable[[], Callable[[], object]]:
            def call() -> None:
                self.now = name
                self.called.append(name)

            return lambda: call

        return {name: ready(name) for name in self.times}


def test_the_fastest_way_is_taken_and_remembered(
    kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, winograd=2.0, direct=1.0)
    assert fastest("a layer", clock.ways) == "direct"
    assert clock.called == ["winograd", "direct"] * (choice.RUNS + 1)
    other = Clock(monkeypatch, winograd=0.5, direct=1.0)
    assert fastest("a layer", other.ways) == "direct"
    choice.forget()  # as in another process
    assert fastest("a layer", other.ways) == "direct" and other.called == []
    assert fastest("another layer", other.ways) == "winograd"
    held = json.loads(choices_path().read_text())
    assert held["ways"] == {"a layer": "direct", "another layer": "winograd"}
    assert held["threads"] == torch.get_num_threads() and held["cpu"] == build.cpu_model()


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (choice, "cpu_model", lambda: "another CPU"),
        (choice, "cpu_features", lambda: "avx2"),
        (torch, "get_num_threads", lambda: 7),
        (torch, "__version__", "0.0"),
    ],
)
def test_another_machine_measures_again(
    kernels: Path, monkeypatch: pytest.MonkeyPatch, where: object, name: str, value: object
) -> None:
    clock = Clock(monkeypatch, winograd=2.0, direct=1.0)
    assert fastest("a layer", clock.ways) == "direct"
    monkeypatch.setattr(where, name, value)
    clock.times["direct"] = 3.0
    assert fastest("a layer", clock.ways) == "winograd"
    assert len(list(kernels.glob("ways-*.json"))) == 2


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"ways": 3}', '{"ways": {"a layer": "gone"}}'])
def test_a_damaged_file_is_measured_anew(
    kernels: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    choices_path().write_text(text)
    clock = Clock(monkeypatch, winograd=1.0, direct=2.0)
    assert fastest("a layer", clock.ways) == "winograd"
    assert json.loads(choices_path().read_text())["ways"]["a layer"] == "winograd"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_read(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.chmod(0o500)
    clock = Clock(monkeypatch, winograd=2.0, direct=1.0)
    assert fastest("a layer", clock.ways) == "winograd" and clock.called == []
    kernels.chmod(0o700)


def test_what_cannot_be_kept_is_not_measured(
    kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernels / "file").write_text("")
    monkeypatch.setattr(choice, "build", lambda: kernels / "file" / "ops.so")
    clock = Clock(monkeypatch, winograd=2.0, direct=1.0)
    assert fastest("a layer", clock.ways) == "winograd" and clock.called == []


@needs_compiler
@pytest.mark.parametrize("way", ["winograd", "direct"])
def test_each_layer_is_computed_as_chosen(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def chosen(what: str, ways: Ways) -> str:
        asked.append(what)
        assert list(ways) == ["winograd", "direct"]
        for prepare in ways.values():
            prepare()()  # each runs
        return way

    monkeypatch.setattr(inference, "fastest", chosen)
    torch.manual_seed(0)
    config = GeneratorConfig(64, w_dim=32, z_dim=32, channel_base=1024, channel_max=64)
    generator = Generator(config).eval().requires_grad_(False)
    before = torch.get_rng_state()
    render = PreparedSynthesis(generator.synthesis, "fp32", "native")
    assert torch.equal(torch.get_rng_state(), before)
    assert asked == ["synthesis 32 to 32 at 32, fp32", "synthesis 16 to 16 at 64, fp32"]
    taken = [layer.winograd is not None for layer in render.layers]
    assert sum(taken) == (2 if way == "winograd" else 0)
    latents = torch.randn(2, config.num_ws, 32)
    wanted = generator.synthesis(latents)
    assert (render(latents) - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max()))
    PreparedSynthesis(generator.synthesis, "fp32", "native", winograd=True)
    PreparedSynthesis(generator.synthesis, "fp32", "ref")
    assert len(asked) == 2  # asked only where it may choose


@needs_compiler
@pytest.mark.parametrize("way", ["winograd", "direct"])
def test_each_convolution_of_the_encoder_is_computed_as_chosen(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def chosen(what: str, ways: Ways) -> str:
        asked.append(what)
        for prepare in ways.values():
            prepare()()
        return way

    monkeypatch.setattr(encoding, "fastest", chosen)
    monkeypatch.setattr(encoding, "WORTH_COMPILING", 128)
    torch.manual_seed(0)
    backbone = BackboneConfig((16, 16, 32, 48), (1, 2, 2, 1))
    encoder = E4e(E4eConfig(10, 128, 32, 32, backbone)).eval().requires_grad_(False)
    ready = PreparedE4e(encoder)
    assert "e4e 16 to 16 at 64" in asked and "e4e heads 32 to 96 at 32" in asked
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    assert (ready(images) - encoder(images)).abs().max() < 1e-4
    count = len(asked)
    PreparedE4e(encoder, impl="native")
    PreparedE4e(encoder, impl="ref")
    assert len(asked) == count


PLAYED = """
import torch, torch.nn.functional as F
from stylegan2_ops.packed import pack_winograd
torch.manual_seed(7)
weight = torch.randn(48, 16, 3, 3) / 12
for size in (7, 32):
    x = torch.randn(2, 16, size, size).contiguous(memory_format=torch.channels_last)
    assert (pack_winograd(weight)(x) - F.conv2d(x, weight, padding=1)).abs().max() < 1e-4
"""


@needs_compiler
@pytest.mark.skipif("avx2" not in build.cpu_features().split(), reason="this CPU has no AVX2")
@pytest.mark.long  # compiles the kernels for the other kind of CPU
def test_the_kernel_of_shorter_vectors_is_the_convolution() -> None:
    environment = {**os.environ, "SFHQ_CPU": "avx2"}
    repo = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", PLAYED], check=True, env=environment, cwd=repo)
