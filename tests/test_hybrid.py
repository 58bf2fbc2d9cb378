"""The encoder on the label network: what it gives, how it learns, and where it is used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from label_tiny import TINY, tiny_reader
from PIL import Image
from tiny import tiny_e4e, tiny_generator, tiny_images, tiny_pixels

import cli
from annotate.network.reader import Calibration, save_labels
from encoders.e4e.hybrid import (
    HybridConfig,
    HybridEncoder,
    PreparedHybrid,
    coordinates_of,
    used_axes,
)
from encoders.e4e.hybrid_training import HybridRecipe, HybridTraining, Read, read_all
from encoders.e4e.inference import PreparedE4e
from encoders.e4e.loading import load_encoder, prepare_encoder, save_encoder
from encoders.e4e.network import E4e
from encoders.e4e.pair import Pair
from sfhq.errors import IntegrityError
from sfhq.pipeline.recipe import ModelSettings
from sfhq.training.pairs import Pairs, joined_pairs
from sfhq.training.photos import Photos
from sfhq.weights.checkpoints import save_generator

torch.set_num_threads(1)
RECIPE = HybridRecipe(images=64_000, batch=64, drawn=96, lr=3e-3, ema_images=400)


def hybrid(hidden: int = 16) -> HybridEncoder:
    """An untrained encoder for the tiny generator, on a label network of random numbers."""
    axes = len(used_axes(tiny_generator())[1])
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = HybridEncoder(HybridConfig(8, 16, axes, reduced=4, hidden=hidden, stem=TINY))
    network.stem.load_state_dict(tiny_reader().network.state_dict())
    return network.eval()


def photos_of(count: int, seed: int = 2) -> Photos:
    pixels = torch.from_numpy(np.stack(tiny_pixels(count, 64, seed))).permute(0, 3, 1, 2)
    return Photos(pixels.contiguous(), tuple(f"{i}.png" for i in range(count)))


def people(count: int = 12) -> Pairs:
    truth = photos_of(count, 3)
    art = Photos(255 - truth.pixels, truth.names)
    return Pairs(art, truth)


def training_of(folder: Path, recipe: HybridRecipe = RECIPE) -> HybridTraining:
    network, generator, photos = hybrid(), tiny_generator(), photos_of(10)
    rng = torch.Generator().manual_seed(0)
    codes = generator.mapping(torch.randn(20, generator.config.z_dim, generator=rng))
    read = read_all(
        network, generator, recipe, photos, codes, people(), folder, "digests", lambda _: None
    )
    return HybridTraining(recipe, network, generator, read, photos)


def test_coordinates_lead_back_to_the_mappings_latents() -> None:
    generator = tiny_generator()
    mean, axes = used_axes(generator)
    w = generator.mapping(torch.randn(50, 16, generator=torch.Generator().manual_seed(1)))
    network = hybrid()
    network.mean.copy_(mean)
    network.axes.copy_(axes)
    found = coordinates_of(w, mean, axes)
    torch.testing.assert_close(network.latents(found), w, atol=0.02, rtol=0.01)
    lengths = axes.norm(dim=1)
    assert bool((lengths[:-1] >= lengths[1:] - 1e-6).all()), "most used first"
    assert 0.5 < float(found.std()) < 1.5


def test_a_batch_gives_the_bits_of_single_images() -> None:
    network, images = hybrid(), tiny_images(5, 64)
    together = network(images)
    assert together.shape == (5, 8, 16)
    for i in range(5):
        assert torch.equal(network(images[i : i + 1])[0], together[i])
    assert bool((together == together[:, :1]).all()), "one w for all layers"
    assert network(tiny_images(1, 32)).shape == network(tiny_images(1, 128)).shape == (1, 8, 16)


def test_it_learns_latents_and_to_see_people_through_the_style(tmp_path: Path) -> None:
    training = training_of(tmp_path)
    read = training.read
    before = training.averaged.eval()
    art = [before.coordinates(x) for x in (read.art, read.truth)]
    apart = float((art[0] - art[1]).square().mean() / art[1].var(0).mean())
    drawn = float(training._apart(before.coordinates(read.drawn), training.drawn))
    while training.images < training.total:
        training.step()
    after = training.averaged
    art = [after.coordinates(x) for x in (read.art, read.truth)]
    assert float(training._apart(after.coordinates(read.drawn), training.drawn)) < 0.7 * drawn
    known = float(training._apart(after.coordinates(read.photos), training.known))
    assert known < 0.7
    assert float((art[0] - art[1]).square().mean() / art[1].var(0).mean()) < 0.7 * apart
    for name, value in tiny_reader().network.state_dict().items():
        assert torch.equal(after.stem.state_dict()[name], value), "the stem is never trained"
    assert training.grid().shape == (4, 12, 3, 32, 32)


def test_resumed_run_equals_uninterrupted(tmp_path: Path) -> None:
    recipe = replace(RECIPE, images=640)
    straight = training_of(tmp_path / "a", recipe)
    while straight.images < straight.total:
        straight.step()
    first = training_of(tmp_path / "b", recipe)
    for _ in range(4):
        first.step()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = training_of(tmp_path / "b", recipe)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    while second.images < second.total:
        second.step()
    wanted, found = straight.averaged.state_dict(), second.averaged.state_dict()
    assert all(torch.equal(wanted[k], found[k]) for k in wanted)


def test_what_was_read_is_not_read_again_unless_it_is_of_others(tmp_path: Path) -> None:
    network, generator, photos = hybrid(), tiny_generator(), photos_of(3)
    said: list[str] = []

    def read(digests: str) -> Read:
        said.clear()
        return read_all(
            network, generator, RECIPE, photos, None, people(4), tmp_path, digests, said.append
        )

    first = read("a")
    assert said and len(first.photos) == 0 and len(first.art) == 8
    again = read("a")
    assert not said and torch.equal(first.drawn, again.drawn)
    read("b")
    assert said, "numbers of another generator or label network are read anew"
    (tmp_path / "drawn.npz").write_bytes(b"junk")
    with pytest.raises(IntegrityError, match=r"drawn\.npz: cannot be read"):
        read("b")


def test_saved_and_loaded_it_is_the_same_and_e4e_still_loads(tmp_path: Path) -> None:
    network = hybrid()
    save_encoder(tmp_path / "h.safetensors", network, {"images": "7"})
    loaded, digest = load_encoder(tmp_path / "h.safetensors", 8)
    assert isinstance(loaded, HybridEncoder) and len(digest) == 64 and not loaded.training
    image = tiny_images(1, 64)
    assert torch.equal(loaded(image), network(image))
    assert isinstance(prepare_encoder(loaded, "fp32"), PreparedHybrid)
    with pytest.raises(IntegrityError, match="has 8 layers, but the generator has 10"):
        load_encoder(tmp_path / "h.safetensors", 10)
    save_encoder(tmp_path / "e.safetensors", tiny_e4e())
    other, _ = load_encoder(tmp_path / "e.safetensors", 8)
    assert isinstance(other, E4e) and isinstance(prepare_encoder(other, "fp32"), PreparedE4e)


def test_the_command_makes_an_encoder_that_a_run_takes(tmp_path: Path) -> None:
    save_generator(tmp_path / "g.safetensors", tiny_generator())
    save_labels(tmp_path / "labels.safetensors", tiny_reader().network, Calibration.plain())
    (tmp_path / "photos").mkdir()
    for i, pixels in enumerate(tiny_pixels(24, 64)):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i:02d}.png")
    given = ["train", "hybrid", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]
    given += ["--generator", str(tmp_path / "g.safetensors"), "--drawn", "64"]
    given += ["--labels", str(tmp_path / "labels.safetensors"), "--images", "3200"]
    done = CliRunner().invoke(cli.main, given)
    assert done.exit_code == 0, done.output
    assert "drawn: 0 of 64 read" in done.stderr
    models = ModelSettings(
        generator=tmp_path / "g.safetensors", e4e=tmp_path / "run" / "e4e.safetensors"
    )
    pair = Pair.load(models)
    assert isinstance(pair.encoder, PreparedHybrid) and pair.encoder.config.input_size == 64
    latent = pair.invert(tiny_pixels(1, 64)[0])
    assert latent.shape == (8, 16) and np.isfinite(latent).all()
    assert pair.render(latent).shape == (32, 32, 3)
    packed = ["train", "pack", "--generator", str(models.generator), "--e4e", str(models.e4e)]
    done = CliRunner().invoke(cli.main, [*packed, "--out", str(tmp_path / "pack")])
    assert done.exit_code == 0, done.output
    shipped, _ = load_encoder(tmp_path / "pack" / "e4e.safetensors", 8)
    near = shipped(tiny_images(1, 64)) - load_encoder(models.e4e, 8)[0](tiny_images(1, 64))
    assert float(near.abs().max()) < 0.05, "half precision"


def test_pairs_of_several_parts_are_joined() -> None:
    both = joined_pairs([people(3), people(2)])
    assert len(both) == 5 and both.art.names == ("0.png", "1.png", "2.png", "0.png", "1.png")


@pytest.mark.parametrize(
    ("axes", "reduced", "says"), [(17, 4, "at most w_dim, 16"), (4, 0, "1 or more")]
)
def test_wrong_sizes_are_refused(axes: int, reduced: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        HybridConfig(8, 16, axes, reduced, stem=TINY)
