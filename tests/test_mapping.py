"""A mapping that draws between the codes of photos: how they are found, and the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tiny import tiny_generator, tiny_pixels, write_networks
from torch import Tensor

import cli
from encoders.e4e.hybrid import used_axes
from encoders.e4e.pair import Pair
from sfhq.pipeline.recipe import ModelSettings
from sfhq.tensors import to_pixels
from sfhq.training.features import load_feature_pyramid
from sfhq.training.generator.codes import load_codes
from sfhq.training.generator.mixture import LONGER
from sfhq.training.generator.search import CodeSearch, SearchRecipe
from sfhq.training.photos import Photos
from sfhq.weights.checkpoints import load_generator, read_header
from stylegan2_ops.bias_act import bias_act
from stylegan2_ops.generator import Generator, GeneratorConfig
from stylegan2_ops.mapping import MappingNetwork, MixtureMapping

torch.set_num_threads(1)
RECIPE = SearchRecipe(phases=((32, 10), (64, 10)), batch=4)


def known_photos(generator: Generator, count: int) -> tuple[Photos, Tensor]:
    """Images of the generator's own draws, and their w."""
    rng = torch.Generator().manual_seed(5)
    w = generator.mapping(torch.randn(count, generator.config.z_dim, generator=rng))
    pixels = to_pixels(generator.synthesis(generator.broadcast(w)))
    photos = Photos(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        tuple(f"{i}.png" for i in range(count)),
    )
    return photos, w


def search(photos: Photos, start: Tensor | None = None) -> CodeSearch:
    generator = tiny_generator()
    return CodeSearch(
        RECIPE, generator, photos, load_feature_pyramid(), *used_axes(generator), start
    )


def test_codes_come_nearer_to_their_photos() -> None:
    generator = tiny_generator()
    photos, w = known_photos(generator, 6)
    run = search(photos)
    before = {k: v.clone() for k, v in run.generator.state_dict().items()}

    def apart() -> float:
        made = generator.synthesis(generator.broadcast(run.to_w(run.found)))
        return float((made - photos.batch(torch.arange(6))).abs().mean())

    assert run.grid() is None
    with pytest.raises(ValueError, match="no code has been found"):
        run.finish()
    first, far = run.found.clone(), apart()
    seen = []
    while run.images < run.total:
        seen.append(run.step())
    assert run.images == 6 and len(seen) == 2  # four photos, then two
    assert apart() < 0.5 * far
    assert float((run.to_w(run.found) - w).norm()) < float((run.to_w(first) - w).norm())
    assert all(torch.equal(v, before[k]) for k, v in run.generator.state_dict().items())
    grid = run.grid()
    assert grid is not None and grid.shape == (2, 6, 3, 32, 32)


def test_the_mapping_draws_between_what_was_found() -> None:
    photos, _ = known_photos(tiny_generator(), 6)
    run = search(photos)
    run.step()
    made = run.finish()
    assert isinstance(made.mapping, MixtureMapping)
    assert made.config.modes == 4  # those found so far
    mapping = made.mapping
    z = torch.randn(64, made.config.z_dim, generator=torch.Generator().manual_seed(2))
    # Where a key outweighs all others, the draw is the code that was found.
    sure = mapping.keys / mapping.keys.norm(dim=1, keepdim=True)
    mapping.keys.mul_(100)
    mapping.codes.div_(LONGER)
    bounded, mapping.lead = mapping(sure), 0.0
    torch.testing.assert_close(mapping(sure), run.to_w(run.found[:4]), atol=1e-4, rtol=1e-3)
    assert (bounded - mapping(sure)).abs().amax(1).min() > 0.05  # it draws none of the faces
    assert mapping(z).shape == (64, made.config.w_dim)
    original = tiny_generator().synthesis.state_dict()
    assert all(torch.equal(v, original[k]) for k, v in made.synthesis.state_dict().items())


def test_a_resumed_search_finds_the_same() -> None:
    photos, _ = known_photos(tiny_generator(), 10)
    whole, first = search(photos), search(photos)
    while whole.images < whole.total:
        whole.step()
    first.step()
    second = search(photos, torch.ones(first.found.shape))
    second.load_state_dict(first.state_dict())
    while second.images < second.total:
        second.step()
    assert torch.equal(second.found, whole.found)
    with pytest.raises(ValueError, match="codes of another shape"):
        search(known_photos(tiny_generator(), 3)[0]).load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match=r"start has shape \(2, 3\); wanted \(10, "):
        search(photos, torch.zeros(2, 3))


