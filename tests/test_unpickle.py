"""Hostile and broken files run nothing and end in one clear line each."""

from __future__ import annotations

import pickle
import resource
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import calls, hostile, snapshot, sound_archive, sound_stream
from tiny import tiny_generator

from stylegan2_ops.foreign.convert import read_generator
from stylegan2_ops.foreign.inert import BadCheckpoint
from stylegan2_ops.foreign.torch_files import read_weights, sniff
from stylegan2_ops.foreign.unpickle import Unpickler


def test_hostile_and_broken_files_run_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    files = hostile(canary)
    # The longest harmless work is the yardstick, so that a slow machine is no failure.
    longest = "machine: too many instructions"
    canaries, took = 0, {}
    for name, data in files.items():
        path = tmp_path / "weights.safetensors"  # a name that says nothing
        path.write_bytes(data)
        started = time.process_time()
        with pytest.raises(BadCheckpoint) as caught:
            read_generator(path)
        took[name] = time.process_time() - started
        said = str(caught.value)
        assert said.startswith(f"{path}: ") and "\n" not in said and len(said) < 400, (name, said)
        canaries += canary.exists()
    assert len(files) >= 100 and canaries == 0
    assert [name for name in took if took[name] > 5 * took[longest]] == []
    print(f"{len(files)} hostile or broken files, {canaries} canaries")
    # The peak is of the whole process; a bomb that went off would be far above.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 8e6


def test_the_canaries_do_sing_under_pythons_own_unpickler(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    silent = []
    for name, data in calls(canary).items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = pickle.loads(data)
            if hasattr(made, "wait"):
                made.wait()
        except Exception:
            pass
        if canary.exists():
            shutil.rmtree(canary)
        else:
            silent.append(name)
    assert silent == []


@pytest.mark.parametrize("seed", range(4))
def test_damage_anywhere_is_an_error_or_harmless(tmp_path: Path, seed: int) -> None:
    """Flipped bytes, cut and doubled pieces of a sound file never end in another error."""
    canary = tmp_path / "canary"
    sound = (snapshot, sound_archive, sound_stream, snapshot)[seed](canary)
    rng = np.random.default_rng(seed)
    path = tmp_path / "damaged"
    refused = 0
    for _ in range(60):
        data = bytearray(sound)
        place = int(rng.integers(len(data)))
        kind = rng.integers(3)
        if kind == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[place : place + int(rng.integers(1, 200))]
        else:
            data[place:place] = data[: int(rng.integers(1, 200))]
        path.write_bytes(data)
        try:
            read_generator(path)
        except BadCheckpoint:
            refused += 1
    assert refused > 12 and not canary.exists()


def test_sound_values_come_back() -> None:
    value = {
        "a": [1, 2.5, None, True, False, -(2**70)],
        "b": (1, (2, "ü"), b"bytes"),
        "c": {3: {1, 2}, "d": frozenset({"x"})},
        "e": bytearray(b"more"),
        "f": np.float32(0.5),
        "long": list(range(3000)),
    }
    for protocol in (4, 5):
        if protocol < 5:
            value.pop("e", None)
        found = Unpickler(pickle.dumps(value, protocol)).load()
        assert found == value
        value["e"] = bytearray(b"more")


def test_weights_are_chosen_by_content(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    torch.save({"a": torch.arange(3)}, path)
    assert sniff(path) == "torch archive"
    assert torch.equal(read_weights(path)["a"], torch.arange(3))
    with pytest.raises(BadCheckpoint, match=r"holds no generator \(it has: a\)"):
        read_generator(path)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    ],
)
@pytest.mark.parametrize("archive", [True, False])
def test_tensors_of_every_dtype_and_layout(
    tmp_path: Path, dtype: torch.dtype, archive: bool
) -> None:
    whole = (torch.arange(24).reshape(4, 6) % 2).to(dtype)
    values = {
        "whole": whole,
        "turned": whole.t(),
        "part": whole[1:3, ::2],
        "empty": whole[:0],
        "scalar": whole[0, 1],
        "parameter": torch.nn.Parameter(whole.float()),
    }
    path = tmp_path / "x.pt"
    torch.save(values, path, _use_new_zipfile_serialization=archive)
    found = read_weights(path)
    for name, value in values.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


def test_a_tiny_generator_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    generator = tiny_generator()
    torch.save(generator.state_dict(), path)
    source = read_generator(path)
    assert source.notes["format"] == "state dict"
    for name, value in generator.state_dict().items():
        assert torch.equal(source.state[name], value)
