"""Published layouts, written by the real picklers, come back bit for bit and draw the same."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from foreign import (
    DEFAULTED,
    NUMPY_1,
    NUMPY_2,
    rename_numpy,
    write_e4e,
    write_nvlabs,
    write_rosinality,
    write_tensorflow,
)
from tiny import E4E, tiny_e4e, tiny_generator
from torch import Tensor

from cli import main
from encoders.e4e.convert import read_e4e
from encoders.e4e.irse import BackboneConfig
from encoders.e4e.network import E4e, E4eConfig, load_e4e
from sfhq.weights.checkpoints import load_generator, save_checkpoint
from stylegan2_ops.foreign.convert import GeneratorSource, fingerprint, read_generator
from stylegan2_ops.foreign.inert import BadCheckpoint
from stylegan2_ops.foreign.torch_files import read_weights, sniff
from stylegan2_ops.generator import Generator, GeneratorConfig

BOTH_KINDS_OF_WIDTH = GeneratorConfig(64, 16, 24, 512, 12, mapping_layers=3, conv_clamp=256.0)


def lively(config: GeneratorConfig) -> Generator:
    torch.manual_seed(4)
    generator = Generator(config).eval().requires_grad_(False)
    for parameter in generator.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    generator.mapping.w_avg.normal_()
    return generator


def assert_same(source: GeneratorSource, generator: Generator, but: str = "") -> None:
    wanted = generator.state_dict()
    assert list(source.state) == list(wanted)
    for name, value in wanted.items():
        if not (but and re.search(but, name)):
            assert torch.equal(source.state[name], value), name
    again = Generator(source.config).eval()
    again.load_state_dict(source.state)
    if not but:
        z = torch.randn(2, generator.config.z_dim, generator=torch.Generator().manual_seed(5))
        with torch.inference_mode():
            assert torch.equal(again(z, psi=0.7), generator(z, psi=0.7))


class TestNvlabs:
    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    @pytest.mark.parametrize("flat", [False, True])
    def test_bit_for_bit(self, tmp_path: Path, protocol: int, flat: bool) -> None:
        generator = lively(BOTH_KINDS_OF_WIDTH)
        canary = tmp_path / "canary"
        path = write_nvlabs(tmp_path / "n.pkl", generator, canary, protocol, flat)
        assert sniff(path) == "pickle"
        source = read_generator(path)
        assert source.config == generator.config and source.notes["num_fp16_res"] == "4"
        assert_same(source, generator)
        assert not canary.exists()

    @pytest.mark.parametrize("numpy_name", [NUMPY_1, NUMPY_2])
    def test_both_names_of_numpy(self, tmp_path: Path, numpy_name: bytes) -> None:
        generator = tiny_generator()
        path = write_nvlabs(tmp_path / "n.pkl", generator, tmp_path / "canary", 2)
        data = rename_numpy(path.read_bytes(), numpy_name)
        assert b"c" + numpy_name + b".multiarray\nscalar" in data
        path.write_bytes(data)
        assert_same(read_generator(path), generator)

    def test_sixteen_bit_weights_become_float32(self, tmp_path: Path) -> None:
        generator = tiny_generator()
        halves = {name: value.half() for name, value in generator.state_dict().items()}
        path = write_nvlabs(tmp_path / "n.pkl", generator, tmp_path / "c", state=halves)
        source = read_generator(path)
        assert all(value.dtype == torch.float32 for value in source.state.values())

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"c_dim": 10}, "needs a class label"),
            ({"img_channels": 1}, "img_channels is 1"),
            ({"img_resolution": 64}, "img_resolution is 64, but its tensors have 32"),
            ({"architecture": "resnet"}, "architecture is resnet; wanted skip"),
            ({"synthesis_kwargs": {"use_noise": False}}, "use_noise is False; wanted True"),
            ({"kept": {}, "synthesis_kwargs": {"conv_clamp": -1}}, "conv_clamp is -1"),
            ({"kept": {"ToRGBLayer": {"conv_clamp": True}}}, "conv_clamp is True"),
            (
                {"kept": {"SynthesisLayer": {"conv_clamp": 9}, "ToRGBLayer": {"conv_clamp": 8}}},
                "conv_clamp is [89] in one layer and [89] in another",
            ),
            ({"kept": {"SynthesisLayer": {"use_noise": False}}}, "use_noise is False"),
            ({"kept": {"SynthesisLayer": {"activation": "relu"}}}, "activation is relu"),
            ({"kept": {"SynthesisBlock": {"architecture": "orig"}}}, "architecture is orig"),
            ({"mapping_kwargs": {"activation": "relu"}}, "activation is relu"),
        ],
    )
    def test_what_we_do_not_have_is_named(
        self, tmp_path: Path, change: dict[str, Any], reason: str
    ) -> None:
        path = write_nvlabs(tmp_path / "n.pkl", tiny_generator(), tmp_path / "c", **change)
        with pytest.raises(BadCheckpoint, match=reason):
            read_generator(path)

    @pytest.mark.parametrize("flat", [False, True])
    def test_a_clamp_left_at_its_default_is_in_the_layers(self, tmp_path: Path, flat: bool) -> None:
        """As `--cfg=stylegan2` writes it: no such argument, but layers that clamp at 256."""
        generator = lively(replace(BOTH_KINDS_OF_WIDTH, conv_clamp=0.5))
        unclamped = lively(replace(BOTH_KINDS_OF_WIDTH, conv_clamp=None))
        left: dict[str, Any] = {"synthesis_kwargs": {"channel_base": 512, "channel_max": 12}}
        if flat:
            left = {"conv_clamp": DEFAULTED, "num_fp16_res": DEFAULTED}
        path = write_nvlabs(tmp_path / "n.pkl", generator, tmp_path / "c", flat=flat, **left)
        source = read_generator(path)
        assert source.config == generator.config and "conv_clamp" not in source.notes
        assert_same(source, generator)
        z = torch.randn(1, generator.config.z_dim)
        with torch.inference_mode():  # the clamp is one that shows
            assert not torch.allclose(generator(z), unclamped(z), atol=1e-2)

    def test_the_layers_decide_and_the_argument_is_the_second_choice(self, tmp_path: Path) -> None:
        generator = tiny_generator()  # without a clamp
        given: dict[str, Any] = {"synthesis_kwargs": {"conv_clamp": 256}}
        path = write_nvlabs(tmp_path / "n.pkl", generator, tmp_path / "c", **given)
        assert read_generator(path).config.conv_clamp is None
        path = write_nvlabs(tmp_path / "n.pkl", generator, tmp_path / "c", kept={}, **given)
        source = read_generator(path)
        assert source.config.conv_clamp == 256.0 and "conv_clamp" not in source.notes
        path = write_nvlabs(
            tmp_path / "n.pkl", generator, tmp_path / "c", kept={}, synthesis_kwargs={}
        )
        assert "conv_clamp is not in the file" in read_generator(path).notes["conv_clamp"]

    @pytest.mark.parametrize("name", [None, "G_ema", "G", "g_ema", "state_dict"])
    def test_a_bare_state_dict_is_complete_but_for_its_clamp(
        self, tmp_path: Path, name: str | None
    ) -> None:
        generator = lively(replace(BOTH_KINDS_OF_WIDTH, conv_clamp=None))
        held = dict(generator.state_dict())
        path = tmp_path / "bare.pt"
        torch.save(held if name is None else {name: held}, path)
        source = read_generator(path)
        assert source.config == generator.config and source.notes["format"] == "state dict"
        assert_same(source, generator)
        assert "conv_clamp is not in the file" in source.notes["conv_clamp"]
        code, said = TestCommand().run(path, tmp_path / "g.safetensors")
        assert code == 0 and "note: conv_clamp is not in the file; taken as none" in said

    def test_other_shapes_and_filters_are_named(self, tmp_path: Path) -> None:
        generator = tiny_generator()
        for name, value, reason in (
            ("synthesis.b8.conv0.bias", torch.zeros(5), "conv0.bias has shape"),
            ("synthesis.b8.resample_filter", torch.ones(4, 4) / 16, "another filter"),
            ("mapping.fc0.bias", torch.full((16,), float("nan")), "not finite"),
        ):
            state = {**generator.state_dict(), name: value}
            path = write_nvlabs(tmp_path / "n.pkl", generator, tmp_path / "c", state=state)
            with pytest.raises(BadCheckpoint, match=reason):
                read_generator(path)

    def test_stylegan3_is_named(self, tmp_path: Path) -> None:
        state = {"synthesis.input.freqs": torch.zeros(4, 2), "mapping.fc0.weight": torch.eye(4)}
        path = write_nvlabs(tmp_path / "n.pkl", tiny_generator(), tmp_path / "c", state=state)
        with pytest.raises(BadCheckpoint, match="StyleGAN3's; wanted StyleGAN2"):
            read_generator(path)


class TestTensorFlow:
    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_bit_for_bit(self, tmp_path: Path, protocol: int) -> None:
        generator = lively(GeneratorConfig(64, 16, 24, 512, 12, mapping_layers=3))
        path = write_tensorflow(tmp_path / "t.pkl", generator, protocol)
        source = read_generator(path)
        assert source.config == generator.config
        # The bias was stored less one, which rounds.
        assert_same(source, generator, but="affine.bias")
        for name, value in generator.state_dict().items():
            assert torch.allclose(source.state[name], value, atol=1e-6), name

    def test_a_clamp_among_the_arguments_is_kept(self, tmp_path: Path) -> None:
        path = write_tensorflow(tmp_path / "t.pkl", tiny_generator(), conv_clamp=256)
        assert read_generator(path).config.conv_clamp == 256.0
        path = write_tensorflow(tmp_path / "t.pkl", tiny_generator(), conv_clamp=None)
        assert read_generator(path).config.conv_clamp is None
        with pytest.raises(BadCheckpoint, match="conv_clamp is often"):
            read_generator(
                write_tensorflow(tmp_path / "t.pkl", tiny_generator(), conv_clamp="often")
            )

    def test_numpy_1_names(self, tmp_path: Path) -> None:
        generator = tiny_generator()
        path = write_tensorflow(tmp_path / "t.pkl", generator, 3)
        path.write_bytes(rename_numpy(path.read_bytes(), NUMPY_1))
        assert b"cnumpy.core.multiarray\n_reconstruct" in path.read_bytes()
        assert_same(read_generator(path), generator, but="affine.bias")

    def test_what_we_do_not_have_is_named(self, tmp_path: Path) -> None:
        generator = tiny_generator()
        with pytest.raises(BadCheckpoint, match="version 3; wanted 4 or later"):
            read_generator(write_tensorflow(tmp_path / "t.pkl", generator, version=3))
        with pytest.raises(BadCheckpoint, match="needs a class label"):
            read_generator(write_tensorflow(tmp_path / "t.pkl", generator, label_size=7))
        with pytest.raises(BadCheckpoint, match="config E or F"):
            read_generator(write_tensorflow(tmp_path / "t.pkl", generator, architecture="orig"))


class TestRosinality:
    @pytest.mark.parametrize("archive", [True, False])
    def test_bit_for_bit(self, tmp_path: Path, archive: bool) -> None:
        generator = lively(GeneratorConfig(64, 16, 24, 512, 12, mapping_layers=3))
        path = write_rosinality(tmp_path / "r.pt", generator, archive)
        assert sniff(path) == ("torch archive" if archive else "torch stream")
        source = read_generator(path)
        assert source.config == generator.config
        assert_same(source, generator)

    def test_missing_noise_and_mean_are_made_up_and_said(self, tmp_path: Path) -> None:
        generator = tiny_generator()
        path = write_rosinality(tmp_path / "r.pt", generator, noises=True, latent_avg=True)
        source = read_generator(path)
        assert "7 noise maps were not in the file" in source.notes["noise"]
        assert "mean of 10,000 w" in source.notes["w_avg"]
        assert_same(source, generator, but="noise_const|w_avg")
        assert torch.equal(
            source.state["mapping.w_avg"], read_generator(path).state["mapping.w_avg"]
        )
        with torch.inference_mode():
            w = generator.mapping(torch.randn(4000, 16))
        error = (source.state["mapping.w_avg"] - w.mean(dim=0)).norm()
        assert error < 0.1 * w.std(dim=0).norm()

    def test_the_same_as_torch_reads(self, tmp_path: Path) -> None:
        for archive in (True, False):
            path = write_rosinality(tmp_path / "r.pt", tiny_generator(), archive)
            with torch.serialization.safe_globals([argparse.Namespace]):
                wanted = torch.load(path, weights_only=True)
            found = read_weights(path)
            assert list(found["g_ema"]) == list(wanted["g_ema"])
            for name, value in wanted["g_ema"].items():
                assert torch.equal(found["g_ema"][name], value), name
            assert found["args"].state == vars(wanted["args"])


def test_the_three_forms_of_a_generator_have_one_fingerprint(tmp_path: Path) -> None:
    generator = tiny_generator()
    found = {
        read_generator(path).notes["fingerprint"]
        for path in (
            write_nvlabs(tmp_path / "n.pkl", generator, tmp_path / "c"),
            write_tensorflow(tmp_path / "t.pkl", generator),
            write_rosinality(tmp_path / "r.pt", generator),
        )
    }
    synthesis = generator.state_dict()["synthesis.b4.const"]
    assert found == {fingerprint(synthesis, generator.mapping.w_avg)}
    assert read_generator(tmp_path / "r.pt").notes["licence"].endswith("non-commercial")
    other = write_rosinality(tmp_path / "o.pt", tiny_generator(seed=9))
    assert read_generator(other).notes["fingerprint"] not in found


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "|u1", "<i8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_numpy(tmp_path: Path, dtype: str, order: str, protocol: int) -> None:
    import pickle

    from stylegan2_ops.foreign.inert import as_tensor
    from stylegan2_ops.foreign.unpickle import Unpickler

    values = np.asarray(np.arange(12).reshape(3, 4) % 2, dtype=dtype, order=order)  # type: ignore[call-overload]
    found = as_tensor(Unpickler(pickle.dumps(values, protocol)).load())
    assert torch.equal(found, torch.from_numpy(values.astype(values.dtype.newbyteorder("="))))


class TestE4e:
    @pytest.mark.parametrize("archive", [True, False])
    @pytest.mark.parametrize("rows", [True, False])
    def test_bit_for_bit(self, tmp_path: Path, archive: bool, rows: bool) -> None:
        generator = tiny_generator()
        encoder = tiny_e4e(config=WITHOUT_REDUCTION)
        encoder.latent_avg.copy_(generator.mapping.w_avg.expand_as(encoder.latent_avg))
        path = write_e4e(tmp_path / "e.pt", encoder, generator, archive=archive, rows=rows)
        source = read_e4e(path)
        assert source.config == encoder.config
        for name, value in encoder.state_dict().items():
            assert torch.equal(source.state[name], value), name
        again = E4e(source.config).eval()
        again.load_state_dict(source.state)
        images = torch.rand(2, 3, 64, 64) * 2 - 1
        with torch.inference_mode():
            assert torch.equal(again(images), encoder(images))
        assert source.generator is not None
        assert_same(source.generator, generator)
        assert source.notes["fingerprint"] == source.generator.notes["fingerprint"]

    def test_options_as_a_namespace(self, tmp_path: Path) -> None:
        options = argparse.Namespace(encoder_type="Encoder4Editing", lr=1e-4)
        encoder = tiny_e4e(config=WITHOUT_REDUCTION)
        path = write_e4e(tmp_path / "e.pt", encoder, None, options)
        source = read_e4e(path)
        assert source.generator is None and "fingerprint" not in source.notes
        assert torch.equal(source.state["latent_avg"], encoder.latent_avg)

    def test_the_full_size_is_recognised(self, tmp_path: Path) -> None:
        from encoders.e4e.convert import _config

        with torch.device("meta"):
            state = dict(E4e(E4eConfig()).state_dict())
        assert _config(state) == E4eConfig()

    def test_without_a_mean_the_encoder_adds_none(self, tmp_path: Path) -> None:
        """Its own code adds latent_avg only with start_from_latent_avg, and saves it only then."""
        generator, encoder = tiny_generator(), tiny_e4e(config=WITHOUT_REDUCTION)
        plain = {"encoder_type": "Encoder4Editing", "start_from_latent_avg": False}
        path = write_e4e(tmp_path / "e.pt", encoder, generator, plain, mean=False)
        source = read_e4e(path)
        encoder.latent_avg.zero_()
        again = E4e(source.config).eval()
        again.load_state_dict(source.state)
        images = torch.rand(2, 3, 64, 64) * 2 - 1
        with torch.inference_mode():
            assert torch.equal(again(images), encoder(images))
        assert "adds no mean latent" in source.notes["latent_avg"]
        # The generator's mean was drawn here, so its fingerprint is not the original's.
        assert source.generator is not None and "w_avg" in source.generator.notes
        assert "fingerprint" not in source.notes
        kept = read_e4e(write_e4e(tmp_path / "k.pt", encoder, generator, plain))
        assert not kept.state["latent_avg"].any() and kept.generator is not None
        assert torch.equal(kept.generator.state["mapping.w_avg"], generator.mapping.w_avg)
        for options in ({"encoder_type": "Encoder4Editing", "start_from_latent_avg": True}, {}):
            path = write_e4e(tmp_path / "e.pt", encoder, generator, options, mean=False)
            with pytest.raises(BadCheckpoint, match="has no latent_avg"):
                read_e4e(path)

    def test_a_file_that_does_not_say_whose_encoder_it_holds(self, tmp_path: Path) -> None:
        encoder = tiny_e4e(config=WITHOUT_REDUCTION)
        for options in ({}, {"lr": 1e-4}):
            path = write_e4e(tmp_path / "e.pt", encoder, None, options)
            assert "does not say which encoder" in read_e4e(path).notes["encoder"]
            code, said = TestCommand().run(path, tmp_path / "e.safetensors", "--force")
            assert code == 0 and "note: the file does not say which encoder it holds" in said
        value = read_weights(path)
        value["discriminator_state_dict"] = {}  # of latents, which only e4e is trained with
        assert "encoder" not in read_e4e(path, value).notes
        assert "encoder" not in read_e4e(write_e4e(tmp_path / "e.pt", encoder, None)).notes

    def test_other_encoders_are_named(self, tmp_path: Path) -> None:
        generator, encoder = tiny_generator(), tiny_e4e(config=WITHOUT_REDUCTION)
        path = write_e4e(
            tmp_path / "e.pt", encoder, generator, {"encoder_type": "GradualStyleEncoder"}
        )
        with pytest.raises(BadCheckpoint, match="pSp's encoder 'GradualStyleEncoder'"):
            read_e4e(path)
        with pytest.raises(BadCheckpoint, match="holds no 'state_dict'"):
            read_e4e(write_rosinality(tmp_path / "r.pt", generator))
        with torch.no_grad():
            encoder.latlayer1.weight[0] = torch.nan
        with pytest.raises(BadCheckpoint, match=r"latlayer1\.weight is not finite"):
            read_e4e(write_e4e(tmp_path / "n.pt", encoder, generator))
        with pytest.raises(BadCheckpoint, match="is it an e4e checkpoint"):
            read_generator(write_e4e(tmp_path / "e.pt", encoder, generator))


WITHOUT_REDUCTION = E4eConfig(
    E4E.num_ws, 64, E4E.w_dim, 32, BackboneConfig((4, 8, 16, 32), (2, 1, 2, 1))
)


class TestCommand:
    def run(self, *arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["models", "convert", *map(str, arguments)])
        return done.exit_code, done.output

    def test_a_converted_generator_draws_the_same(self, tmp_path: Path) -> None:
        generator = tiny_generator()
        path = write_nvlabs(tmp_path / "n.pkl", generator, tmp_path / "canary")
        code, said = self.run(path, tmp_path / "g.safetensors")
        assert code == 0 and "NVlabs pickle" in said and "32 pixels" in said
        again, _ = load_generator(tmp_path / "g.safetensors")
        z = torch.randn(3, 16)
        with torch.inference_mode():
            assert torch.equal(again(z), generator(z))
        code, said = self.run(path, tmp_path / "g.safetensors")
        assert code == 2 and "--force" in said
        assert self.run(path, tmp_path / "g.safetensors", "--force")[0] == 0
        assert not (tmp_path / "canary").exists()

    def test_an_encoder_with_its_generator(self, tmp_path: Path) -> None:
        generator, encoder = tiny_generator(), tiny_e4e(config=WITHOUT_REDUCTION)
        path = write_e4e(tmp_path / "e.pt", encoder, generator)
        e4e, made = tmp_path / "e.safetensors", tmp_path / "g.safetensors"
        code, said = self.run(path, e4e, "--generator-out", e4e)
        assert code == 2 and "are the same file" in said and not e4e.exists()
        code, said = self.run(path, e4e, "--generator-out", made)
        assert code == 0, said
        found, _ = load_e4e(e4e)
        images: Tensor = torch.rand(1, 3, 64, 64) * 2 - 1
        shift = generator.mapping.w_avg - encoder.latent_avg
        with torch.inference_mode():
            assert torch.allclose(found(images), encoder(images) + shift, atol=1e-6)
        again, _ = load_generator(made)
        assert torch.equal(again.mapping.w_avg, generator.mapping.w_avg)

    def test_an_encoder_of_another_generator_is_refused(self, tmp_path: Path) -> None:
        generator, encoder = tiny_generator(), tiny_e4e(config=WITHOUT_REDUCTION)
        path = write_e4e(tmp_path / "e.pt", encoder, generator)
        e4e, ours, other = (tmp_path / f"{n}.safetensors" for n in ("e", "ours", "other"))
        self.run(path, e4e)
        self.run(write_tensorflow(tmp_path / "a.pkl", generator), ours)
        self.run(write_rosinality(tmp_path / "b.pt", tiny_generator(seed=8)), other)
        for chosen, code in ((ours, 0), (other, 4)):
            words = ["sample", tmp_path / chosen.stem, "--count", 1]
            words += ["--generator", chosen, "--e4e", e4e]
            done = CliRunner().invoke(main, [str(word) for word in words])
            assert done.exit_code == code, done.output
        assert "was made for the generator with fingerprint" in done.stderr
        assert "that belong together" in done.stderr

    def test_the_bytes_are_those_of_the_library(self, tmp_path: Path) -> None:
        generator, encoder = tiny_generator(), tiny_e4e(config=WITHOUT_REDUCTION)
        path = write_e4e(tmp_path / "e.pt", encoder, generator)
        written, made, wanted = (tmp_path / f"{name}.safetensors" for name in "ewg")
        assert self.run(path, written, "--generator-out", made)[0] == 0
        source = read_e4e(path)
        save_checkpoint(wanted, "e4e", source.config.to_dict(), source.state, source.notes)
        assert written.read_bytes() == wanted.read_bytes()
        inside = source.generator
        assert inside is not None
        save_checkpoint(wanted, "generator", inside.config.to_dict(), inside.state, inside.notes)
        assert made.read_bytes() == wanted.read_bytes()
        assert not list(tmp_path.glob("*.part"))

    def test_tensors_are_not_copied_on_their_way(self, tmp_path: Path) -> None:
        path = write_e4e(tmp_path / "e.pt", tiny_e4e(config=WITHOUT_REDUCTION), tiny_generator())
        value = read_weights(path)
        source = read_e4e(path, value)
        assert source.generator is not None
        held = {tensor.untyped_storage().data_ptr() for tensor in value["state_dict"].values()}
        made = [*source.state.items(), *source.generator.state.items()]
        large = [v for _, v in made if v.ndim == 4 and v.shape[-1] == 3]
        assert len(large) > 20
        assert all(v.untyped_storage().data_ptr() in held for v in large)

    def test_one_line_for_a_bad_file(self, tmp_path: Path) -> None:
        path = tmp_path / "page.pkl"
        path.write_text("<!DOCTYPE html><html>Google Drive - virus scan warning")
        code, said = self.run(path, tmp_path / "g.safetensors")
        assert code == 4 and said.count("\n") == 1
        assert "page.pkl: web page: the download returned a page" in said
        assert not (tmp_path / "g.safetensors").exists()
        assert self.run(tmp_path / "none.pkl", tmp_path / "g.safetensors")[0] == 2
