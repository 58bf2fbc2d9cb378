"""The encoder that keeps the person: what it gives, how it starts and learns, where it is used."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tiny import GENERATOR, tiny_e4e, tiny_generator, tiny_images, tiny_pixels, write_networks
from torch import Tensor

import cli
from encoders.e4e.hybrid import HybridConfig, HybridEncoder
from encoders.e4e.loading import load_base, load_encoder, prepare_encoder, save_encoder
from encoders.e4e.network import E4e, load_e4e
from encoders.e4e.pair import Pair
from encoders.e4e.person import PersonConfig, PersonEncoder, PreparedPerson
from encoders.e4e.person_training import (
    PersonRecipe,
    PersonTraining,
    fit_photo,
    start_linear,
)
from encoders.invert import Invert
from sfhq.errors import UsageError
from sfhq.faces.identity import recognition
from sfhq.pipeline.recipe import ModelSettings
from sfhq.synthesis.latents import activate, unactivate
from sfhq.training.features import load_feature_pyramid
from sfhq.training.pairs import Pairs
from sfhq.training.photos import Photos
from stylegan2_ops.generator import Generator

torch.set_num_threads(1)
RECIPE = PersonRecipe(images=600, batch=8, drawn=256, lr=3e-3, ema_images=60, small_until=0.5)
CPU = torch.device("cpu")


def encoder(trained: bool = False) -> PersonEncoder:
    """On the tiny e4e; trained means that its numbers are away from their neutral start."""
    network = PersonEncoder.on(tiny_e4e(), tiny_generator(), 64, hidden=16)
    if trained:
        rng = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for layer in (network.body[-1], network.direct):
                assert isinstance(layer, torch.nn.Linear)
                layer.weight.copy_(0.05 * torch.randn(layer.weight.shape, generator=rng))
        network.requires_grad_(False)
    return network


class Watched(torch.nn.Module):
    """Vectors that are linear in the pixels, in place of dlib's network where none is wanted."""

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(9)
        self.matrix = torch.nn.Buffer(torch.randn(3 * 64, 128, generator=rng) / 8)

    def forward(self, images: Tensor) -> Tensor:
        small = torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)
        vectors: Tensor = small @ self.matrix
        return vectors


def photos_of(count: int, seed: int = 2) -> Photos:
    pixels = torch.from_numpy(np.stack(tiny_pixels(count, 32, seed))).permute(0, 3, 1, 2)
    return Photos(pixels.contiguous(), tuple(f"{i}.png" for i in range(count)))


def training_of(
    recipe: PersonRecipe = RECIPE, generator: Generator | None = None
) -> PersonTraining:
    generator = generator or tiny_generator()
    network, identity = encoder(), Watched()
    start_linear(network, generator, identity, recipe.drawn, recipe.seed, lambda _: None)
    truth = photos_of(6, 3)
    pairs = Pairs(Photos(255 - truth.pixels, truth.names), truth)
    features = load_feature_pyramid()
    features.size = 64
    return PersonTraining(recipe, network, generator, identity, features, photos_of(10), pairs)


def test_untrained_it_gives_what_its_e4e_gives() -> None:
    images = tiny_images(3, 64)
    found = encoder().requires_grad_(False)(images)
    torch.testing.assert_close(found, tiny_e4e()(images), atol=2e-5, rtol=1e-4)


def test_bands_of_layers_move_by_what_the_shift_says() -> None:
    network, images = encoder(trained=True), tiny_images(3, 64)
    before, after = tiny_e4e()(images), network(images)
    moved = unactivate(after) - unactivate(before)
    assert float(moved.abs().max()) > 0.05
    vectors = recognition(CPU)(images)
    shift = network.shift(network.numbers(vectors, before, images))
    assert shift.shape == (3, 3, len(network.axes))
    bands = [0, 0, 1, 1, 2, 2, 2, 2]  # of 8 layers, as 4, 4 and 10 of 18
    assert network.band_of_layer.tolist() == bands
    torch.testing.assert_close(moved, (shift @ network.axes)[:, bands], atol=1e-4, rtol=1e-3)


