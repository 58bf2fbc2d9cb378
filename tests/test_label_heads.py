"""Rendered heads as samples, and the command that trains on them."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from annotate.network.reader import load_labels
from annotate.training.gather import gather
from annotate.training.heads import Heads, exact_extras, known_attributes, load_heads
from annotate.training.samples import head_samples
from cli import main
from sfhq.errors import IntegrityError, UsageError
from sfhq.faces.classes import ID
from sfhq.networks.names import ATTRIBUTES
from sfhq.parts.part import Part
from sfhq.pipeline.engine import run_stage
from sfhq.render.render import Render

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("anny") is None or importlib.util.find_spec("mitsuba") is None,
    reason="needs pip install 'sfhq[render]'",
)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Part.create(tmp_path_factory.mktemp("labels") / "heads")
    run_stage(Render(count=3, seed=8, size=64, styles=("photo", "cel"), samples=1), made)
    return made.root


@pytest.fixture(scope="module")
def heads(part: Path) -> Heads:
    return load_heads(part, 64, part.parent / "kept")


def test_a_head_in_an_art_style_gives_two_pictures_with_the_same_labels(heads: Heads) -> None:
    assert heads.names == ("head0000000008", "head0000000009", "head0000000009", "head0000000010")
    assert (heads.classes[1] == heads.classes[2]).all()
    assert (heads.pixels[1] != heads.pixels[2]).any()
    assert (heads.points[1] == heads.points[2]).all()


def test_soft_hair_agrees_with_the_classes(heads: Heads) -> None:
    for hair, classes in zip(heads.hair, heads.classes, strict=True):
        assert (classes[hair > 128] == ID["hair"]).all()  # more than half of the pixel is hair
        assert (hair[classes == ID["hair"]] > 30).all()
    assert any(((hair > 20) & (hair < 235)).any() for hair in heads.hair)


def test_irises_lie_between_the_lids(heads: Heads) -> None:
    for irises, points in zip(heads.irises, heads.points, strict=True):
        for iris, eye in zip(irises, (points[36:42], points[42:48]), strict=True):
            low, high = eye.min(0) - 1.5, eye.max(0) + 1.5
            assert (low <= iris).all() and (iris <= high).all()


def test_what_was_computed_is_kept_and_damage_is_told(
    part: Path, heads: Heads, tmp_path: Path
) -> None:
    opened = Part.open(part)
    record = next(iter(opened.records("render")))
    recipe = opened.stage_info("render")["settings"]["recipe"]
    shutil.copytree(part.parent / "kept", tmp_path / "kept")
    path = tmp_path / "kept" / f"{record.face_id}.npz"
    np.savez(path, alpha=np.full((64, 64), 7, np.uint8), irises=np.zeros((2, 2), np.float32))
    mask = np.zeros((64, 64), np.uint8)
    assert exact_extras(record, recipe, mask, tmp_path / "kept")[0][0, 0] == 7
    path.write_bytes(b"no")
    with pytest.raises(IntegrityError, match="delete it"):
        exact_extras(record, recipe, mask, tmp_path / "kept")
    with pytest.raises(UsageError, match="does not give its picture again"):
        exact_extras(record, recipe, mask, tmp_path / "none")


def test_attributes_beyond_celebas_follow_the_details(part: Path) -> None:
    record = next(iter(Part.open(part).records("render")))
    details = {
        **record.params["details"],
        **{"glasses": "sunglasses", "hat": "cap", "beard": "full", "years": 9.0},
        **{"hair_length": 2.0, "hair_style": "curly", "eye_opening": 0.0},
    }
    told = dict(
        zip(ATTRIBUTES, known_attributes({**record.params, "details": details}), strict=True)
    )
    for name in (
        "Sunglasses",
        "Cap",
        "Full_Beard",
        "Long_Hair",
        "Curly_Hair",
        "Eyes_Closed",
        "Child",
    ):
        assert told[name] == 1, name
    assert told["Beanie"] == 0 and told["Brimmed_Hat"] == 0
    assert np.isnan(told["Attractive"])


def test_hidden_points_count_less_and_missing_ones_do_not(heads: Heads) -> None:
    samples = head_samples(heads)
    flags = heads.flags
    assert (
        samples.weights[:, :110].numpy() == np.select([flags == 2, flags == 1], [1, 0.5], 0)
    ).all()
    assert samples.seen.isnan().numpy().tolist() == (flags == 0).tolist()
    assert (samples.bits[0].numpy() == 1 << heads.classes[0].astype(int)).all()


def test_parts_that_do_not_fit_are_refused(part: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="heads of 64 px; wanted 128"):
        load_heads(part, 128, tmp_path)
    empty = Part.create(tmp_path / "empty")
    with pytest.raises(UsageError, match="no rendered head"):
        load_heads(empty.root, 64, tmp_path)
    with pytest.raises(UsageError, match="give --teachers"):
        gather([part], [tmp_path], [], None, 64, part.parent, lambda _: None)
    with pytest.raises(UsageError, match="nothing to train on"):
        gather([], [], [], None, 64, part.parent, lambda _: None)


@pytest.mark.long
def test_the_command_trains_resumes_and_ends_with_a_network(tmp_path: Path) -> None:
    made = Part.create(tmp_path / "heads")
    run_stage(Render(count=3, seed=8, size=256, samples=1), made)
    words = ["train", "labels", str(made.root), "--out", str(tmp_path / "run"), "--images", "4"]
    words += ["--batch", "2"]
    stopped = CliRunner().invoke(main, [*words, "--minutes", "0.0001"])
    assert stopped.exit_code == 0 and "run again to go on" in stopped.stderr, stopped.output
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == str(tmp_path / "run" / "labels.safetensors")
    reader, _ = load_labels(tmp_path / "run" / "labels.safetensors")
    assert reader.size == 256
    refused = CliRunner().invoke(main, [*words, "--seed", "1"])
    assert refused.exit_code == 2 and "other settings" in refused.stderr