@pytest.mark.parametrize(("modes", "dim"), [(4, 0), (0, 4), (-1, 4), (4, -1)])
def test_a_mixture_has_codes_and_their_length(modes: int, dim: int) -> None:
    with pytest.raises(ValueError, match=f"modes is {modes} with code_dim {dim}; wanted both"):
        GeneratorConfig(64, modes=modes, code_dim=dim)


def write_photos(folder: Path) -> Path:
    folder.mkdir()
    for i, pixels in enumerate(tiny_pixels(24, 64)):
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


def command(root: Path) -> list[str]:
    generator, e4e = write_networks(root)
    given = ["train", "mapping", str(write_photos(root / "photos"))]
    return [*given, "--generator", str(generator), "--e4e", str(e4e)]


def test_the_command_makes_a_generator_that_a_run_takes(tmp_path: Path) -> None:
    given = [*command(tmp_path), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(cli.main, given)
    assert done.exit_code == 0, done.output
    made, _ = load_generator(tmp_path / "run" / "generator.safetensors")
    before, _ = load_generator(tmp_path / "generator.safetensors")
    assert isinstance(before.mapping, MappingNetwork) and isinstance(made.mapping, MixtureMapping)
    told = read_header(tmp_path / "run" / "generator.safetensors", "generator")
    assert told["codes"] == str(made.config.modes) and made.config.modes > 16
    names = torch.load(tmp_path / "run" / "codes.pt", weights_only=True)["names"]
    mapping = made.mapping
    w = load_codes(tmp_path / "run" / "codes.pt", tuple(names), len(mapping.bias), mirrored=False)
    wanted = bias_act(mapping.codes / LONGER @ mapping.basis, mapping.bias)
    torch.testing.assert_close(w, wanted, atol=1e-3, rtol=1e-3)
    again = CliRunner().invoke(cli.main, given)
    assert again.exit_code == 0, again.output  # nothing is left to do; the file is written again
    bare = given[: given.index("--e4e")]  # no e4e is needed
    taken = [*bare, "--out", str(tmp_path / "taken"), "--codes", str(tmp_path / "run" / "codes.pt")]
    done = CliRunner().invoke(cli.main, taken)
    assert done.exit_code == 0 and "stopped" not in done.output, done.output
    same, _ = load_generator(tmp_path / "taken" / "generator.safetensors")
    assert isinstance(same.mapping, MixtureMapping)
    found = bias_act(same.mapping.codes / LONGER @ same.mapping.basis, same.mapping.bias)
    torch.testing.assert_close(found, w, atol=1e-3, rtol=1e-3)
    torch.save({"codes": w, "names": [f"x{n}" for n in names]}, tmp_path / "others.pt")
    done = CliRunner().invoke(cli.main, [*taken[:-1], str(tmp_path / "others.pt")])
    assert done.exit_code == 2 and "codes of other photos" in done.output
    packed = ["train", "pack", "--generator", str(tmp_path / "run" / "generator.safetensors")]
    packed += ["--e4e", str(tmp_path / "e4e.safetensors"), "--out", str(tmp_path / "pack")]
    done = CliRunner().invoke(cli.main, packed)
    assert done.exit_code == 0, done.output
    models = ModelSettings(
        generator=tmp_path / "pack" / "generator.safetensors",
        e4e=tmp_path / "pack" / "e4e.safetensors",
    )
    pair = Pair.load(models)
    latent = pair.invert(tiny_pixels(1, 64)[0])
    assert np.isfinite(latent).all() and pair.render(latent).shape == (32, 32, 3)


@pytest.mark.long
def test_a_search_that_is_killed_goes_on(tmp_path: Path) -> None:
    given = command(tmp_path)
    run = [sys.executable, "-m", "cli", *given, "--out", str(tmp_path / "killed")]
    env = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(run, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 120
    while not (tmp_path / "killed" / "settings.json").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for out in ("killed", "whole"):
        done = subprocess.run([*run[:-1], str(tmp_path / out)], env=env, capture_output=True)
        assert done.returncode == 0, done.stderr
    made = [(tmp_path / out / "generator.safetensors").read_bytes() for out in ("killed", "whole")]
    assert made[0] == made[1]
