"""Teaching a finished label network one more attribute: nothing else that it says changes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from label_tiny import crops, tiny_reader
from PIL import Image

import cli
from annotate.network.reader import Calibration, load_labels, save_labels
from annotate.training.added import Known, fit_added, teach_added
from annotate.training.samples import part_of
from annotate.training.words import attributes_of
from sfhq.networks.names import ADDED, ATTRIBUTES, LEARNED
from sfhq.parts.records import Pixels

NAME = "Headscarf"
AT = ATTRIBUTES.index(NAME)


def painted(count: int = 200) -> tuple[Pixels, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """Random pictures, and whether their upper half is red."""
    pictures = crops(count, seed=3)
    answers = (np.arange(count) % 2).astype(np.float64)
    pictures[answers == 1, :32] = (220, 20, 20)
    return pictures, answers


def known_of(count: int = 200) -> Known:
    pictures, answers = painted(count)
    names = tuple(f"face{i:04d}.png" for i in range(count))
    return Known(pictures, answers, np.arange(count) % 3 > 0, names)


def test_it_says_one_more_attribute_and_the_rest_to_the_bit(tmp_path: Path) -> None:
    reader, known = tiny_reader(), known_of()
    assert bool((reader.read(crops(2)).attributes[:, AT] == 0.5).all()), "not taught yet"
    taught, said = teach_added(reader, NAME, known)
    unseen = np.array([part_of(name) == "test" for name in known.names])
    assert unseen.sum() > 5
    assert ((said > 0.5) == (known.answers == 1))[unseen].mean() > 0.9
    before, after = reader.read(crops(4)), taught.read(crops(4))
    for name, value in vars(before).items():
        now = getattr(after, name)
        rest = [i for i in range(len(ATTRIBUTES)) if i != AT] if name == "attributes" else None
        same = torch.equal(value[:, rest], now[:, rest]) if rest else torch.equal(value, now)
        assert same, name
    save_labels(tmp_path / "l.safetensors", taught.network, taught.calibration)
    loaded, _ = load_labels(tmp_path / "l.safetensors")
    found = loaded.read(known.crops[:20]).attributes[:, AT].numpy()
    np.testing.assert_allclose(found, said[:20], atol=1e-4)


def test_a_headscarf_is_no_hat_that_is_mended_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels of a hat stay where the network sees a headscarf, though it sees no hat."""
    asked: list[float] = []

    def watched(planes: torch.Tensor, worn: float, eye: float) -> torch.Tensor:
        asked.append(worn)
        return planes

    monkeypatch.setattr("annotate.network.reader.mended", watched)
    reader, known = tiny_reader(), known_of()
    taught, said = teach_added(reader, NAME, known)
    plain, scarf = int(said.argmin()), int(said.argmax())
    assert said[plain] < 0.5 < said[scarf]
    for i in (plain, scarf):
        taught.read(known.crops[i : i + 1])
        reader.read(known.crops[i : i + 1])
    assert asked[0] == asked[1] and asked[2] == 1.0 > asked[3]


def test_photos_count_as_much_as_rendered_heads_do() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(410, 2))
    rendered = np.arange(410) < 400
    answers = (np.arange(410) % 2).astype(float)
    numbers[rendered, 0] += 4 * answers[rendered]  # what tells heads apart
    numbers[~rendered, 1] += 4 * answers[~rendered]  # what tells photos apart
    slope, _ = fit_added(numbers, answers, rendered)
    assert slope[1] > 0.4 * slope[0] > 0


def test_a_file_from_before_the_attribute_says_one_half(tmp_path: Path) -> None:
    reader, plain = tiny_reader(), Calibration.plain()
    count = len(LEARNED)
    old = Calibration(
        plain.scale[:count] * 2, plain.bias[:count], plain.spread, plain.rates[:count]
    )
    notes = {"attributes": json.dumps(LEARNED)}
    save_labels(tmp_path / "old.safetensors", reader.network, old, notes)
    loaded, _ = load_labels(tmp_path / "old.safetensors")
    assert loaded.network.config.added == 0
    assert bool((loaded.read(crops(1)).attributes[:, AT] == 0.5).all())
    assert loaded.calibration.scale.tolist() == [2.0] * count + [1.0] * len(ADDED)


def test_words_say_who_wears_a_headscarf() -> None:
    assert attributes_of("a woman with a headscarf")[AT] == 1
    assert attributes_of("a woman with no headscarf")[AT] == 0
    assert np.isnan(attributes_of("a woman with red hair")[AT])


def test_the_command_learns_from_photos_and_their_words(tmp_path: Path) -> None:
    save_labels(tmp_path / "labels.safetensors", tiny_reader().network, Calibration.plain())
    pictures, answers = painted(120)
    (tmp_path / "photos").mkdir()
    with open(tmp_path / "words.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "queries"])
        for i, (picture, answer) in enumerate(zip(pictures, answers, strict=True)):
            Image.fromarray(picture).save(tmp_path / "photos" / f"{i:04d}.png")
            rows.writerow([f"{i:04d}.png", "a headscarf" if answer else "no headscarf"])
    given = ["train", "attribute", NAME, "--photos", str(tmp_path / "photos")]
    given += ["--weights", str(tmp_path / "labels.safetensors"), "--out", str(tmp_path / "out")]
    lacking = CliRunner().invoke(cli.main, given)
    assert lacking.exit_code == 2
    assert "0 crops have Headscarf; wanted 10 or more to learn from" in lacking.stderr
    done = CliRunner().invoke(cli.main, [*given, "--words", str(tmp_path / "words.csv")])
    assert done.exit_code == 0, done.output
    assert "photos, not learned from: " in done.stdout and "AUC 1.000" in done.stdout
    loaded, _ = load_labels(tmp_path / "out" / "labels.safetensors")
    assert loaded.network.config.added == 1


@pytest.mark.parametrize("count", [9, 0])
def test_too_few_answers_are_told(tmp_path: Path, count: int) -> None:
    save_labels(tmp_path / "labels.safetensors", tiny_reader().network, Calibration.plain())
    (tmp_path / "photos").mkdir()
    lines = ["file,queries"]
    for i in range(30):
        Image.fromarray(crops(1, seed=i)[0]).save(tmp_path / "photos" / f"{i}.png")
        lines.append(f"{i}.png,{'headscarf' if i >= count else 'no headscarf'}")
    (tmp_path / "words.csv").write_text("\n".join(lines))
    given = ["train", "attribute", NAME, "--photos", str(tmp_path / "photos"), "--words"]
    given += [str(tmp_path / "words.csv"), "--weights", str(tmp_path / "labels.safetensors")]
    done = CliRunner().invoke(cli.main, [*given, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and f"{count} crops lack Headscarf" in done.stderr
    assert not (tmp_path / "out").exists()
