"""FLIP as an encoder of parts, and search by words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import ToyEncoder, finish, tiny_pixels

pytest.importorskip("tokenizers")

from command import told as sfhq

from encoders.embed import Embed, image_encoder
from encoders.features.flip import FlipEncoder
from encoders.flip.network import Flip, FlipConfig, load_flip, save_flip
from encoders.flip.text import TextConfig
from encoders.flip.tokens import load_tokens
from encoders.flip.vision import VisionConfig
from encoders.search import Faces, Searcher, best, load_faces
from sfhq.errors import SfhqError, UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.pipeline.engine import run_stage

CONFIG = FlipConfig(
    VisionConfig(32, 16, 64, 1, 1, 64), TextConfig(512, 30, 64, 1, 1, 64, 64), 16, 30, True
)


def weights(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    path = folder / f"flip-{seed}.safetensors"
    assert len(load_tokens()) == CONFIG.text.vocabulary
    save_flip(path, Flip(CONFIG))
    return path


def photos(root: Path, count: int) -> Part:
    part = Part.create(root)
    pixels = tiny_pixels(count)
    faces = [FaceRecord(f"f{i}").with_image("images", p) for i, p in enumerate(pixels)]
    finish(part, "synthesize", [faces])
    return part


def test_vectors_are_those_of_the_network(tmp_path: Path) -> None:
    path = weights(tmp_path)
    encoder = image_encoder("flip", path)
    images = tiny_pixels(3)
    found = encoder(images)
    assert found.shape == (3, 16) and found.dtype == np.float32
    network = load_flip(path).network
    small = [Image.fromarray(i).resize((32, 32), Image.Resampling.BICUBIC) for i in images]
    batch = torch.from_numpy(np.stack([np.asarray(i) for i in small])).permute(0, 3, 1, 2)
    with torch.no_grad():
        wanted = network.image_vectors(network.image_tokens(batch / 127.5 - 1))
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-6)
    np.testing.assert_allclose(encoder(images[:1]), found[:1], atol=1e-6)
    assert encoder.digest == load_flip(path).digest
    with pytest.raises(SfhqError, match="give --encoder-weights FILE"):
        FlipEncoder(tmp_path / "none").digest  # noqa: B018


def test_a_part_is_searched(tmp_path: Path) -> None:
    path, part = weights(tmp_path), photos(tmp_path / "part", 5)
    run_stage(Embed(FlipEncoder(path), batch=2), part, shard_size=2)
    sheet = tmp_path / "found.png"
    text = "a bald man"
    result = sfhq("search", part.root, text, "x", "--count", 3, "--flip", path, "--sheet", sheet)
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()[:-1]]
    assert [line["text"] for line in lines] == [text] * 3 + ["x"] * 3
    vector = Searcher(path).vectors([text])[0][0]
    records = list(part.faces())
    cosines = [float(part.row("embedding", r) @ vector) for r in records]
    order = sorted(range(5), key=lambda i: -cosines[i])[:3]
    assert [line["face_id"] for line in lines[:3]] == [records[i].face_id for i in order]
    assert [line["similarity"] for line in lines[:3]] == pytest.approx(
        [cosines[i] for i in order], abs=1e-4
    )
    with Image.open(sheet) as image:
        assert image.size == (3 * 166 + 6, 2 * 188 + 6)


def test_equal_faces_come_in_their_order() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [1, 0], [0, -1]], np.float32)
    records = tuple(FaceRecord(f"f{i}") for i in range(5))
    faces = Faces(None, records, vectors)  # type: ignore[arg-type]
    found = best(faces, np.array([1, 0], np.float32), 2)
    assert [f.record.face_id for f in found] == ["f0", "f2"]
    assert len(best(faces, np.array([1, 0], np.float32), 99)) == 5


def test_parts_that_cannot_be_searched(tmp_path: Path) -> None:
    path, part = weights(tmp_path), photos(tmp_path / "part", 2)
    digest = load_flip(path).digest
    with pytest.raises(UsageError, match="has no vectors; run: sfhq embed"):
        load_faces(part, digest)
    run_stage(Embed(ToyEncoder()), part)
    with pytest.raises(UsageError, match="embedded by toy, which knows no words"):
        load_faces(part, digest)
    other = photos(tmp_path / "other", 2)
    run_stage(Embed(FlipEncoder(weights(tmp_path, 1))), other)
    with pytest.raises(UsageError, match="other weights of FLIP"):
        load_faces(other, digest)
    result = sfhq("search", other.root, "  ", "--flip", path)
    assert result.exit_code == 2 and "no words to search for" in result.stderr
    result = sfhq(
        "search", other.root, "x", "--flip", tmp_path / "flip-1.safetensors", "--sheet", "a.gif"
    )
    assert result.exit_code == 2 and "ends in .png or .jpg" in result.stderr