def test_a_batch_gives_the_bits_of_single_images_and_other_sizes_are_taken() -> None:
    network, images = encoder(trained=True), tiny_images(5, 64)
    together = network(images)
    assert together.shape == (5, 8, 16)
    for i in range(5):
        assert torch.equal(network(images[i : i + 1])[0], together[i])
    assert network(tiny_images(1, 128)).shape == (1, 8, 16)
    assert network(images[:0]).shape == (0, 8, 16)


def test_prepared_it_gives_the_same_and_can_be_sent_to_a_worker() -> None:
    network, images = encoder(trained=True), tiny_images(2, 64)
    ready = prepare_encoder(network, "fp32")
    assert isinstance(ready, PreparedPerson) and ready.config.input_size == 64
    torch.testing.assert_close(ready(images), network(images), atol=1e-4, rtol=1e-3)
    assert torch.equal(pickle.loads(pickle.dumps(ready))(images), ready(images))


@torch.no_grad()
def test_the_linear_start_leads_back_from_the_vector() -> None:
    """Of drawn images, e4e is put at the mean face: the vector alone must lead back."""
    generator, identity = tiny_generator(), Watched()
    network = encoder()
    start_linear(network, generator, identity, 512, 0, lambda _: None)
    z = torch.randn(64, GENERATOR.z_dim, generator=torch.Generator().manual_seed(77))
    coordinates = 0.7 * network.coordinates(generator.mapping(z))
    true = activate(network.mean + coordinates @ network.axes)
    images = generator.synthesis(generator.broadcast(true)).clamp(-1, 1)
    nowhere = generator.broadcast(activate(network.mean).expand(64, -1))
    shifts = network.shift(network.numbers(identity(images), nowhere, images))
    shift = shifts[:, 1]
    torch.testing.assert_close(shifts[:, 0], torch.zeros_like(shift), msg="coarse layers stay")
    torch.testing.assert_close(shifts[:, 2], 0.5 * shift)
    alike = torch.nn.functional.cosine_similarity(shift, coordinates, dim=1)
    assert float(alike.mean()) > 0.5
    assert float((alike > 0).float().mean()) > 0.9
    # Where e4e has found it already, there is nothing to move.
    found = network.shift(network.numbers(identity(images), generator.broadcast(true), images))[
        :, 1
    ]
    assert float(found.square().mean(1).median()) < 0.3 * float(shift.square().mean(1).median())


def test_it_learns_and_leaves_its_e4e_alone() -> None:
    training = training_of()
    base = {k: v.clone() for k, v in training.encoder.base.state_dict().items()}
    start = {k: v.clone() for k, v in training.averaged.state_dict().items()}
    losses = []
    while training.images < training.total:
        losses.append(float(training.step()["person"]))
    assert np.mean(losses[-15:]) < 0.9 * np.mean(losses[:15])
    after = training.averaged
    for name, value in base.items():
        assert torch.equal(after.base.state_dict()[name], value), "e4e is never trained"
        assert torch.equal(training.encoder.base.state_dict()[name], value)
    assert not torch.equal(after.direct.weight, start["direct.weight"])
    assert training.grid().shape == (8, 12, 3, 32, 32)


def test_resumed_run_equals_uninterrupted(tmp_path: Path) -> None:
    recipe = replace(RECIPE, images=64)
    straight = training_of(recipe)
    while straight.images < straight.total:
        straight.step()
    first = training_of(recipe)
    for _ in range(4):
        first.step()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = training_of(recipe)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    while second.images < second.total:
        second.step()
    wanted, found = straight.averaged.state_dict(), second.averaged.state_dict()
    assert all(torch.equal(wanted[k], found[k]) for k in wanted)


def test_saved_and_loaded_it_is_the_same_and_its_e4e_can_be_had(tmp_path: Path) -> None:
    network, path = encoder(trained=True), tmp_path / "p.safetensors"
    save_encoder(path, network, {"images": "7"})
    loaded, digest = load_encoder(path, 8)
    assert isinstance(loaded, PersonEncoder) and len(digest) == 64 and not loaded.training
    image = tiny_images(1, 64)
    assert torch.equal(loaded(image), network(image))
    base, same = load_base(path, 8)
    assert isinstance(base, E4e) and same == digest
    assert torch.equal(base(image), network.base(image))
    with pytest.raises(UsageError, match=r"p\.safetensors: is no plain e4e"):
        load_e4e(path)


