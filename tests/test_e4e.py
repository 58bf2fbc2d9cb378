"""e4e: its published size, what its layers share, and files that must not load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import E4E, tiny_e4e, tiny_generator, tiny_images
from torch import nn

from encoders.e4e.network import E4e, E4eConfig, StyleHead, count_macs, load_e4e, save_e4e
from sfhq.errors import IntegrityError, UsageError
from sfhq.weights.checkpoints import (
    file_digest,
    load_generator,
    read_checkpoint,
    save_checkpoint,
    save_generator,
)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network() -> E4e:
    return tiny_e4e()


@pytest.fixture(scope="module")
def full() -> E4e:
    with torch.device("meta"):
        return E4e(E4eConfig())


def test_the_full_network_has_the_published_size(full: E4e) -> None:
    assert sum(p.numel() for p in full.parameters()) == 267_136_704
    assert full.latent_avg.shape == (18, 512)


def test_the_full_network_costs_what_is_stated() -> None:
    assert count_macs(E4eConfig()) / 1e9 == pytest.approx(72.48, abs=0.005)


def test_count_macs_is_the_formula_on_one_convolution() -> None:
    # Twice the pixels of the input make four times the work of every convolution but the heads'.
    small = replace(E4E, num_ws=1)
    head = (
        sum(  # 4 pixels to 1 in two strided convolutions, then the linear layer
            out * out * 8 * 8 * 9 for out in (2, 1)
        )
        + 8 * 16
    )
    with torch.device("meta"):
        first = E4e(small).styles[0]
    assert isinstance(first, StyleHead) and len(first.convs) == 4
    wide = count_macs(replace(small, input_size=128))
    head_wide = sum(out * out * 8 * 8 * 9 for out in (4, 2, 1)) + 8 * 16
    # Squeeze-and-excite works on one pixel whatever the size; it is the remainder below.
    with torch.device("meta"):
        gates = sum(
            m.weight.numel()
            for name, m in E4e(small).named_modules()
            if isinstance(m, nn.Conv2d) and name.endswith(("fc1", "fc2"))
        )
    assert wide - head_wide - gates == 4 * (count_macs(small) - head - gates)


def test_heads_shrink_their_map_to_one_pixel(full: E4e) -> None:
    convs = [sum(isinstance(m, nn.Conv2d) for m in s.modules()) for s in full.styles]
    assert convs == [4] * 3 + [5] * 4 + [6] * 11
    for style in full.styles:
        for conv in style.modules():
            if isinstance(conv, nn.Conv2d):
                assert (conv.in_channels, conv.out_channels) == (512, 512)
                assert (conv.stride, conv.padding) == ((2, 2), (1, 1))


@pytest.mark.parametrize("stage", [0, 1, 2, 3, 5, 6])
def test_layers_above_the_stage_equal_w(network: E4e, stage: int) -> None:
    images = tiny_images(2, 64)
    whole = network(images) - network.latent_avg
    part = network(images, stage=stage) - network.latent_avg
    w = part[:, :1]
    torch.testing.assert_close(part[:, stage + 1 :], w.expand(-1, 7 - stage, -1))
    torch.testing.assert_close(part[:, : stage + 1], whole[:, : stage + 1])
    for layer in range(1, stage + 1):
        assert not torch.allclose(part[:, layer], w[:, 0], atol=1e-3)


def test_stages_beyond_the_last_give_all(network: E4e) -> None:
    images = tiny_images(1, 64)
    torch.testing.assert_close(network(images, stage=7), network(images))
    torch.testing.assert_close(network(images, stage=99), network(images))


def test_latent_avg_is_added(network: E4e) -> None:
    images = tiny_images(2, 64)
    moved = tiny_e4e()
    moved.latent_avg.add_(torch.arange(8.0)[:, None])
    difference = moved(images) - network(images)
    torch.testing.assert_close(
        difference, torch.arange(8.0)[None, :, None].expand(2, 8, 16), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("size", [(32, 32), (128, 128), (64, 96)])
def test_other_sizes_are_resized(network: E4e, size: tuple[int, int]) -> None:
    images = F.interpolate(tiny_images(2, 64), size, mode="bilinear")
    ready = F.interpolate(images, (64, 64), mode="bilinear", antialias=True)
    assert network(images).shape == (2, 8, 16)
    torch.testing.assert_close(network(images), network(ready))


def test_a_face_does_not_depend_on_its_batch(network: E4e) -> None:
    images = tiny_images(3, 64)
    alone = torch.cat([network(i[None]) for i in images])
    torch.testing.assert_close(network(images), alone, atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    network = tiny_e4e().requires_grad_(True)
    network(tiny_images(2, 64)).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_a_narrow_backbone_is_widened() -> None:
    network = tiny_e4e(config=replace(E4E, head_width=16))
    assert isinstance(network.reduce, nn.Conv2d)
    assert isinstance(tiny_e4e().reduce, nn.Identity)
    assert network(tiny_images(1, 64)).shape == (1, 8, 16)


@pytest.mark.parametrize("config", [E4E, E4eConfig()], ids=["tiny", "full"])
def test_config_round_trip(config: E4eConfig) -> None:
    assert E4eConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(("name", "value"), [("input_size", 32), ("input_size", 96), ("num_ws", 0)])
def test_sizes_that_cannot_be(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}; wanted"):
        replace(E4E, **{name: value})  # type: ignore[arg-type]


def test_save_and_load(tmp_path: Path, network: E4e) -> None:
    path = tmp_path / "e4e.safetensors"
    save_e4e(path, network, {"made_by": "a test"})
    loaded, digest = load_e4e(path, 8)
    assert digest == file_digest(path)
    assert loaded.config == network.config
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    state = network.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in loaded.state_dict().items())
    assert read_checkpoint(path, "e4e").notes == {"made_by": "a test"}


def test_half_storage_is_half_the_size_and_close(tmp_path: Path, network: E4e) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_e4e(whole, network)
    save_e4e(half, network, half=True)
    loaded, _ = load_e4e(half)
    assert half.stat().st_size < 0.8 * whole.stat().st_size
    assert {v.dtype for v in loaded.state_dict().values()} <= {torch.float32, torch.int64}
    images = tiny_images(2, 64)
    torch.testing.assert_close(loaded(images), network(images), atol=0.02, rtol=0.02)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path, network: E4e) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_e4e(first, network)
    save_e4e(second, tiny_e4e())
    assert first.read_bytes() == second.read_bytes()


def test_the_digest_follows_the_file(tmp_path: Path, network: E4e) -> None:
    path = tmp_path / "e4e.safetensors"
    save_e4e(path, network)
    before = file_digest(path)
    save_e4e(path, tiny_e4e(seed=9))
    assert file_digest(path) != before


def refuse(path: Path, *words: str, num_ws: int | None = None) -> None:
    """Loading is refused in one line that names the file."""
    with pytest.raises(IntegrityError) as caught:
        load_e4e(path, num_ws)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_an_encoder_of_another_generator_is_refused(tmp_path: Path, network: E4e) -> None:
    path = tmp_path / "e4e.safetensors"
    save_e4e(path, network)
    refuse(path, "has 8 layers", "the generator has 18", num_ws=18)


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\xff" * 4096, b"\x10" + b"\0" * 7 + b"{" * 16, b"PK\x03\x04" * 100]
)
def test_bytes_that_are_no_weights_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "e4e.safetensors"
    path.write_bytes(data)
    refuse(path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, network: E4e, keep: float) -> None:
    path = tmp_path / "e4e.safetensors"
    save_e4e(path, network)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    refuse(path)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    save_generator(path, tiny_generator())
    refuse(path, "'generator'", "'e4e'")
    with pytest.raises(IntegrityError, match="wanted 'e4e'"):
        read_checkpoint(path, "e4e")


@pytest.mark.parametrize(
    "change",
    [
        {"head_width": 16},
        {"num_ws": 10},
        {"input_size": 60},
        {"head_width": "wide"},
        {"no_such_size": 1},
        {"backbone": {"widths": [4, 4, 8, 8]}},
        {"backbone": {"widths": [4], "depths": [1]}},
        {"backbone": 3},
    ],
    ids=str,
)
def test_another_architecture_is_refused(tmp_path: Path, network: E4e, change: object) -> None:
    assert isinstance(change, dict)
    path = tmp_path / "e4e.safetensors"
    save_checkpoint(path, "e4e", {**E4E.to_dict(), **change}, network.state_dict())
    refuse(path, "architecture disagree")


@pytest.mark.parametrize("text", ["{", "[1]", "3", '"e4e"'])
def test_an_architecture_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "e4e.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"kind": "e4e", "architecture": text})
    refuse(path)
    save_file({"x": torch.zeros(1)}, path, {"kind": "generator", "architecture": text})
    with pytest.raises(IntegrityError, match=r"generator|e4e"):
        load_generator(path)


def test_missing_and_foreign_tensors_are_refused(tmp_path: Path, network: E4e) -> None:
    path = tmp_path / "e4e.safetensors"
    state = dict(network.state_dict())
    del state["latent_avg"]
    save_checkpoint(path, "e4e", E4E.to_dict(), state)
    refuse(path, "latent_avg")
    save_checkpoint(path, "e4e", E4E.to_dict(), {**network.state_dict(), "more": torch.zeros(1)})
    refuse(path, "more")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such weights file"):
        load_e4e(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="no such weights file"):
        load_generator(tmp_path)


def test_an_installation_without_the_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfhq.weights.checkpoints.PACK", tmp_path)
    with pytest.raises(UsageError, match="no embedded pack; give --generator FILE"):
        load_generator()
    with pytest.raises(UsageError, match="no embedded pack; give --e4e FILE"):
        load_e4e()
