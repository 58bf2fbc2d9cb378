"""The candidate that is refined until it is read as the art is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from label_tiny import tiny_network
from tiny import inverted_part, tiny_e4e, tiny_generator, tiny_images, tree

from sfhq.errors import UsageError
from sfhq.networks.labels import LabelNetwork
from sfhq.pipeline.engine import run_stage
from sfhq.pipeline.recipe import Recipe
from sfhq.synthesis.candidates import CandidateMaker
from sfhq.synthesis.close import RADIUS, SHARP, Closer
from sfhq.synthesis.latents import LatentPrior
from sfhq.synthesis.likeness import detail
from sfhq.synthesis.names import check_names, needs_labels
from sfhq.synthesis.synthesize import Synthesize, SynthesizeSettings
from stylegan2_ops.generator import Generator

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator()


@pytest.fixture(scope="module")
def labels() -> LabelNetwork:
    return tiny_network().fold().requires_grad_(False)


@pytest.fixture(scope="module")
def maker(generator: Generator, labels: LabelNetwork) -> CandidateMaker:
    prior = LatentPrior.of(generator, 1024)
    closer = Closer(generator.synthesis, labels, prior)
    return CandidateMaker(generator, tiny_e4e(), prior, 11, closer=closer)


def made(
    maker: CandidateMaker, name: str, count: int = 2
) -> tuple[torch.Tensor, list[dict[str, object]], torch.Tensor]:
    rng = torch.Generator().manual_seed(8)
    inverted, art = torch.randn(count, 8, 16, generator=rng), tiny_images(count)
    found = maker.make(name, inverted, art, [str(i) for i in range(count)])
    return found.w_plus, list(found.params), inverted


def test_steps_bring_the_picture_nearer_within_the_limits(maker: CandidateMaker) -> None:
    w_plus, params, inverted = made(maker, "close-12")
    for face in params:
        before, after = face["apart_before"], face["apart"]
        assert isinstance(before, float) and isinstance(after, float) and after < 0.98 * before
    assert (maker.prior.distance(w_plus) <= RADIUS + 1e-4).all()
    strict = maker.make("strict", inverted, tiny_images(2), ["0", "1"]).w_plus
    least = SHARP * detail(maker.generator.synthesis(strict))
    assert (detail(maker.generator.synthesis(w_plus)) >= least - 1e-4).all()
    assert not w_plus.requires_grad


def test_more_steps_come_at_least_as_near(maker: CandidateMaker) -> None:
    few, many = made(maker, "close-4")[1], made(maker, "close-30")[1]
    for a, b in zip(few, many, strict=True):
        assert a["apart_before"] == b["apart_before"]
    assert sum(float(str(f["apart"])) for f in many) < sum(float(str(f["apart"])) for f in few)


def test_a_face_comes_out_the_same_alone_and_beside_others(maker: CandidateMaker) -> None:
    together = made(maker, "close-3", 3)[0]
    rng = torch.Generator().manual_seed(8)
    inverted, art = torch.randn(3, 8, 16, generator=rng), tiny_images(3)
    with torch.inference_mode():  # as a stage runs it
        alone = maker.make("close-3", inverted[1:2], art[1:2], ["b"]).w_plus
    assert torch.equal(together[1:2], alone)


@pytest.mark.parametrize("name", ["close", "close-0", "close-1001", "close-x", "close-1.5"])
def test_bad_names(name: str) -> None:
    with pytest.raises(UsageError, match=r"close-<steps>|wanted 1 to 1,000"):
        check_names((name,))


def test_the_stage_reads_the_label_network_only_for_close(
    maker: CandidateMaker, labels: LabelNetwork, tmp_path: Path
) -> None:
    assert needs_labels(("strict", "close-2")) and not needs_labels(("strict", "low"))
    plain = Synthesize(maker.generator, "g" * 64, maker.encoder, "e" * 64, maker.prior)
    assert "labels" not in plain.settings()
    stage = replace(plain, candidates=("strict", "close-2"), labels=labels, labels_digest="l" * 64)
    assert stage.settings()["labels"] == "l" * 64
    first, second = inverted_part(tmp_path / "a"), inverted_part(tmp_path / "b")
    assert run_stage(stage, first).alive == 10
    assert run_stage(replace(stage, batch=2), second).alive == 10
    assert tree(first.root / "images") == tree(second.root / "images")
    faces = [r for r in first.records("synthesize") if r.candidate == "close-2"]
    assert all(r.params["apart"] <= r.params["apart_before"] for r in faces)


def test_the_embedded_label_network_is_taken(tmp_path: Path) -> None:
    recipe = Recipe()
    stage = Synthesize.build(SynthesizeSettings(candidates=("close-5",)), recipe, tmp_path / "p")
    assert stage.labels is not None and len(stage.labels_digest) == 64
    assert Synthesize.build(SynthesizeSettings(), recipe, tmp_path / "p").labels is None