def test_how_photographs_are_seen_is_learned_from_pairs(tmp_path: Path) -> None:
    plain = encoder(trained=True)
    vectors = torch.randn(5, 128)
    assert plain.as_photo(vectors) is vectors and not plain.config.photo
    network = PersonEncoder.on(tiny_e4e(), tiny_generator(), 64, hidden=16, photo=True)
    assert torch.equal(network.as_photo(vectors), vectors)
    truth = photos_of(400)
    darker = Photos((truth.pixels.float() * 0.5 + 40).byte(), truth.names)
    see = Watched()
    fit_photo(network, see, Pairs(art=darker, truth=truth))
    rows = torch.arange(400)
    art, wanted = see(darker.batch(rows)), see(truth.batch(rows))
    off = [(v - wanted).norm(dim=1).mean() for v in (art, network.as_photo(art))]
    assert off[1] < 0.2 * off[0]
    save_encoder(tmp_path / "e4e.safetensors", network)
    again, _ = load_encoder(tmp_path / "e4e.safetensors", GENERATOR.num_ws)
    ready = prepare_encoder(again, "fp32")
    assert isinstance(ready, PreparedPerson)
    assert torch.equal(ready.as_photo(vectors), network.as_photo(vectors))


def test_a_hybrid_has_no_e4e(tmp_path: Path) -> None:
    from label_tiny import TINY

    save_encoder(tmp_path / "h.safetensors", HybridEncoder(HybridConfig(8, 16, 4, 4, 8, TINY)))
    with pytest.raises(UsageError, match=r"h\.safetensors: is a hybrid encoder; wanted an e4e"):
        load_base(tmp_path / "h.safetensors")


def test_toward_is_the_linear_part_of_the_shift() -> None:
    network = encoder(trained=True)
    last = network.body[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.zeros_(last.weight)
    rng = torch.Generator().manual_seed(3)
    network.spread.uniform_(0.5, 2.0, generator=rng)
    apart = 0.1 * torch.randn(2, 128, generator=rng)
    vectors, w_plus = torch.randn(2, 128, generator=rng), torch.randn(2, 8, 16, generator=rng)
    before, after = (
        network.shifted(w_plus, network.shift(network.numbers(v, w_plus, tiny_images(2, 64))))
        for v in (vectors, vectors + apart)
    )
    moved = unactivate(after) - unactivate(before)
    expected = network.toward(apart)[:, network.band_of_layer]
    assert float(expected.norm()) > 0.1
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=1e-3)
    assert torch.equal(PreparedPerson(network).toward(apart), network.toward(apart))


def test_the_command_makes_an_encoder_that_a_run_takes(tmp_path: Path) -> None:
    generator, e4e = write_networks(tmp_path)
    (tmp_path / "photos").mkdir()
    for i, pixels in enumerate(tiny_pixels(24, 64)):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i:02d}.png")
    given = ["train", "person", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]
    given += ["--generator", str(generator), "--e4e", str(e4e), "--drawn", "256"]
    given += ["--person-weight", "1.4"]
    done = CliRunner().invoke(cli.main, [*given, "--images", "64", "--batch", "8"])
    assert done.exit_code == 0, done.output
    assert "drawn: 0 of 256 read" in done.stderr
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["person_weight"] == 1.4
    models = ModelSettings(generator=generator, e4e=tmp_path / "run" / "e4e.safetensors")
    pair = Pair.load(models)
    assert isinstance(pair.encoder, PreparedPerson) and pair.encoder.config.input_size == 256
    latent = pair.invert(tiny_pixels(1, 64)[0])
    assert latent.shape == (8, 16) and np.isfinite(latent).all()
    packed = ["train", "pack", "--generator", str(generator), "--e4e", str(models.e4e)]
    done = CliRunner().invoke(cli.main, [*packed, "--out", str(tmp_path / "pack")])
    assert done.exit_code == 0, done.output
    shipped, _ = load_encoder(tmp_path / "pack" / "e4e.safetensors", 8)
    near = shipped(tiny_images(1, 64)) - load_encoder(models.e4e, 8)[0](tiny_images(1, 64))
    assert float(near.abs().max()) < 0.05, "half precision"
    # --from goes on from its shift: with no images to learn from it comes out as it went in.
    onward = ["train", "person", str(tmp_path / "photos"), "--generator", str(generator)]
    onward += ["--e4e", str(e4e), "--images", "0", "--from"]
    done = CliRunner().invoke(cli.main, [*onward, str(models.e4e), "--out", str(tmp_path / "on")])
    assert done.exit_code == 0, done.output
    assert "drawn:" not in done.stderr
    same, _ = load_encoder(tmp_path / "on" / "e4e.safetensors")
    torch.testing.assert_close(
        same(tiny_images(1, 64)), load_encoder(models.e4e)[0](tiny_images(1, 64))
    )
    done = CliRunner().invoke(cli.main, [*onward, str(e4e), "--out", str(tmp_path / "bad")])
    assert done.exit_code == 2
    assert "has no shift by the person; wanted an e4e of sfhq train person" in done.stderr
    # A person encoder's e4e is what a training of either kind starts from.
    again = ["train", "person", str(tmp_path / "photos"), "--out", str(tmp_path / "more")]
    again += ["--generator", str(generator), "--e4e", str(models.e4e), "--drawn", "256"]
    done = CliRunner().invoke(cli.main, [*again, "--images", "0"])
    assert done.exit_code == 0, done.output
    first, _ = load_base(e4e)
    second, _ = load_base(tmp_path / "more" / "e4e.safetensors")
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())


