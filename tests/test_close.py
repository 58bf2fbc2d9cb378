"""The candidate that shows the person of the art, on the embedded networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from encoders.e4e.pair import Pair
from sfhq.faces.identity import recognition
from sfhq.pipeline.recipe import ModelSettings
from sfhq.synthesis.candidates import (
    CandidateMaker,
)
from sfhq.synthesis.close import RADIUS
from sfhq.synthesis.latents import LatentPrior
from stylegan2_ops.generator import seed_to_z, truncate

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def given() -> tuple[CandidateMaker, Tensor, Tensor]:
    """Pictures of the embedded generator, and latents that are far from them."""
    pair = Pair.load(ModelSettings())
    network = pair.generator
    w = network.mapping(torch.cat([seed_to_z(s, network.config.z_dim) for s in (3, 4)]))
    images = network.synthesis(truncate(network.broadcast(w), network.latent_avg, 0.5))
    start = network.broadcast(network.latent_avg[None]).expand(2, -1, -1)
    maker = CandidateMaker(network, pair.encoder, LatentPrior.of(network), seed=0)
    return maker, start.detach(), images.detach()


class TestClose:
    def test_comes_nearer_to_the_person_and_stays_near_the_prior(
        self, given: tuple[CandidateMaker, Tensor, Tensor]
    ) -> None:
        maker, start, images = given
        with torch.inference_mode():  # as the stages run
            far, near = (maker.make(f"close-{n}", start, images, ["a", "b"]) for n in (1, 8))
        wanted = maker.likeness(images)
        distances = [
            wanted.person(maker.generator.synthesis(made.w_plus), torch.arange(2))
            for made in (far, near)
        ]
        assert (distances[1] < 0.8 * distances[0]).all()
        assert {p["steps"] for p in near.params} == {8}
        assert float(maker.prior.distance(near.w_plus).max()) <= RADIUS + 1e-3
        assert torch.equal(near.w_plus, near.w_plus[:, :1].expand_as(near.w_plus))  # as at first

    def test_a_face_ends_at_the_same_place_in_any_batch(
        self, given: tuple[CandidateMaker, Tensor, Tensor]
    ) -> None:
        maker, start, images = given
        both = maker.make("close-2", start, images, ["a", "b"]).w_plus
        alone = maker.make("close-2", start[1:], images[1:], ["b"]).w_plus
        assert torch.equal(both[1:], alone)

    def test_goes_on_where_another_way_has_loaded_the_network_first(
        self, given: tuple[CandidateMaker, Tensor, Tensor]
    ) -> None:
        maker, start, images = given
        recognition.cache_clear()
        with torch.inference_mode():  # as the stages run: low asks for the network, then close
            maker.make("low", start, images, ["a", "b"])
            made = maker.make("close-2", start, images, ["a", "b"])
        assert bool(made.w_plus.isfinite().all())

    def test_goes_to_the_photograph_where_the_encoder_knows_it(
        self, given: tuple[CandidateMaker, Tensor, Tensor]
    ) -> None:
        """An encoder that says what dlib's network would see in a photograph of the person."""
        maker, start, images = given
        truth = recognition(torch.device("cpu"))(images.flip(0))  # the other one of two people

        class Knows:
            def __call__(self, pictures: Tensor) -> Tensor:
                return start[: len(pictures)]

            def as_photo(self, vectors: Tensor) -> Tensor:
                seen = recognition(torch.device("cpu"))(images)
                nearest: Tensor = truth[torch.cdist(vectors, seen).argmin(1)]
                return nearest

        knows = replace(maker, encoder=Knows())
        with torch.inference_mode():
            vectors = knows.likeness(images).vector
            made = [m.make("close-6", start, images, ["a", "b"]).w_plus for m in (maker, knows)]
        torch.testing.assert_close(vectors, truth, atol=1e-4, rtol=1e-3)
        assert not torch.equal(*made)
