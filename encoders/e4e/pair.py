"""The generator and the encoder that a recipe names, read once for all stages of a run."""

from __future__ import annotations

import functools
from typing import NamedTuple

from encoders.e4e.inference import PreparedE4e
from encoders.e4e.network import load_e4e, require_pair
from sfhq.errors import UsageError
from sfhq.pipeline.recipe import ModelSettings
from sfhq.weights.checkpoints import load_generator
from stylegan2_ops.generator import Generator
from stylegan2_ops.inference import Precision, has_fast_bf16
from stylegan2_ops.memory import keep_freed_memory


class Pair(NamedTuple):
    """A generator, an encoder into its latent space, the sha256 of both weights files, and the
    number format of their convolutions.
    """

    generator: Generator
    generator_digest: str
    encoder: PreparedE4e
    encoder_digest: str
    precision: Precision


@functools.lru_cache(maxsize=1)
def load_pair(models: ModelSettings) -> Pair:
    """The networks of a recipe; those of the embedded pack where it names none.

    Args:
        models: the recipe's table.

    Raises:
        UsageError: no such file, or a precision that this machine does not have.
        IntegrityError: damaged weights, or networks that do not belong together.
    """
    keep_freed_memory()
    precision = precision_of(models)
    generator, digest = load_generator(models.generator)
    encoder, encoder_digest = load_e4e(models.e4e, generator.config.num_ws)
    require_pair(models.generator, models.e4e)
    return Pair(generator, digest, PreparedE4e(encoder, precision), encoder_digest, precision)


def precision_of(models: ModelSettings) -> Precision:
    """Of the networks' convolutions.

    Raises:
        UsageError: bf16 where it would be slower than fp32.
    """
    if models.precision == "fp32":
        return "fp32"
    if not has_fast_bf16():
        raise UsageError(
            "precision bf16: this CPU has neither AVX512-BF16 nor AMX; leave it at fp32"
        )
    return "bf16"
