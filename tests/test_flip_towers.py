"""The towers of FLIP against independent forwards, and files in the layouts of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from encoders.flip.foreign import grow_words, read_text, read_vision, text_of
from encoders.flip.text import TextConfig, TextTower
from encoders.flip.vision import VisionConfig, VisionTower
from stylegan2_ops.foreign.inert import BadCheckpoint

VISION = VisionConfig(size=32, patch=16, width=128, depth=2, heads=2, hidden=192)
TEXT = TextConfig(50, 20, 128, 2, 2, 192, 96)


def shaken(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random numbers in every tensor, gains and biases included."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn(value.shape, generator=rng) * 0.05)
    return network.eval()


def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def texts() -> tuple[Tensor, Tensor]:
    ids = torch.randint(50, (3, 9), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(9) < torch.tensor([9, 5, 1])[:, None]
    return ids, mask


def hf_vision() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    return shaken(transformers.CLIPVisionModel(config))


def hf_bert(cross: bool) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=20,
    )
    if cross:
        config.is_decoder = config.add_cross_attention = True
        config.encoder_hidden_size = 128
    return shaken(transformers.BertModel(config))


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{n.removeprefix(prefix)}": v.clone() for n, v in state.items()}


def test_vision_is_that_of_transformers(tmp_path: Path) -> None:
    theirs = hf_vision()
    file = tmp_path / "clip.safetensors"
    save_file(
        {**prefixed(theirs.state_dict(), "vision_model."), "logit_scale": torch.ones(1)}, file
    )
    source = read_vision(file)
    assert source.config == VISION
    assert "1 tensors that belong to other networks" in source.notes[1]
    ours = VisionTower(source.config).eval()
    ours.load_state_dict(source.state)
    with torch.no_grad():
        wanted = theirs(images())
        tokens = ours(images())
    assert (tokens - wanted.last_hidden_state).abs().max() < 1e-5
    assert (ours.pool(tokens) - wanted.pooler_output).abs().max() < 1e-5


def test_vision_is_that_of_open_clip(tmp_path: Path) -> None:
    from open_clip.transformer import QuickGELU, VisionTransformer

    theirs: Any = shaken(
        VisionTransformer(32, 16, 128, 2, 2, 1.5, output_dim=128, act_layer=QuickGELU)
    )
    state = {f"visual.{n}": v for n, v in theirs.state_dict().items()}
    torch.save({"state_dict": {**state, "logit_scale": torch.ones(())}}, tmp_path / "clip.pt")
    source = read_vision(tmp_path / "clip.pt")
    assert source.config == VISION
    ours = VisionTower(source.config).eval()
    ours.load_state_dict(source.state)
    with torch.no_grad():
        found = ours.pool(ours(images())) @ state["visual.proj"]
        assert (found - theirs(images())).abs().max() < 1e-5


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_text_is_bert(tmp_path: Path, prefix: str) -> None:
    theirs = hf_bert(cross=False)
    state = prefixed(theirs.state_dict(), prefix) | {"cls.predictions.bias": torch.zeros(50)}
    if prefix:  # the names of files converted from TensorFlow
        state = {
            n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): v
            for n, v in state.items()
        }
    save_file(state, tmp_path / "bert.safetensors")
    source = read_text(tmp_path / "bert.safetensors", image_width=96)
    assert source.config == TEXT
    assert not source.has_cross_attention
    assert any("cls" in note and "pooler" in note for note in source.notes)
    assert any("cross-attention" in note for note in source.notes)
    ours = TextTower(source.config).eval()
    missing = ours.load_state_dict(source.state, strict=False).missing_keys
    assert missing and all(".crossattention." in name for name in missing)
    ids, mask = texts()
    with torch.no_grad():
        wanted = theirs(ids, attention_mask=mask.long()).last_hidden_state
        found = ours(ids, mask)
    assert (found - wanted)[mask].abs().max() < 1e-5


def test_cross_attention_is_that_of_bert(tmp_path: Path) -> None:
    """As a decoder BERT is causal, so one token is compared, which sees itself and the image."""
    theirs = hf_bert(cross=True)
    save_file(prefixed(theirs.state_dict(), "text_encoder."), tmp_path / "t.safetensors")
    source = read_text(tmp_path / "t.safetensors")
    assert source.has_cross_attention
    ours = TextTower(source.config).eval()
    ours.load_state_dict(source.state)
    ids = texts()[0][:, :1]
    seen = torch.randn(3, 7, 128, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = theirs(ids, encoder_hidden_states=seen).last_hidden_state
        found = ours(ids, torch.ones_like(ids, dtype=torch.bool), seen)
        alone = ours(ids, torch.ones_like(ids, dtype=torch.bool))
    assert (found - wanted).abs().max() < 1e-5
    assert (found - alone).abs().max() > 1e-2


def test_padding_changes_nothing() -> None:
    tower = shaken(TextTower(TEXT))
    ids, mask = texts()
    with torch.no_grad():
        whole, short = tower(ids, mask), tower(ids[1:2, :5], mask[1:2, :5])
    assert (whole[1:2, :5] - short).abs().max() < 1e-6


def test_the_first_token_alone_is_that_of_all() -> None:
    tower: Any = shaken(TextTower(TEXT))
    ids, mask = texts()
    seen = torch.randn(2, 7, 96, generator=torch.Generator().manual_seed(3))
    which = torch.tensor([1, 0, 1])
    with torch.no_grad():
        assert (tower.first(ids, mask) - tower(ids, mask)[:, 0]).abs().max() < 1e-6
        wanted = tower(ids, mask, seen[which])[:, 0]
        assert (tower.first(ids, mask, seen, which) - wanted).abs().max() < 1e-6
        assert (tower.first(ids, mask, seen[which]) - wanted).abs().max() < 1e-6


def test_checkpointing_gives_the_same_gradients() -> None:
    found = []
    for again in (False, True):
        torch.manual_seed(0)
        towers = VisionTower(VISION), TextTower(TextConfig(50, 20, 128, 2, 2, 192, 128))
        for tower in towers:
            tower.checkpointing = again
        ids, mask = texts()
        towers[1](ids, mask, towers[0](images())).square().sum().backward()
        found.append([p.grad for t in towers for p in t.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 50
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_new_tokens_are_added_behind() -> None:
    tower = TextTower(TEXT)
    source = text_of(tower.state_dict(), heads=2)
    grown = grow_words(source, 52)
    words = grown.state["embeddings.word_embeddings.weight"]
    assert grown.config.vocabulary == 52 and words.shape == (52, 128)
    assert torch.equal(words[:50], source.state["embeddings.word_embeddings.weight"])
    with pytest.raises(BadCheckpoint, match="has 50 tokens"):
        grow_words(source, 49)


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    state = dict(VisionTower(VISION).state_dict())
    for change, said in (
        ({"vision_model.post_layernorm.bias": torch.full((128,), torch.nan)}, "not finite"),
        ({"vision_model.encoder.layers.1.mlp.fc1.bias": torch.zeros(3)}, "wanted \\(192,\\)"),
        ({"vision_model.embeddings.position_embedding.weight": torch.zeros(4, 128)}, "square"),
        ({"vision_model.encoder.layers.3.mlp.fc1.bias": torch.zeros(192)}, "numbered from 0"),
    ):
        save_file({**state, **change}, path)
        with pytest.raises(BadCheckpoint, match=said) as caught:
            read_vision(path)
        assert str(caught.value).startswith(f"{path}:") and "\n" not in str(caught.value)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(BadCheckpoint, match="no CLIP image network"):
        read_vision(path)
    with pytest.raises(BadCheckpoint, match="no BERT"):
        read_text(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadCheckpoint, match=str(path)):
        read_text(path)
    with pytest.raises(BadCheckpoint, match="no such file"):
        read_text(tmp_path / "none")
