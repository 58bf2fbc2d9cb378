"""The group `sfhq flip`: a folder of captioned pictures to weights, a table and a file to share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from test_flip_network import TINY, network, published

pytest.importorskip("tokenizers")

from command import told as sfhq

from encoders.flip.network import Momentum, flip_config, load_flip, save_flip
from encoders.flip.text import TextConfig, TextTower
from encoders.flip.tokens import SPECIAL, load_tokens, vocabulary_of
from encoders.flip.vision import VisionConfig, VisionTower


def captioned_folder(folder: Path, count: int = 14) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(256, size=(40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"A man with {i} hats.\nHe is bald.\n")
    return folder


def test_train_resume_evaluate_export(tmp_path: Path) -> None:
    folder = captioned_folder(tmp_path / "faces")
    run = tmp_path / "run"
    small = ["--batch", 2, "--queue", 3, "--warm-up", 2, "--validate", 2, "--momentum", 0.5]
    arguments = ["flip", "train", folder, "--out", run, *small, "--images", 4]
    stopped = sfhq(*arguments, "--minutes", 1e-9)
    assert stopped.exit_code == 0, stopped.stderr
    assert "stopped at 2 images" in stopped.stderr and "held out; left out: none" in stopped.stderr
    result = sfhq(*arguments)
    assert result.exit_code == 0, result.stderr
    weights = run / "flip.safetensors"
    assert result.stdout.splitlines()[-1] == str(weights)
    rows = [json.loads(line) for line in result.stdout.splitlines()[:-1]]
    assert [r["validation"]["images"] for r in rows if "validation" in r] == [2, 4]
    loaded = load_flip(weights)
    assert loaded.notes["images"] == "4"
    settings = json.loads((run / "settings.json").read_text())
    assert settings["momentum"] == 0.5 and settings["queue"] == 3
    assert settings["alpha"] == 0 and settings["lr"] == 1e-3, "the usual ones of tiny"
    assert vocabulary_of(loaded.notes).words == load_tokens().words
    other = sfhq(*arguments, "--lr", 0.1)
    assert other.exit_code == 2 and "other settings" in other.stderr

    table = sfhq("flip", "evaluate", folder, "--flip", weights, "--all", "--rerank", 2)
    assert table.exit_code == 0, table.stderr
    found = [json.loads(line) for line in table.stdout.splitlines()]
    assert [r["reordered"] for r in found] == [0, 2]
    assert found[0]["text_to_image"]["queries"] == 28
    # "He is bald." is said of every image, so half of the texts find a hit at once.
    assert found[0]["text_to_image"]["r1"] >= 0.5
    held = sfhq("flip", "evaluate", folder, "--flip", weights)
    assert json.loads(held.stdout)["pool"] < 14

    shared = tmp_path / "shared.safetensors"
    result = sfhq("flip", "export", weights, shared, "--half")
    assert result.exit_code == 0 and result.stdout.endswith("  shared.safetensors\n")
    assert shared.stat().st_size < 0.55 * weights.stat().st_size
    for name, value in load_flip(shared).network.state_dict().items():
        torch.testing.assert_close(value, loaded.network.state_dict()[name], atol=1e-3, rtol=1e-3)


def test_towers_from_files(tmp_path: Path) -> None:
    folder = captioned_folder(tmp_path / "faces", 13)
    vision = VisionTower(VisionConfig(32, 16, 64, 1, 1, 64))
    save_file(vision.state_dict(), tmp_path / "clip.safetensors")
    words = (*SPECIAL, *"abcdefghijklmnopqrstuvwxyz0123456789.")
    text = TextTower(TextConfig(len(words), 70, 64, 1, 1, 64))
    state = {n: v for n, v in text.state_dict().items() if ".crossattention." not in n}
    save_file(state, tmp_path / "bert.safetensors")
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    arguments = ["flip", "train", folder, "--out", tmp_path / "run", "--images", 2, "--batch", 2]
    towers = ["--vision", tmp_path / "clip.safetensors", "--text", tmp_path / "bert.safetensors"]
    result = sfhq(*arguments, *towers, "--vocabulary", tmp_path / "vocab.txt", "--lr", 0)
    assert result.exit_code == 0, result.stderr
    assert "2 tokens start from random vectors" in result.stderr
    assert "has no cross-attention" in result.stderr
    found = load_flip(tmp_path / "run" / "flip.safetensors").network
    assert found.config.vision == vision.config and not found.config.norm_tokens
    assert found.config.text.vocabulary == len(words) + 2
    for name, value in vision.state_dict().items():
        torch.testing.assert_close(found.visual_encoder.state_dict()[name], value)
    for name, value in state.items():
        ours = found.text_encoder.state_dict()[name]
        torch.testing.assert_close(ours[: len(value)], value)


def test_a_published_checkpoint_is_exported(tmp_path: Path) -> None:
    path, out = tmp_path / "flip.pth", tmp_path / "flip.safetensors"
    torch.save({"model": published(network(), Momentum(network()))}, path)
    result = sfhq("flip", "export", path, out)
    assert result.exit_code == 2 and "give its --vocabulary" in result.stderr
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *map(str, range(33))]))
    result = sfhq("flip", "export", path, out, "--vocabulary", tmp_path / "vocab.txt")
    assert result.exit_code == 0, result.stderr
    loaded = load_flip(out)
    assert loaded.network.config.vision == TINY.vision
    assert vocabulary_of(loaded.notes).words[-2:] == ("[DEC]", "[ENC]")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("train", "faces", "--out", "r", "--batch", 5, "--slices", 2), 2, "slices that divide it"),
        (("train", "none", "--out", "r"), 2, "wanted a part, a folder"),
        (("train", "faces", "--out", "r", "--device", "tpu"), 2, "wanted cpu, cuda"),
        (("train", "faces", "--out", "r", "--from", "x", "--text", "y"), 2, "gives both networks"),
        (("train", "faces", "--out", "r", "--from", "none"), 2, "no such weights"),
        (("train", "faces", "--out", "r", "--only-matching"), 2, "--only-matching needs --from"),
        (("train", "faces", "--out", "r", "--vision", "faces/0.png"), 4, "0.png: "),
        (("evaluate", "faces", "--flip", "none"), 2, "no such weights"),
        (("evaluate", "faces", "--flip", "other"), 2, "wants|vocabulary of"),
        (("export", "none", "x"), 2, "no such weights"),
        (("export", "faces/0.png", "x"), 4, "0.png: "),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    captioned_folder(tmp_path / "faces", 3)
    save_flip(tmp_path / "other", network())
    result = sfhq("flip", *arguments)
    assert result.exit_code == code, result.stderr
    assert any(word in result.stderr for word in said.split("|"))
    assert len(result.stderr.splitlines()) == 1


def test_the_paper_fits_berts_vocabulary() -> None:
    assert flip_config("paper", 30524).text.vocabulary == 30522 + 2
