"""Files of weights, tastes and codes that nobody made in good faith: refused before they cost."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny import E4E, GENERATOR, tiny_e4e, tiny_generator

import cli
from curation.taste.model import TasteModel, fit_taste
from encoders.e4e.network import load_e4e, save_e4e
from sfhq.errors import IntegrityError, UsageError
from sfhq.training.generator.codes import load_codes
from sfhq.weights.checkpoints import load_generator, save_checkpoint, save_generator
from sfhq.weights.resolution import generator_resolution

DEEP = "[" * 100_000


def header_only(path: Path, kind: str, architecture: str) -> Path:
    """A file of weights with a header and one number."""
    header = {
        "__metadata__": {"kind": kind, "architecture": architecture},
        "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 4)
    return path


GENERATORS: list[dict[str, Any]] = [
    {"w_dim": 60_000},
    {"z_dim": 2**40},
    {"channel_base": 2**40, "channel_max": 2**40},
    {"channel_max": 2**31},
    {"mapping_layers": 10**9},
    {"mapping_layers": 2**70},
    {"resolution": 2**40},
    {"w_dim": "16"},
    {"w_dim": 16.5},
    {"w_dim": None},
    {"conv_clamp": "much"},
    {"unknown": 1},
]


@pytest.mark.parametrize("change", GENERATORS, ids=str)
def test_sizes_of_a_generator_are_checked_before_it_is_built(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    architecture = json.dumps({**GENERATOR.to_dict(), **change})
    path = header_only(tmp_path / "g.safetensors", "generator", architecture)
    with pytest.raises(
        IntegrityError, match=r"g\.safetensors: damaged: tensors and architecture disagree"
    ):
        load_generator(path)
    command = ["sample", str(tmp_path / "part"), "--count", "1", "--generator", str(path)]
    result = CliRunner().invoke(cli.main, command)
    assert result.exit_code == 4 and result.stderr.count("\n") == 1


E4ES: list[dict[str, Any]] = [
    {"w_dim": 60_000},
    {"num_ws": 10**9},
    {"input_size": 2**40},
    {"head_width": 2**31},
    {"backbone": {"widths": [64, 128, 256, 512], "depths": [10**9, 1, 1, 1]}},
    {"backbone": {"widths": [64], "depths": [1]}},
    {"backbone": []},
    {"backbone": {"widths": 4, "depths": 4}},
]


@pytest.mark.parametrize("change", E4ES, ids=str)
def test_sizes_of_an_encoder_are_checked_before_it_is_built(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    architecture = json.dumps({**E4E.to_dict(), **change})
    path = header_only(tmp_path / "e.safetensors", "e4e", architecture)
    with pytest.raises(IntegrityError, match=r"e\.safetensors: damaged"):
        load_e4e(path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", DEEP, '{"a":' * 50_000, '{"resolution":1e999}']
)
def test_headers_that_are_no_table_are_named(tmp_path: Path, text: str) -> None:
    for kind, load in (("generator", load_generator), ("e4e", load_e4e)):
        path = header_only(tmp_path / f"{kind}.safetensors", kind, text)
        with pytest.raises(IntegrityError, match=rf"{kind}\.safetensors"):
            load(path)
    with pytest.raises(IntegrityError):
        generator_resolution(tmp_path / "generator.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("half", [False, True])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float, half: bool) -> None:
    """They made black photos, and nobody was told."""
    generator, encoder = tiny_generator(), tiny_e4e()
    with torch.no_grad():
        generator.get_parameter("synthesis.b4.conv1.weight")[0, 0, 0, 0] = value
        next(iter(encoder.parameters())).flatten()[0] = value
    save_generator(tmp_path / "g.safetensors", generator, half=half)
    save_e4e(tmp_path / "e.safetensors", encoder, half=half)
    with pytest.raises(IntegrityError, match=r"g\.safetensors: synthesis\.b4\.conv1\.weight has"):
        load_generator(tmp_path / "g.safetensors")
    with pytest.raises(IntegrityError, match="not finite"):
        load_e4e(tmp_path / "e.safetensors")


def test_numbers_that_cancel_out_are_finite(tmp_path: Path) -> None:
    """Of large numbers the sum in float32 would not be."""
    state = {"a": torch.full((1000,), 3e38), "b": torch.tensor([3e38, -3e38])}
    save_checkpoint(tmp_path / "x.safetensors", "thing", {}, state)
    from sfhq.weights.checkpoints import read_checkpoint

    assert read_checkpoint(tmp_path / "x.safetensors", "thing").state["a"].shape == (1000,)


# tastes


@pytest.fixture(scope="module")
def taste(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 6)).astype(np.float32)
    path = tmp_path_factory.mktemp("taste") / "taste.safetensors"
    fit_taste({"embedding": x}, x[:, 0] > 0).save(path)
    return path


def forged(source: Path, target: Path, change: Any) -> Path:
    """A taste with other numbers, and a version that fits them."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(source, "numpy") as file:
        metadata = dict(file.metadata())
        arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    about = json.loads(metadata["taste"])
    change(arrays, about)
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    about["version"] = digest.hexdigest()[:12]
    save_file(arrays, target, {**metadata, "taste": json.dumps(about)})
    return target


