"""Feature sets of other people's networks: real loaders, files in the published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_pixels

import encoders.features.presets
from encoders.features.presets import CLIP, PRESETS, TIMM, TimmEncoder, preset
from sfhq.errors import SfhqError, UsageError

SMALL = "test_vit"  # timm's own smallest


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    import timm

    torch.manual_seed(0)
    network = timm.create_model(SMALL, pretrained=False, num_classes=10)
    path = tmp_path / "dino-s8.safetensors"
    save_file(network.state_dict(), path)
    return path


def test_a_network_of_timm_gives_unit_vectors(weights: Path) -> None:
    images = tiny_pixels(3, 48)
    encoder = TimmEncoder("dino-s8", SMALL, weights)
    vectors = encoder(images)
    assert vectors.dtype == np.float32 and len(vectors) == 3
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4
    torch.save(_state(weights), weights.with_suffix(".pth"))
    again = TimmEncoder("dino-s8", SMALL, weights.with_suffix(".pth"))
    assert np.array_equal(again(images), vectors)
    assert len(encoder.digest) == 64


def _state(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_files_of_something_else(weights: Path) -> None:
    state = _state(weights)
    del state["patch_embed.proj.weight"]
    save_file(state, weights)
    with pytest.raises(
        SfhqError, match=r"1 tensors are missing, the first is patch_embed.proj.weight"
    ):
        TimmEncoder("dino-s8", SMALL, weights)(tiny_pixels(1, 48))
    weights.write_bytes(b"nothing")
    with pytest.raises(SfhqError, match="holds no weights of test_vit"):
        TimmEncoder("dino-s8", SMALL, weights.rename(weights.parent / "x.safetensors"))(
            tiny_pixels(1, 48)
        )


def test_every_preset_names_networks_that_there_are(tmp_path: Path) -> None:
    import open_clip
    import timm

    assert [len(p) for p in PRESETS.values()] == [1, 2, 4, 7]
    assert set(TIMM.values()) <= set(timm.list_pretrained())
    assert set(CLIP.values()) <= set(open_clip.list_models())
    for sets in PRESETS.values():
        for name in sets:
            (tmp_path / f"{name}.safetensors").write_bytes(b"")
    found = preset("preset-7", tmp_path)
    assert [f.name for f in found] == list(PRESETS["preset-7"])


def test_missing_weights_are_one_line(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(SfhqError, match="no weights of convnext-xl") as caught:
            preset("preset-2", folder)
        assert "\n" not in str(caught.value)
        assert "geometry,efficientnet" in str(caught.value)
    with pytest.raises(UsageError, match="unknown feature set 'preset-3'"):
        preset("preset-3", None)
    assert encoders.features.presets.preset("clip", None)[0].name == "clip"
