"""The embedded pack and the sample art: what a newcomer runs first."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import cli
from encoders.e4e.loading import load_encoder
from sfhq.images import read_image
from sfhq.parts.part import Part
from sfhq.synthesis.latents import LatentPrior
from sfhq.weights.checkpoints import load_generator
from sfhq.weights.header import PACK
from stylegan2_ops.generator import seed_to_z

SAMPLES = Path(cli.__file__).parent / "sfhq" / "samples"


def test_size_and_resolution() -> None:
    files = sorted(PACK.glob("*.safetensors"))
    assert [f.stem for f in files] == ["e4e", "flip", "generator", "labels"]
    assert sum(f.stat().st_size for f in files) <= 60e6
    generator, _ = load_generator()
    assert generator.config.resolution == 256
    assert load_encoder(None, generator.config.num_ws)[0].config.num_ws == generator.config.num_ws


def test_card_names_the_files_that_ship() -> None:
    card = (PACK / "README.md").read_text()
    for path in PACK.glob("*.safetensors"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in card, f"{path.name}: card is stale"


def test_draws_are_near_the_prior_and_differ() -> None:
    generator, _ = load_generator()
    prior = LatentPrior.of(generator)
    z = torch.cat([seed_to_z(seed) for seed in range(8)])
    with torch.inference_mode():
        w_plus = generator.broadcast(generator.mapping(z))
        images = generator.synthesis(w_plus)
        distance = prior.distance(w_plus)
    assert bool(((distance > 0.5) & (distance < 1.5)).all())
    assert float(images.abs().max()) < 3.0
    gaps = torch.cdist(images.flatten(1), images.flatten(1)) / images[0].numel() ** 0.5
    assert float(gaps[~torch.eye(8, dtype=torch.bool)].min()) > 0.1


def test_encoder_finds_the_way_back() -> None:
    """Inverting an image of the generator must beat any other face's latent by far."""
    generator, _ = load_generator()
    encoder, _ = load_encoder()
    z = torch.cat([seed_to_z(seed) for seed in range(20, 36)])
    with torch.inference_mode():
        images = generator(z)
        back = generator.synthesis(encoder(images))
    gaps = torch.cdist(back.flatten(1), images.flatten(1))
    assert float((gaps.argmin(dim=1) == torch.arange(16)).float().mean()) >= 0.9


def test_demo(tmp_path: Path) -> None:
    part = tmp_path / "demo"
    result = CliRunner().invoke(cli.main, ["demo", str(part)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    sheet = Path(result.stdout.strip().splitlines()[-1])
    assert read_image(sheet.read_bytes()).width > 400
    opened = Part.open(part)
    art = sum(r.alive for r in opened.records("align"))
    strict = [r for r in opened.records("synthesize") if r.candidate == "strict"]
    assert art == len(list(SAMPLES.glob("*.jpg"))) == len(strict)
    manifest = (part / "export" / "manifest.csv").read_text()
    assert manifest.count("\n") > art and str(tmp_path) not in manifest


@pytest.mark.long
def test_strict_candidates_of_art_have_faces(shared_data: Path, tmp_path: Path) -> None:
    from sfhq.faces.detector import face_landmarks
    from sfhq.parts.photos import read_pixels

    runner = CliRunner()
    arguments = ["run", str(shared_data / "art"), str(tmp_path / "p"), "--only", "*_art.jpg"]
    result = runner.invoke(cli.main, [*arguments, "--json", "--no-export"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["stages"][0]["entered"] == 12
    part = Part.open(tmp_path / "p")
    strict = [r for r in part.records("synthesize") if r.candidate == "strict"]
    found = [face_landmarks(read_pixels(part, r, "images")) is not None for r in strict]
    assert np.mean(found) >= 0.9


def test_no_machine_path_in_the_card() -> None:
    assert not re.search(r"/(root|home|work|tmp)/", (PACK / "README.md").read_text())