def put(name: str, value: float, place: int = 0) -> Any:
    def change(arrays: dict[str, Any], about: dict[str, Any]) -> None:
        arrays[name].flat[place] = value

    return change


def about(key: str, value: Any) -> Any:
    def change(arrays: dict[str, Any], said: dict[str, Any]) -> None:
        said[key] = value

    return change


def shorter(name: str) -> Any:
    def change(arrays: dict[str, Any], said: dict[str, Any]) -> None:
        arrays[name] = arrays[name][:-1].copy()

    return change


FORGED: dict[str, Any] = {
    "nan mean": put("mean", np.nan),
    "zero scale": put("scale", 0),
    "nan weights": put("stack", np.nan),
    "for ever": put("single", 1e9, 3),
    "nan depth": put("single", np.nan, 3),
    "column beyond": put("tree_feature", 1000),
    "node beyond": put("tree_left", 1000),
    "node below": put("tree_right", -1),
    "nan threshold": put("tree_threshold", np.nan),
    "nan cut": put("cuts", np.nan),
    "short logistic": shorter("logistic"),
    "short points": shorter("points"),
    "short labels": shorter("labels"),
    "short trees": shorter("tree_value"),
    "other width": about("features", {"embedding": 7}),
    "features list": about("features", []),
    "no counts": about("counts", []),
    "settings list": about("settings", []),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=list(FORGED))
def test_a_forged_taste_is_refused(taste: Path, tmp_path: Path, change: Any) -> None:
    path = forged(taste, tmp_path / "taste.safetensors", change)
    with pytest.raises(IntegrityError, match=r"taste\.safetensors: not a taste model"):
        TasteModel.load(path)


def test_a_taste_that_nobody_forged_loads(taste: Path, tmp_path: Path) -> None:
    same = forged(taste, tmp_path / "taste.safetensors", lambda arrays, said: None)
    assert TasteModel.load(same).version == TasteModel.load(taste).version


def test_deep_json_in_a_taste(taste: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "taste.safetensors"
    save_file({"x": np.zeros(1)}, path, {"format": "sfhq-taste-1", "taste": DEEP})
    with pytest.raises(IntegrityError, match="not a taste model that can be read"):
        TasteModel.load(path)


# codes


@pytest.mark.parametrize(
    "saved",
    [
        b"junk",
        b"",
        {},
        [],
        {"names": ["a"]},
        {"names": ["a"], "codes": [1, 2]},
        {"names": 3, "codes": torch.zeros(2, 4)},
        {"names": ["a"], "codes": torch.zeros(2)},
        {"names": ["a"], "codes": torch.zeros(3, 4)},
        {"names": ["a"], "codes": torch.full((2, 4), float("nan"))},
    ],
    ids=lambda saved: str(saved)[:40],
)
def test_damaged_codes_are_named(tmp_path: Path, saved: Any) -> None:
    path = tmp_path / "codes.pt"
    if isinstance(saved, bytes):
        path.write_bytes(saved)
    else:
        torch.save(saved, path)
    with pytest.raises(IntegrityError, match=r"codes\.pt"):
        load_codes(path, ("a",), 4)


def test_codes_of_other_photos_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "codes.pt"
    torch.save({"names": ["a"], "codes": torch.ones(2, 4)}, path)
    assert load_codes(path, ("a",), 4).shape == (2, 4)
    with pytest.raises(UsageError, match="codes of other photos"):
        load_codes(path, ("b",), 4)
