"""`sfhq flip caption-ablate`, `compare-pretraining`, `scaling`: trainings side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from encoders.commands.flip.group import JSON, PARTS
from encoders.commands.flip.start import started_on_stem
from sfhq.commands.train import batch_option, check_device
from sfhq.console import FOLDER, options, say
from sfhq.errors import UsageError

if TYPE_CHECKING:
    from encoders.flip.data import Captioned
    from encoders.flip.network import Flip
    from encoders.flip.recipe import FlipRecipe
    from encoders.flip.studies.ablation import Comparison
    from encoders.flip.tokens import Tokens

RUN = options(
    click.option("--out", type=FOLDER, required=True, help="Folder of the runs; they are resumed."),
    click.option(
        "--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs per arm."
    ),
    click.option(
        "--images",
        type=click.IntRange(1),
        default=20_000,
        show_default=True,
        help="Number of images that each run sees.",
    ),
    batch_option(128, "Images"),
    click.option(
        "--config",
        "size",
        type=click.Choice(["tiny", "hybrid", "small", "paper"]),
        default="hybrid",
        show_default=True,
        help="Sizes of the network.",
    ),
    click.option(
        "--stem",
        type=FOLDER,
        help="Label network that a hybrid reads; default: embedded pack.",
    ),
    click.option(
        "--matching/--no-matching",
        default=False,
        show_default=True,
        help="With the matching loss, which takes two thirds of the time.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        default="fp32",
        show_default=True,
        help="Number format of the networks.",
    ),
    JSON,
)
EXPERIMENT = (
    "Texts are searched for among the tenth of the faces that is held out. Every arm has the same "
    "seeds, images and steps; runs lie in OUT and are never done twice."
)


@dataclass(frozen=True)
class _Setting:
    """What all arms of an experiment share."""

    recipe: FlipRecipe
    tokens: Tokens
    start: Flip | None
    digest: str


def _setting(given: dict[str, Any]) -> _Setting:
    import torch

    from encoders.flip.network import flip_config
    from encoders.flip.recipe import USUAL, FlipRecipe
    from encoders.flip.tokens import load_tokens
    from sfhq.weights.checkpoints import file_digest, pack_path

    torch.set_flush_denormal(True)
    check_device("cpu")
    tokens = load_tokens(None)
    config = flip_config(given["size"], len(tokens))
    start, digest = None, ""
    if given["stem"] is not None and config.vision.stem is None:
        raise UsageError("--stem is for --config hybrid")
    if config.vision.stem is not None:
        start = started_on_stem(config, given["stem"], 0)
        config, digest = start.config, file_digest(given["stem"] or pack_path("labels"))
    recipe = FlipRecipe(
        config,
        images=given["images"],
        batch=given["batch"],
        matching=float(given["matching"]),
        precision=given["precision"],
        warm_up=min(3000, given["images"] // 10),
        alpha_images=given["images"],
        keep_stem=config.vision.stem is not None,
        **USUAL[given["size"]],
    )
    return _Setting(recipe, tokens, start, digest)


def _pairs(values: Sequence[str], option: str) -> list[tuple[str, str]]:
    """NAME=VALUE, several times."""
    found = []
    for value in values:
        name, _, rest = value.partition("=")
        if not name or not rest or "/" in name:
            wanted = "KIND+KIND" if option == "--join" else "FILE"
            raise UsageError(f"{option} {value!r}: wanted NAME={wanted}")
        found.append((name, rest))
    return found


def _named(values: Sequence[str], option: str) -> dict[str, str]:
    """NAME=VALUE, several times; no name twice."""
    found: dict[str, str] = {}
    for name, rest in _pairs(values, option):
        if name in found:
            raise UsageError(f"{option}: {name} is named twice")
        found[name] = rest
    return found


def _facts(*groups: Sequence[Path]) -> Any:
    """What is known of the faces; None where a source is no part or nothing is known."""
    from encoders.flip.studies.facts import FaceFacts, facts_of

    try:
        found = [facts_of(parts) for parts in groups if parts]
    except UsageError:
        return None
    return FaceFacts({name: face for facts in found for name, face in facts.faces.items()})


def _tell(found: Comparison, as_json: bool) -> None:
    click.echo(json.dumps(found.to_dict(), indent=1) if as_json else found.lines())


def _progress(line: str) -> None:
    say(line, err=True)


@click.command("caption-ablate", epilog=EXPERIMENT)
@PARTS
@click.option(
    "--captions",
    "tables",
    multiple=True,
    help="NAME=TABLE of another kind of captions of the same faces; may be repeated, also with one "
    "name for the tables of several parts. TABLE is a .csv or .tsv with face (or file) and text.",
)
@click.option(
    "--join",
    "joins",
    multiple=True,
    help="NAME=KIND+KIND: an arm of the captions of some kinds together; may be repeated.",
)
@click.option(
    "--test",
    "tested",
    type=FOLDER,
    multiple=True,
    help="Part to test with, instead of the held-out tenth; may be repeated. All of PARTS is "
    "trained on then. The tables tell its captions as well.",
)
@click.option("--column", default="text", show_default=True, help="Column of the texts.")
@click.option("--separator", default="", help="What stands between several texts of one cell.")
@click.option(
    "--own", default="grammar", show_default=True, help="Name of the parts' own captions."
)
@RUN
def caption_ablate(
    parts: tuple[Path, ...],
    tables: tuple[str, ...],
    joins: tuple[str, ...],
    tested: tuple[Path, ...],
    column: str,
    separator: str,
    own: str,
    out: Path,
    seeds: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Which captions train best: train on each kind, and on all, and test with every kind.

    `sfhq annotations captions` writes tables of templates and paraphrases; a table may as well hold
    what people wrote.

    \b
    Example:
      sfhq annotations captions part-05 template.csv --form template
      sfhq annotations captions part-05 paraphrase.csv --form paraphrase
      sfhq flip caption-ablate part-05 --captions template=template.csv \\
        --captions paraphrase=paraphrase.csv --join both=grammar+paraphrase --out runs/ablate
    """
    from encoders.flip.data import load_captioned
    from encoders.flip.studies.ablation import caption_arms, compare
    from encoders.flip.studies.arms import read_texts, with_texts

    texts: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, path in _pairs(tables, "--captions"):
        told = texts.setdefault(name, {})
        for face, said in read_texts(Path(path), column, separator).items():
            told[face] = told.get(face, ()) + said
    if own in texts:
        raise UsageError(f"--own {own}: is the name of a table as well")
    joined = {name: kinds.split("+") for name, kinds in _named(joins, "--join").items()}
    setting = _setting(given)

    def kinds_of(sources: tuple[Path, ...]) -> dict[str, Captioned]:
        data = load_captioned(sources, setting.recipe.config.vision.size)
        return {own: data, **{name: with_texts(data, told) for name, told in texts.items()}}

    arms, tests = caption_arms(
        kinds_of(parts),
        setting.recipe,
        setting.start,
        setting.digest,
        kinds_of(tested) if tested else None,
        joined,
    )
    facts = _facts(parts, tested)
    found = compare(arms, tests, range(seeds), setting.tokens, out, facts, _progress)
    _tell(found, as_json)


