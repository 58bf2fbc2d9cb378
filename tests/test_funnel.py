"""The funnel: from images with texts to captioned faces, every drop counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from label_tiny import TINY, tiny_reader

import cli
from annotate.commands.funnel import texts_of
from annotate.network.reader import Calibration, save_labels
from sfhq.networks.labels import LabelNetwork
from sfhq.networks.names import ATTRIBUTES
from sfhq.parts.part import Part

SAMPLES = Path(cli.__file__).parent / "sfhq" / "samples"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A label network of random numbers that is sure of much."""
    path = tmp_path_factory.mktemp("weights") / "labels.safetensors"
    reader = tiny_reader()
    assert isinstance(reader.network, LabelNetwork)
    reader.network.config = TINY
    save_labels(path, reader.network, Calibration.plain())
    return path


def collection(folder: Path) -> Path:
    folder.mkdir()
    for name in ("oil_0000", "clay_0033", "pencil_0002"):
        shutil.copy(SAMPLES / f"{name}.jpg", folder)
        (folder / f"{name}.txt").write_text(f"a painting called {name}")
    (folder / "broken.jpg").write_bytes(b"no image")
    shutil.copy(SAMPLES / "oil_0000.jpg", folder / "opted.jpg")
    return folder


def test_from_a_collection_to_captions(tmp_path: Path, weights: Path) -> None:
    source, root = collection(tmp_path / "faces"), tmp_path / "part"
    (tmp_path / "out.txt").write_text("clay_0033.jpg\n")
    words = ["funnel", str(source), str(root), "--weights", str(weights), "--threshold", "0.5"]
    words += ["--least", "0", "--count", "2", "--opt-out", str(tmp_path / "out.txt")]
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("ingest") and "1 opted out" in lines[0]
    assert "1 not an image" in lines[0] and "1 exact duplicate" in lines[0]
    part = Part.open(root)
    assert part.stages() == ["ingest", "align", "detect", "attribute", "caption"]
    assert part.stage_info("align")["settings"]["min_face"] == 128
    texts, captions, without, quality = texts_of(root)
    assert len(quality) == len(texts) and all(0 < q <= 100 for q in quality)
    assert f"quality of {len(quality)} faces (0 to 100" in result.stdout
    assert sorted(texts) == ["a painting called oil_0000", "a painting called pencil_0002"]
    assert len(captions) + 2 * without == 4
    again = CliRunner().invoke(cli.main, words)
    assert again.exit_code == 0 and again.stdout == result.stdout
    told = CliRunner().invoke(cli.main, [*words, "--json"])
    assert [s["stage"] for s in json.loads(told.stdout)["stages"]] == part.stages()


def test_the_rule_of_six_attributes(tmp_path: Path, weights: Path) -> None:
    source, root = collection(tmp_path / "faces"), tmp_path / "part"
    words = ["funnel", str(source), str(root), "--weights", str(weights), "--threshold", "1"]
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == 0, result.stderr
    assert "faces without a caption: too few attributes" in result.stdout
    assert Part.open(root).stage_info("attribute")["settings"]["least"] == 6
    assert len(ATTRIBUTES) > 40
