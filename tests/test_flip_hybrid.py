"""The hybrid form of FLIP: what the label network sees as tokens, computed once if kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from label_tiny import TINY, tiny_network

pytest.importorskip("tokenizers")

from test_flip_command import captioned_folder
from test_flip_training import captioned, tokens

from annotate.network.reader import Calibration, save_labels
from cli import main
from encoders.flip.data import Captioned
from encoders.flip.network import Flip, FlipConfig, load_flip, save_flip
from encoders.flip.recipe import FlipRecipe
from encoders.flip.text import TextConfig
from encoders.flip.training import FlipTraining, stem_features
from encoders.flip.vision import Kept, VisionConfig
from sfhq.errors import UsageError
from sfhq.training.run import run_training

CONFIG = FlipConfig(
    VisionConfig(64, 32, 16, 1, 2, 16, TINY), TextConfig(16, 12, 16, 1, 2, 16, 16), 8, 12, True
)
RECIPE = FlipRecipe(
    CONFIG, images=32, batch=8, lr=1e-3, warm_up=8, queue=13, momentum=0.9, keep_stem=True
)


def data(count: int = 11) -> Captioned:
    rng = torch.Generator().manual_seed(3)
    pixels = torch.randint(256, (count, 3, 64, 64), generator=rng, dtype=torch.uint8)
    return replace(captioned(count), pixels=pixels)


def test_a_kept_stem_is_computed_once_and_gives_the_same_losses() -> None:
    kept = FlipTraining(RECIPE, data(), tokens())
    start = Flip(CONFIG)
    start.load_state_dict(kept.network.state_dict())
    live = FlipTraining(replace(RECIPE, keep_stem=False), data(), tokens(), start=start)
    assert kept._seen is not None and kept._seen.shape == (2, 11, 1 + 4, 8 + 4 * 8)
    assert live._seen is None
    torch.manual_seed(0)
    a, b = kept.step(), live.step()
    assert torch.allclose(a["contrast"], b["contrast"], atol=2e-3), "float16 features"
    before = {n: p.clone() for n, p in start.named_parameters()}
    moved = {n for n, p in kept.network.named_parameters() if not torch.equal(p, before[n])}
    assert moved and not [n for n in moved if ".stem." in n]
    assert [n for n, p in live.network.named_parameters() if ".stem." in n and p.grad is not None]


def test_features_of_mirror_images_are_their_own() -> None:
    network, some = Flip(CONFIG).eval(), data(3)
    found = stem_features(network, some)
    embeddings = network.visual_encoder.vision_model.embeddings
    with torch.no_grad():
        wanted = embeddings.features(some.images(torch.arange(3)).flip(3))
        assert torch.allclose(found[1].float(), wanted, atol=1e-2)
        assert not torch.allclose(found[0], found[1])
        whole = network.image_tokens(some.images(torch.arange(3)))
        again = network.image_tokens(embeddings.features(some.images(torch.arange(3))))
    assert torch.equal(whole, again) and whole.shape == (3, 5, 16)


def test_places_are_left_out_for_the_whole_batch() -> None:
    recipe = replace(RECIPE, left_out=0.5, matching=0.0)
    one = FlipTraining(recipe, data(), tokens())
    batch = one._draw()
    assert batch.kept is not None and batch.kept.places.shape == (8, 2)
    assert all(len({*row}) == 2 for row in batch.kept.places.tolist())
    places = {tuple(sorted(row)) for row in batch.kept.places.tolist()}
    assert len(places) > 1, "others for each image"
    assert batch.kept.numbers is not None and batch.kept.numbers.shape == (8, 8)
    assert 0.2 < batch.kept.numbers.float().mean() < 0.8
    whole, sliced = (FlipTraining(replace(recipe, slices=n), data(), tokens()) for n in (1, 4))
    for _ in range(3):
        a, b = whole.step()["contrast"], sliced.step()["contrast"]
        assert torch.allclose(a, b, atol=1e-5)
    tower = one.network.eval().visual_encoder
    images, kept = data().images(torch.arange(2)), torch.tensor([[3, 0], [1, 2]])
    with torch.no_grad():
        assert tower(images, Kept(kept)).shape == (2, 3, 16)
        every = Kept(torch.arange(4).expand(2, 4), torch.ones(2, 8, dtype=torch.bool))
        assert torch.allclose(tower(images, every), tower(images), atol=1e-6)
        blind = Kept(every.places, torch.zeros(2, 8, dtype=torch.bool))
        assert not torch.allclose(tower(images, blind), tower(images), atol=1e-3)


def test_a_resumed_hybrid_goes_on_exactly(tmp_path: Path) -> None:
    recipe = replace(RECIPE, left_out=0.25)
    whole, first = (FlipTraining(recipe, data(), tokens()) for _ in range(2))
    assert run_training(whole, tmp_path / "a", {}, say=lambda _: None)
    assert not run_training(first, tmp_path / "b", {}, limit_seconds=0.0, say=lambda _: None)
    second = FlipTraining(recipe, data(), tokens())
    assert run_training(second, tmp_path / "b", {}, say=lambda _: None)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name


def test_a_file_keeps_the_stem(tmp_path: Path) -> None:
    network = Flip(CONFIG).eval()
    save_flip(tmp_path / "f.safetensors", network)
    again = load_flip(tmp_path / "f.safetensors").network
    assert again.config == CONFIG
    images = data(2).images(torch.arange(2))
    with torch.no_grad():
        assert torch.equal(network.image_tokens(images), again.image_tokens(images))


def test_settings_of_a_stem() -> None:
    with pytest.raises(ValueError, match="patch 16 with a stem; wanted 32"):
        VisionConfig(64, 16, 16, 1, 2, 16, TINY)
    with pytest.raises(UsageError, match="have no stem; wanted those of hybrid"):
        FlipRecipe(replace(CONFIG, vision=VisionConfig(64, 32, 16, 1, 2, 16)), keep_stem=True)
    with pytest.raises(UsageError, match="left_out is 1"):
        replace(RECIPE, left_out=1.0)


def test_the_command_stands_on_a_label_network(tmp_path: Path) -> None:
    labels = tiny_network().fold()
    save_labels(tmp_path / "labels.safetensors", labels, Calibration.plain())
    folder = captioned_folder(tmp_path / "faces", 6)
    told = ["flip", "train", folder, "--out", tmp_path / "run", "--images", 4, "--batch", 4]
    told += ["--config", "hybrid", "--stem", tmp_path / "labels.safetensors", "--left-out", 0.5]
    result = CliRunner().invoke(main, [str(t) for t in told])
    assert result.exit_code == 0, result.output
    network = load_flip(tmp_path / "run" / "flip.safetensors").network
    for name, value in labels.state_dict().items():
        assert torch.equal(network.stem.state_dict()[name], value), name
    told.remove("--config")
    told.remove("hybrid")
    refused = CliRunner().invoke(main, [str(t) for t in told])
    assert refused.exit_code == 2 and "--stem is for --config hybrid" in refused.output
