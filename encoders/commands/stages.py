"""Commands of the stages that need an encoder: sample, invert, synthesize, embed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfhq.console import (
    FOLDER,
    options,
    read_recipe,
    ready_part,
    run_and_report,
    run_options,
    split_names,
)
from sfhq.errors import UsageError

if TYPE_CHECKING:
    from encoders.embed import Embed, ImageEncoder
    from encoders.invert import Invert
    from sfhq.pipeline.recipe import Recipe
    from sfhq.synthesis.synthesize import Synthesize

model_options = options(
    click.option("--generator", type=FOLDER, help="Generator weights; default: embedded pack."),
    click.option("--e4e", "e4e", type=FOLDER, help="e4e weights; default: embedded pack."),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        help="Of the networks' convolutions.  [default: fp32]",
    ),
)
candidate_options = options(
    click.option(
        "--candidates",
        metavar="NAMES",
        help="Comma-separated: strict, low, psi-0.6, donor-7, sefa-0+1.5.",
    ),
    click.option("--keep", type=int, help="Only the most realistic so many an inspiration."),
    click.option("--max-realism", type=float, help="Refuse candidates further from the prior."),
)


def model_flags(
    generator: Path | None, e4e: Path | None, precision: str | None
) -> dict[str, str | None]:
    """The values of `model_options` as `read_recipe` takes them."""
    return {
        "models__generator": str(generator) if generator else None,
        "models__e4e": str(e4e) if e4e else None,
        "models__precision": precision,
    }


@click.command()
@click.argument("part", type=FOLDER)
@click.option("--count", type=int, required=True, help="How many faces.")
@click.option("--seed", default=0, show_default=True, help="First seed.")
@click.option("--psi", default=1.2, show_default=True, help="Strength of the draw.")
@click.option(
    "--anchor-psi",
    default=0.5,
    show_default=True,
    help="Way back from the encoder's latent (0) to the draw (1).",
)
@model_options
@run_options
def sample(
    part: Path,
    count: int,
    seed: int,
    psi: float,
    anchor_psi: float,
    generator: Path | None,
    e4e: Path | None,
    precision: str | None,
    **flags: Any,
) -> None:
    """Start PART with new faces: drawn at psi above 1, pulled towards what e4e sees.

    \b
    Example:
      sfhq sample part-06 --count 1000 --psi 1.3
    """
    from encoders.e4e.pair import load_pair, load_prior, precision_of
    from sfhq.parts.part import Part
    from sfhq.synthesis.sample import Sample

    recipe = read_recipe(**model_flags(generator, e4e, precision))
    stage = Sample(
        *load_pair(recipe),
        load_prior(recipe),
        count,
        seed,
        psi,
        anchor_psi,
        recipe.synthesize.batch,
        precision_of(recipe),
    )
    run_and_report(stage, Part.create(part), **flags, total=count)


@click.command()
@click.argument("part", type=FOLDER)
@model_options
@run_options
def invert(
    part: Path,
    generator: Path | None,
    e4e: Path | None,
    precision: str | None,
    **flags: Any,
) -> None:
    """Encode every aligned face of PART into the generator's latent space.

    \b
    Example:
      sfhq invert part-05
    """
    recipe = read_recipe(**model_flags(generator, e4e, precision))
    opened = ready_part(part, "invert")  # before the networks are read
    run_and_report(invert_stage(recipe), opened, **flags)


def invert_stage(recipe: Recipe) -> Invert:
    """The stage that a recipe describes, with its encoder."""
    from encoders.e4e.pair import load_pair
    from encoders.invert import Invert

    pair = load_pair(recipe)
    return Invert(pair.encoder, pair.encoder_digest, recipe.synthesize.batch)


@click.command()
@click.argument("part", type=FOLDER)
@candidate_options
@click.option("--seed", type=int, help="Seed of donors.  [default: 0]")
@model_options
@run_options
def synthesize(
    part: Path,
    candidates: str | None,
    keep: int | None,
    max_realism: float | None,
    seed: int | None,
    generator: Path | None,
    e4e: Path | None,
    precision: str | None,
    **flags: Any,
) -> None:
    """Bring every inverted face of PART to life as several candidate photographs.

    \b
    Examples:
      sfhq synthesize part-05
      sfhq synthesize part-05 --candidates strict,low,sefa-0+1.5,sefa-0-1.5 --keep 2
    """
    recipe = read_recipe(
        seed=seed,
        synthesize__candidates=split_names(candidates),
        synthesize__keep=keep,
        synthesize__max_realism=max_realism,
        **model_flags(generator, e4e, precision),
    )
    opened = ready_part(part, "synthesize")
    run_and_report(synthesize_stage(recipe), opened, **flags)


def synthesize_stage(recipe: Recipe) -> Synthesize:
    """The stage that a recipe describes, with its networks."""
    from encoders.e4e.pair import load_pair, load_prior, precision_of
    from sfhq.synthesis.synthesize import Synthesize

    c = recipe.synthesize
    return Synthesize(
        *load_pair(recipe),
        load_prior(recipe),
        c.candidates,
        c.keep or None,
        c.max_realism or None,
        recipe.seed,
        c.batch,
        precision_of(recipe),
    )


@click.command()
@click.argument("part", type=FOLDER)
@click.option("--encoder", help="dlib-face or clip.  [default: dlib-face]")
@click.option("--encoder-weights", type=FOLDER, help="File of CLIP, or folder of weights by set.")
@click.option("--features", help="Sets for tastes: geometry, efficientnet, preset-1 to -7.")
@run_options
def embed(
    part: Path,
    encoder: str | None,
    encoder_weights: Path | None,
    features: str | None,
    **flags: Any,
) -> None:
    """Turn every photo of PART into a vector in which near-duplicates are close.

    \b
    Example:
      sfhq embed part-05 --encoder dlib-face --features geometry,efficientnet
    """
    weights = str(encoder_weights) if encoder_weights else None
    recipe = read_recipe(embed__encoder=encoder, models__encoder=weights)
    sets = tuple(
        s for name in split_names(features) or () for s in feature_sets(name, encoder_weights)
    )
    stage = embed_stage(recipe, sets)
    run_and_report(stage, ready_part(part, "embed"), **flags)


def embed_stage(recipe: Recipe, features: tuple[ImageEncoder, ...] = ()) -> Embed:
    """The stage that a recipe describes, with its encoder; `features` are for tastes."""
    from encoders.embed import Embed

    return Embed(image_encoder(recipe), features=features)


def image_encoder(recipe: Recipe) -> ImageEncoder:
    """The encoder that a recipe names."""
    if recipe.embed.encoder == "dlib-face":
        from encoders.embed import DlibFaceEncoder

        return DlibFaceEncoder()
    if recipe.embed.encoder == "clip":
        from encoders.features.clip import ClipEncoder

        weights = recipe.models.encoder
        return ClipEncoder(weights=Path(weights) if weights else None)
    raise UsageError(f"unknown encoder {recipe.embed.encoder!r}; wanted dlib-face or clip")


def feature_sets(name: str, weights: Path | None) -> tuple[ImageEncoder, ...]:
    """The encoders of a feature set, or of a preset of several."""
    if name == "geometry":
        from encoders.features.geometry import GeometryEncoder

        return (GeometryEncoder(),)
    if name == "efficientnet":
        from encoders.features.efficientnet import EfficientNetEncoder

        return (EfficientNetEncoder(),)
    if name == "dlib-face":
        from encoders.embed import DlibFaceEncoder

        return (DlibFaceEncoder(),)
    from encoders.features.presets import preset

    return preset(name, weights)
