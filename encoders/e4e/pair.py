"""Load the generator and the encoder of a recipe once for all stages of a run."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from encoders.e4e.loading import PreparedEncoder, load_encoder, prepare_encoder
from encoders.e4e.network import require_pair
from sfhq.errors import UsageError
from sfhq.parts.records import Array, Pixels
from sfhq.pipeline.recipe import ModelSettings
from sfhq.tensors import to_pixels, to_tensor
from sfhq.weights.checkpoints import load_generator
from stylegan2_ops.generator import Generator
from stylegan2_ops.inference import Precision, has_fast_bf16, prepared
from stylegan2_ops.memory import keep_freed_memory


class Pair(NamedTuple):
    """A generator, an encoder into its latent space, the sha256 of both weights files, and the
    number format of their convolutions.
    """

    generator: Generator
    generator_digest: str
    encoder: PreparedEncoder
    encoder_digest: str
    precision: Precision

    @classmethod
    def load(cls, models: ModelSettings | None = None) -> Pair:
        """The networks of a recipe's table; by default those of the embedded pack.

        Raises:
            UsageError, IntegrityError: as `load_pair`.
        """
        return load_pair(models or ModelSettings())

    def invert(self, pixels: Pixels) -> Array:
        """The latent of an aligned face.

        Args:
            pixels: (H, W, 3) uint8 RGB, an upright FFHQ crop of any size.

        Returns:
            (num_ws, w_dim) float32.
        """
        size = self.encoder.config.input_size
        image = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
        with torch.inference_mode():
            latents: Array = self.encoder(to_tensor(np.asarray(image)[None])).numpy()
        return np.ascontiguousarray(latents[0])

    def render(self, w_plus: Array) -> Pixels:
        """The photo of a latent.

        Args:
            w_plus: (num_ws, w_dim) float32.

        Returns:
            (H, W, 3) uint8 RGB, as large as the generator makes them.
        """
        latents = torch.from_numpy(np.asarray(w_plus, np.float32))[None]
        with torch.inference_mode():
            image: Pixels = to_pixels(prepared(self.generator.synthesis, self.precision)(latents))[
                0
            ]
        return image


@functools.lru_cache(maxsize=1)
def load_pair(models: ModelSettings) -> Pair:
    """The networks of a recipe; those of the embedded pack where it names none.

    Args:
        models: the recipe's table.

    Raises:
        UsageError: a file is missing, or this machine is slow at the precision.
        IntegrityError: weights are damaged, or the networks do not belong together.
    """
    keep_freed_memory()
    precision = precision_of(models)
    generator, digest = load_generator(models.generator)
    encoder, encoder_digest = load_encoder(models.e4e, generator.config.num_ws)
    require_pair(models.generator, models.e4e)
    ready = prepare_encoder(encoder, precision)
    return Pair(generator, digest, ready, encoder_digest, precision)


def precision_of(models: ModelSettings) -> Precision:
    """The number format of the networks' convolutions.

    Raises:
        UsageError: bf16 where it would be slower than fp32.
    """
    if models.precision == "fp32":
        return "fp32"
    if not has_fast_bf16():
        raise UsageError(
            "precision is bf16, but this CPU has neither AVX512-BF16 nor AMX; use fp32"
        )
    return "bf16"
