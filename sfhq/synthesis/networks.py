"""The networks that make photos, as the fields of the stages that use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sfhq import stages

if TYPE_CHECKING:
    from sfhq.parts.records import Json
    from sfhq.pipeline.recipe import ModelSettings


def recognition_of(encoder: Any) -> dict[str, Json]:
    """The digest of dlib's recognition network, a setting where it decides which bytes come out.

    Args:
        encoder: it does in one that keeps the person, which then has a true `reads_person`.

    Raises:
        SfhqError: its weights are not installed.
    """
    from sfhq.faces.dlib_models import RECOGNITION, model_digest

    if getattr(encoder, "reads_person", False):
        return {"recognition": model_digest(RECOGNITION)}
    return {}


def photo_networks(models: ModelSettings) -> dict[str, Any]:
    """Fields of `Sample` and `Synthesize`: generator, encoder, their digests, prior, precision.

    Args:
        models: the recipe's table.

    Raises:
        UsageError: a file is missing, or this machine is slow at the precision.
        IntegrityError: weights are damaged, or the networks do not belong together.
    """
    from sfhq.synthesis.latents import LatentPrior

    pair = stages.network("generator and encoder")(models)
    return {
        "generator": pair.generator,
        "generator_digest": pair.generator_digest,
        "encoder": pair.encoder,
        "encoder_digest": pair.encoder_digest,
        "prior": LatentPrior.of(pair.generator),
        "precision": pair.precision,
    }