@click.command("compare-pretraining", epilog=EXPERIMENT)
@PARTS
@click.option(
    "--start",
    "starts",
    multiple=True,
    help="NAME=WEIGHTS of a FLIP to start from; may be repeated. The arm `none` starts from random "
    "weights of --config.",
)
@RUN
def compare_pretraining(
    parts: tuple[Path, ...],
    starts: tuple[str, ...],
    out: Path,
    seeds: int,
    as_json: bool,
    **given: Any,
) -> None:
    """What a start is worth: train from each on the same images, as long, and test alike.

    \b
    Example:
      sfhq flip compare-pretraining part-05 --start faces=a.safetensors \\
        --start alt-text=b.safetensors --out runs/starts
    """
    import torch

    from encoders.flip.data import load_captioned
    from encoders.flip.network import Flip, load_flip
    from encoders.flip.studies.ablation import compare, start_arms
    from encoders.flip.tokens import vocabulary_of

    setting = _setting(given)
    named: dict[str, tuple[Flip, Path | None]] = {}
    torch.manual_seed(0)
    named["none"] = (setting.start or Flip(setting.recipe.config), None)
    for name, path in _named(starts, "--start").items():
        loaded = load_flip(Path(path))
        if vocabulary_of(loaded.notes, None).words != setting.tokens.words:
            raise UsageError(f"--start {name}: has another vocabulary than the other arms")
        named[name] = (loaded.network, Path(path))
    data = load_captioned(parts, setting.recipe.config.vision.size)
    arms, tests = start_arms(data, setting.recipe, named)
    found = compare(arms, tests, range(seeds), setting.tokens, out, _facts(parts), _progress)
    _tell(found, as_json)


@click.command("scaling", epilog=EXPERIMENT)
@PARTS
@click.option(
    "--shares",
    default="0.125,0.25,0.5,1",
    show_default=True,
    help="Shares of the images, separated by commas.",
)
@RUN
def scaling(
    parts: tuple[Path, ...], shares: str, out: Path, seeds: int, as_json: bool, **given: Any
) -> None:
    """How much more images would help: train on shares of them, and fit a power law.

    \b
    Example:
      sfhq flip scaling part-05 --shares 0.25,0.5,1 --out runs/scaling
    """
    from encoders.flip.data import load_captioned
    from encoders.flip.studies.ablation import compare, power_law, size_arms

    try:
        wanted = [float(s) for s in shares.split(",")]
    except ValueError:
        raise UsageError(f"--shares {shares!r}: wanted numbers separated by commas") from None
    setting = _setting(given)
    data = load_captioned(parts, setting.recipe.config.vision.size)
    arms, tests = size_arms(data, setting.recipe, wanted, setting.start, setting.digest)
    found = compare(arms, tests, range(seeds), setting.tokens, out, _facts(parts), _progress)
    counts = [float(arm) for arm in found.arms]
    errors = [1 - float(found.scores[arm, "held out"].mean()) for arm in found.arms]
    law = None
    if len(counts) > 1 and min(errors) > 0:
        law = power_law(counts, errors)
    if as_json:
        told = found.to_dict() | {"law": law and dict(zip(("a", "b", "r2"), law, strict=True))}
        click.echo(json.dumps(told, indent=1))
        return
    click.echo(found.lines())
    if law is not None:
        a, b, r2 = law
        click.echo(
            f"\n1 - R@10 = {a:.3g} x images ^ -{b:.3f} (R² {r2:.3f}); with twice as many: "
            f"{1 - a * (2 * counts[-1]) ** -b:.3f} by this law"
        )
