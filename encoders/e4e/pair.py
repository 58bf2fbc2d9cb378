"""Load the generator and the encoder of a recipe once for all stages of a run."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from encoders.e4e.inference import PreparedE4e
from encoders.e4e.network import load_e4e, require_pair
from sfhq.errors import UsageError
from sfhq.pipeline.recipe import Recipe
from sfhq.synthesis.latents import LatentPrior
from sfhq.weights.checkpoints import load_generator
from stylegan2_ops.generator import Generator
from stylegan2_ops.inference import Precision, has_fast_bf16
from stylegan2_ops.memory import keep_freed_memory


class Pair(NamedTuple):
    """A generator, an encoder for it, and the sha256 of the weights of each."""

    generator: Generator
    generator_digest: str
    encoder: PreparedE4e
    encoder_digest: str


@functools.lru_cache(maxsize=1)
def load_pair(recipe: Recipe) -> Pair:
    """The networks of a recipe; a network that it does not name comes from the embedded pack.

    Raises:
        UsageError: a file is missing, or this machine is slow at the precision.
        IntegrityError: weights are damaged, or the networks do not belong together.
    """
    keep_freed_memory()
    models, precision = recipe.models, precision_of(recipe)
    paths = [Path(path) if path else None for path in (models.generator, models.e4e)]
    generator, digest = load_generator(paths[0])
    encoder, encoder_digest = load_e4e(paths[1], generator.config.num_ws)
    require_pair(*paths)
    return Pair(generator, digest, PreparedE4e(encoder, precision), encoder_digest)


@functools.lru_cache(maxsize=1)
def load_prior(recipe: Recipe) -> LatentPrior:
    """The prior over the latents of a recipe's generator."""
    return LatentPrior.of(load_pair(recipe).generator)


def precision_of(recipe: Recipe) -> Precision:
    """The precision of a recipe's networks.

    Raises:
        UsageError: the precision is unknown, or is bf16 on a machine where fp32 is faster.
    """
    if recipe.models.precision == "fp32":
        return "fp32"
    if recipe.models.precision != "bf16":
        raise UsageError(f"precision is {recipe.models.precision!r}; wanted fp32 or bf16")
    if not has_fast_bf16():
        raise UsageError(
            "precision is bf16, but this CPU has neither AVX512-BF16 nor AMX; use fp32"
        )
    return "bf16"
