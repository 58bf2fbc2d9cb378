"""FLIP as a whole: configurations, files of ours and of others, the momentum copy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoders.flip.network import (
    Flip,
    FlipConfig,
    Momentum,
    flip_config,
    load_flip,
    save_flip,
)
from encoders.flip.published import read_flip
from encoders.flip.text import TextConfig
from encoders.flip.vision import VisionConfig
from sfhq.errors import IntegrityError, UsageError
from stylegan2_ops.foreign.inert import BadCheckpoint

TINY = FlipConfig(
    VisionConfig(32, 16, 64, 1, 1, 64), TextConfig(40, 16, 64, 1, 1, 64, 64), 16, 12, True
)


def network(seed: int = 0) -> Flip:
    torch.manual_seed(seed)
    return Flip(TINY)


def inputs(count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(5)
    images = torch.rand(count, 3, 32, 32, generator=rng) * 2 - 1
    ids = torch.randint(40, (count, 8), generator=rng)
    return images, ids, torch.ones_like(ids, dtype=torch.bool)


def test_tiny_is_as_small_as_promised(tmp_path: Path) -> None:
    made = Flip(flip_config("tiny", 1000))
    assert 5.5e6 < sum(p.numel() for p in made.parameters()) < 6.5e6
    save_flip(tmp_path / "flip.safetensors", made, half=True)
    assert (tmp_path / "flip.safetensors").stat().st_size < 25e6


def test_paper_has_the_published_sizes() -> None:
    with torch.device("meta"):
        made = Flip(flip_config("paper", 30524))
    # ViT-B/16 has 85,799,424 numbers; BERT-base without pooler 108,891,648, and 2 more tokens;
    # 12 layers of cross-attention 12 * (4 * (768 * 768 + 768) + 2 * 768).
    vision = sum(p.numel() for p in made.visual_encoder.parameters())
    text = sum(p.numel() for p in made.text_encoder.parameters())
    heads = [made.vision_proj, made.text_proj, made.itm_head]
    assert vision == 85_799_424
    assert text == 108_891_648 + 2 * 768 + 12 * (4 * (768 * 768 + 768) + 2 * 768)
    assert sum(p.numel() for h in heads for p in h.parameters()) + 1 == 395_267


def test_unknown_configuration() -> None:
    with pytest.raises(UsageError, match="'huge'; wanted tiny, hybrid, small or paper"):
        flip_config("huge", 10)
    with pytest.raises(ValueError, match="image_width"):
        FlipConfig(VisionConfig(), TextConfig(image_width=5))


def test_vectors_are_unit_and_matching_looks_at_the_image() -> None:
    flip = network().eval()
    images, ids, mask = inputs()
    with torch.no_grad():
        tokens = flip.image_tokens(images)
        for vectors in (flip.image_vectors(tokens), flip.text_vectors(ids, mask)):
            assert vectors.shape == (3, 16)
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
        logits = flip.match(tokens, ids, mask)
        assert logits.shape == (3, 2)
        assert not torch.allclose(logits, flip.match(tokens.roll(1, 0), ids, mask))


def test_temperature_stays_in_its_limits() -> None:
    flip = network()
    for value, wanted in ((5.0, 0.5), (-1.0, 0.001), (0.07, 0.07)):
        flip.temp.data.fill_(value)
        flip.clamp_temperature()
        assert flip.temp.item() == pytest.approx(wanted)


def test_momentum_follows_by_hand() -> None:
    flip, slow = network(), Momentum(network(1))
    before = {n: p.clone() for n, p in slow.named_parameters()}
    slow.follow(flip, 0.9)
    now = dict(flip.named_parameters())
    for name, value in slow.named_parameters():
        torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * now[name])
        assert not value.requires_grad
    images, ids, mask = inputs()
    seen, said = Momentum(flip).keys(images, ids, mask)
    torch.testing.assert_close(seen, flip.image_vectors(flip.image_tokens(images)).detach())
    torch.testing.assert_close(said, flip.text_vectors(ids, mask).detach())


def test_saved_and_loaded(tmp_path: Path) -> None:
    flip, path = network(), tmp_path / "flip.safetensors"
    save_flip(path, flip, {"steps": "3"})
    loaded = load_flip(path)
    assert loaded.network.config == TINY and loaded.notes == {"steps": "3"}
    for name, value in loaded.network.state_dict().items():
        assert torch.equal(value, flip.state_dict()[name])
    first = path.read_bytes()
    save_flip(path, flip, {"steps": "3"})
    assert path.read_bytes() == first


def test_a_vocabulary_as_large_as_berts_is_loaded(tmp_path: Path) -> None:
    config = replace(TINY, text=replace(TINY.text, vocabulary=30_524))
    save_flip(tmp_path / "flip.safetensors", Flip(config))
    assert load_flip(tmp_path / "flip.safetensors").network.config == config


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'\\"vocabulary\\": 40', b'\\"vocabulary\\":4e9'),
        (b'\\"vocabulary\\": 40', b'\\"vocabulary\\": []'),
        (b'\\"depth\\": 1', b'\\"depth\\": 9'),
        (b'\\"width\\": 64', b'\\"width\\": 65'),
        (b'\\"embedding\\"', b'\\"embeddinG\\"'),
    ],
)
def test_a_file_of_another_config_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "flip.safetensors"
    save_flip(path, network())
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    with pytest.raises(IntegrityError, match="architecture disagree"):
        load_flip(path)


def published(flip: Flip, slow: Momentum) -> dict[str, Tensor]:
    """A training checkpoint as the published code writes it."""
    state = {n: v.clone() for n, v in flip.state_dict().items()}
    for name, value in slow.state_dict().items():
        first, _, rest = name.partition(".")
        state[f"{first}_m.{rest}"] = value.clone()
    state["image_queue"] = state["text_queue"] = torch.randn(16, 20)
    state["idx_queue"] = torch.full((1, 20), -100)
    state["ptr_queue"] = torch.zeros(1, dtype=torch.int64)
    return state


def test_a_published_checkpoint_is_read(tmp_path: Path) -> None:
    flip, slow = network(), Momentum(network(1))
    torch.save({"model": published(flip, slow), "epoch": 3}, tmp_path / "flip.pth")
    source = read_flip(tmp_path / "flip.pth")
    assert source.config.vision == TINY.vision and source.config.text == TINY.text
    assert source.config.embedding == 16 and not source.config.norm_tokens
    read = Flip(source.config)
    read.load_state_dict(source.state)
    assert source.momentum is not None
    for name, value in slow.state_dict().items():
        assert torch.equal(source.momentum[name], value)
    assert "idx_queue" in source.notes[1] and "momentum" in source.notes[0]


def test_published_checkpoints_that_lack_something(tmp_path: Path) -> None:
    whole = published(network(), Momentum(network()))
    path = tmp_path / "x.safetensors"
    for lacks in ("itm_head.bias", "vision_proj.weight", "text_proj_m.bias", "temp"):
        save_file({n: v.clone() for n, v in whole.items() if n != lacks}, path)
        with pytest.raises(BadCheckpoint, match="has no ") as caught:
            read_flip(path)
        assert str(caught.value).startswith(f"{path}: ")
    text_only = {n: v.clone() for n, v in whole.items() if ".crossattention." not in n}
    save_file(text_only, path)
    with pytest.raises(BadCheckpoint, match="cross-attention"):
        read_flip(path)
    assert "temp" in load_file(path)