@pytest.mark.parametrize("photo", [False, True])
def test_a_training_goes_on_from_the_shift_of_another(photo: bool) -> None:
    """Also where the axes that the generator uses are counted otherwise than they were then."""
    given = encoder(trained=True)
    other = PersonEncoder(replace(given.config, axes=given.config.axes - 3, hidden=8))
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.copy_(torch.randn(value.shape, generator=rng))
    network = PersonEncoder.going_on(tiny_e4e(), other, photo=photo)
    assert network.config == replace(other.config, photo=photo)
    numbers = torch.randn(4, len(network.centre), generator=rng)
    network.requires_grad_(False)
    assert torch.equal(network.shift(numbers), other.eval().shift(numbers))
    assert torch.equal(network.axes, other.axes) and torch.equal(network.mean, other.mean)
    assert torch.equal(network.latent_avg, tiny_e4e().latent_avg), "its e4e is the one given"
    vectors = torch.randn(2, 128, generator=rng)
    assert torch.equal(network.as_photo(vectors), vectors), "nothing is known yet"


def test_a_map_to_photographs_is_kept_where_no_pairs_are_given() -> None:
    other = PersonEncoder.on(tiny_e4e(), tiny_generator(), 64, hidden=8, photo=True)
    other.photo_bias.add_(1)
    network = PersonEncoder.going_on(tiny_e4e(), other)
    assert torch.equal(network.photo_bias, other.photo_bias)


@pytest.mark.parametrize(
    ("axes", "reduced", "says"), [(17, 4, "at most w_dim, 16"), (4, 0, "1 or more")]
)
def test_wrong_sizes_are_refused(axes: int, reduced: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PersonConfig(tiny_e4e().config, axes, reduced=reduced)


def test_photos_of_another_size_are_refused() -> None:
    with pytest.raises(UsageError, match="photos have 16 pixels; the generator's have 32"):
        PersonTraining(
            RECIPE,
            encoder(),
            tiny_generator(),
            Watched(),
            load_feature_pyramid(),
            photos_of(4).at(16),
        )


def test_dlibs_weights_are_recorded_where_they_decide(tmp_path: Path) -> None:
    from sfhq.faces.dlib_models import RECOGNITION, model_digest
    from sfhq.publish.networks import identify
    from sfhq.synthesis.networks import recognition_of

    wanted = {"recognition": model_digest(RECOGNITION)}
    assert identify(wanted["recognition"]).name == "dlib's recognition network"  # with its licence
    assert recognition_of(encoder()) == recognition_of(PreparedPerson(encoder())) == wanted
    assert recognition_of(tiny_e4e()) == {}
    assert Invert(encoder(), "digest").settings() == {
        "encoder": "digest",
        "precision": "fp32",
        **wanted,
    }
    assert "recognition" not in Invert(tiny_e4e(), "digest").settings()
