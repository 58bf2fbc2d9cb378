"""Experiments with FLIP, as commands of the group `flip`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from encoders.commands.flip import started_on_stem
from sfhq.commands.numbers import SEED, Finite
from sfhq.commands.train import batch_option
from sfhq.console import FOLDER, Command, options, say
from sfhq.errors import UsageError

if TYPE_CHECKING:
    from encoders.flip.network import Flip
    from encoders.flip.recipe import FlipRecipe
    from encoders.flip.studies.ablation import Comparison
    from encoders.flip.tokens import Tokens

PARTS = click.argument("parts", type=FOLDER, nargs=-1, required=True)
WEIGHTS = click.option(
    "--flip", "weights", type=FOLDER, help="FLIP weights; default: embedded pack."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
run_options = options(
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
    batch_option(64, "Images"),
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
        help="Label network whose backbone a hybrid reads; default: embedded pack.",
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
    from encoders.flip.recipe import FlipRecipe
    from encoders.flip.tokens import load_tokens
    from sfhq.weights.checkpoints import file_digest, pack_path

    torch.set_flush_denormal(True)
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
        warm_up=min(2000, given["images"] // 10),
        queue=1024,
        momentum=0.99,
        alpha_images=given["images"],
        keep_stem=config.vision.stem is not None,
    )
    return _Setting(recipe, tokens, start, digest)


def _named(values: Sequence[str], option: str) -> dict[str, str]:
    """NAME=VALUE, several times."""
    found: dict[str, str] = {}
    for value in values:
        name, _, rest = value.partition("=")
        if not name or not rest or "/" in name:
            raise UsageError(f"{option} {value!r}: wanted NAME=FILE")
        if name in found:
            raise UsageError(f"{option}: {name} is named twice")
        found[name] = rest
    return found


def _facts(parts: Sequence[Path], by: Sequence[str] = ()) -> Any:
    """What is known of the faces; None where a source is no part or nothing is known."""
    from encoders.flip.studies.facts import facts_of

    try:
        return facts_of(parts, by)
    except UsageError:
        return None


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
    help="NAME=TABLE of another kind of captions of the same faces; may be repeated. TABLE is a "
    ".csv or .tsv with face (or file) and text.",
)
@click.option("--column", default="text", show_default=True, help="Column of the texts.")
@click.option("--separator", default="", help="What stands between several texts of one cell.")
@click.option(
    "--own", default="grammar", show_default=True, help="Name of the parts' own captions."
)
@run_options
def caption_ablate(
    parts: tuple[Path, ...],
    tables: tuple[str, ...],
    column: str,
    separator: str,
    own: str,
    out: Path,
    seeds: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Which captions train best: train on each kind, and on all, and test with every kind.

    `sfhq annotations captions` writes tables of templates and paraphrases.

    \b
    Example:
      sfhq annotations captions part-05 template.csv --form template
      sfhq annotations captions part-05 paraphrase.csv --form paraphrase
      sfhq flip caption-ablate part-05 --captions template=template.csv \\
        --captions paraphrase=paraphrase.csv --out runs/ablate
    """
    from encoders.flip.data import load_captioned
    from encoders.flip.studies.ablation import caption_arms, compare
    from encoders.flip.studies.arms import read_texts, with_texts

    named = _named(tables, "--captions")
    texts = {name: read_texts(Path(path), column, separator) for name, path in named.items()}
    setting = _setting(given)
    data = load_captioned(parts, setting.recipe.config.vision.size)
    if own in texts:
        raise UsageError(f"--own {own}: is the name of a table as well")
    sets = {own: data, **{name: with_texts(data, told) for name, told in texts.items()}}
    arms, tests = caption_arms(sets, setting.recipe, setting.start, setting.digest)
    found = compare(arms, tests, range(seeds), setting.tokens, out, _facts(parts), _progress)
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
@run_options
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
@run_options
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


@click.command("probe")
@PARTS
@WEIGHTS
@click.option(
    "--shares",
    default="0.01,0.1,1",
    show_default=True,
    help="Shares of the images to train linear models on, separated by commas.",
)
@JSON
def probe_command(
    parts: tuple[Path, ...], weights: Path | None, shares: str, as_json: bool
) -> None:
    """How much the image network says of attributes: by linear models, and by words alone.

    Faces need attributes (render, or sfhq attribute) and captions. Tested on the held-out tenth.

    \b
    Example:
      sfhq flip probe heads --flip runs/flip/flip.safetensors
    """
    from encoders.flip.data import load_captioned
    from encoders.flip.network import load_flip
    from encoders.flip.studies.arms import table
    from encoders.flip.studies.facts import facts_of
    from encoders.flip.studies.probe import probe, zero_shot
    from encoders.flip.tokens import vocabulary_of

    try:
        wanted = [float(s) for s in shares.split(",")]
    except ValueError:
        raise UsageError(f"--shares {shares!r}: wanted numbers separated by commas") from None
    if not all(0 < s <= 1 for s in wanted):
        raise UsageError(f"--shares {shares!r}: wanted more than 0, at most 1")
    loaded, facts = load_flip(weights), facts_of(parts)
    data = load_captioned(parts, loaded.network.config.vision.size)
    train, test = data.split()
    if not len(test):
        raise UsageError("no face is held out; give more images")
    rows = {"words alone": zero_shot(loaded.network, vocabulary_of(loaded.notes), facts, test)}
    for share in wanted:
        try:
            rows[f"{100 * share:g} %"] = probe(loaded.network, facts, train, test, share)
        except UsageError as error:
            say(f"{100 * share:g} %: {error}", err=True)
    if as_json:
        told = {
            name: {"trained": r.trained, "tested": r.tested, "auc": r.auc, "balanced": r.balanced}
            for name, r in rows.items()
        }
        click.echo(json.dumps(told, indent=1))
        return
    head = ["trained on", "images", "attributes", "mean AUC", "mean balanced accuracy"]
    cells = [
        [name, str(r.trained), str(len(r.auc)), f"{r.mean_auc:.3f}", f"{r.mean_balanced:.3f}"]
        for name, r in rows.items()
    ]
    click.echo(table(head, cells))
    last = rows[next(reversed(rows))]
    click.echo("")
    order = sorted(last.auc, key=lambda n: -last.auc[n])
    columns = [
        [n, *(f"{r.auc[n]:.3f}" if n in r.auc else "" for r in rows.values())] for n in order
    ]
    click.echo(table(["AUC", *rows], columns))


@click.command("sketch")
@click.argument("sources", type=FOLDER, nargs=-1, required=True)
@WEIGHTS
@click.option(
    "--steps",
    type=click.IntRange(1, 1000),
    default=70,
    show_default=True,
    help="Steps of each sketch.",
)
@click.option("--pool", type=click.IntRange(2), help="Search among this many images. Default: all.")
@click.option("--all", "everything", is_flag=True, help="Not only the held-out tenth.")
@click.option("--sheet", "picture", type=FOLDER, help="Also draw some photos and their sketches.")
@JSON
def sketch(
    sources: tuple[Path, ...],
    weights: Path | None,
    steps: int,
    pool: int | None,
    everything: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Find photos by sketches that are still being drawn, by texts, and by both.

    Sketches are traced from the photos. m@A is the mean ranking percentile over all steps, m@B the
    mean reciprocal rank; w@ weighs early steps more.

    \b
    Example:
      sfhq flip sketch part-05 --flip runs/flip/flip.safetensors --sheet sketches.png
    """
    from dataclasses import asdict

    from encoders.flip.data import load_captioned
    from encoders.flip.evaluation import pool as pooled
    from encoders.flip.network import load_flip
    from encoders.flip.studies.arms import table
    from encoders.flip.studies.sketching import by_sketches, sketch_sheet
    from encoders.flip.tokens import vocabulary_of
    from sfhq.images import write_image

    loaded = load_flip(weights)
    data = load_captioned(sources, loaded.network.config.vision.size)
    data = pooled(data if everything else data.split()[1], pool)
    if len(data) < 2:
        raise UsageError(f"{len(data)} images to search; give more of them, or --all")
    found = by_sketches(loaded.network, vocabulary_of(loaded.notes), data, steps, _progress)
    if picture is not None:
        write_image(picture, sketch_sheet(data, steps), source_type=None)
    if as_json:
        click.echo(json.dumps({name: asdict(s) for name, s in found.items()}, indent=1))
        return
    names = ("m_a", "m_b", "weighted_a", "weighted_b", "a1", "a5", "a10")
    rows = [[k, *(f"{getattr(s, n):.4f}" for n in names)] for k, s in found.items()]
    click.echo(f"{len(data)} photos, {steps} steps")
    click.echo(table(["by", "m@A", "m@B", "w@mA", "w@mB", "A@1", "A@5", "A@10"], rows))


@click.command("fairness-report")
@PARTS
@WEIGHTS
@click.option(
    "--by",
    multiple=True,
    default=("sex", "age"),
    show_default=True,
    help="Kind of groups: sex, age, ancestry, glasses, hat, a column, or several joined by ' x '; "
    "may be repeated.",
)
@click.option(
    "--least",
    type=click.IntRange(2),
    default=30,
    show_default=True,
    help="Faces that a group needs to be judged.",
)
@click.option("--labels-only", is_flag=True, help="Without a network: captions and labels alone.")
@click.option("--all", "everything", is_flag=True, help="Not only the held-out tenth.")
@JSON
def fairness_report(
    parts: tuple[Path, ...],
    weights: Path | None,
    by: tuple[str, ...],
    least: int,
    labels_only: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """Whom data and network serve worse: figures by group, intervals, and the worst group.

    Groups are how synthetic faces look, as rendered or predicted. `labels dropped` is the share of
    attributes that were too unsure to count, `lost` that of faces which a stage rejected.

    \b
    Examples:
      sfhq flip fairness-report heads --by sex --by age --by "sex x ancestry"
      sfhq flip fairness-report part-05 --labels-only --by skin_tone
    """
    from encoders.flip.data import load_captioned
    from encoders.flip.network import load_flip
    from encoders.flip.studies.facts import facts_of
    from encoders.flip.studies.fairness import fairness
    from encoders.flip.tokens import vocabulary_of

    facts = facts_of(parts, by)
    if labels_only:
        found = fairness(None, None, None, facts, by, least)
    else:
        loaded = load_flip(weights)
        data = load_captioned(parts, loaded.network.config.vision.size)
        data = data if everything else data.split()[1]
        if len(data) < 2:
            raise UsageError("no face is held out; give more images, or --all")
        found = fairness(loaded.network, vocabulary_of(loaded.notes), data, facts, by, least)
    click.echo(json.dumps(found.to_dict(), indent=1) if as_json else found.lines())


@click.group("human-eval", cls=Command)
def human_eval() -> None:
    """People rate pairs of images and captions on a page that needs no server."""


@human_eval.command("sample")
@click.argument("sources", type=FOLDER, nargs=-1, required=True)
@click.argument("folder", type=FOLDER)
@click.option(
    "--count",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Pairs, before repeats and captions of other faces.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--repeats",
    type=Finite(0, 0.5),
    default=0.05,
    show_default=True,
    help="Share of the pairs that come twice.",
)
@click.option(
    "--foreign",
    type=Finite(0, 0.5),
    default=0.03,
    show_default=True,
    help="Share of the pairs that come once more with the caption of another face.",
)
@click.option("--by", default="", help="Also draw evenly from groups: sex, age, ... or a column.")
@click.option(
    "--size",
    type=click.IntRange(64, 1024),
    default=320,
    show_default=True,
    help="Side of the images in pixels.",
)
def human_eval_sample(
    sources: tuple[Path, ...],
    folder: Path,
    count: int,
    seed: int,
    repeats: float,
    foreign: float,
    by: str,
    size: int,
) -> None:
    """Draw pairs of SOURCES and write a page to rate them on, and its key, to FOLDER.

    Give raters rate.html and keep key.json. 1,000 pairs tell a share of one half within 3.1 %.

    \b
    Example:
      sfhq flip human-eval sample part-05 rating/ --count 1000 --by sex
    """
    from encoders.flip.data import load_captioned
    from encoders.flip.studies.facts import facts_of
    from encoders.flip.studies.ratings import PAGE, draw, write_page

    data = load_captioned(sources, size)
    facts = facts_of(sources, (by,)) if by else None
    items = draw(data, count, seed, repeats, foreign, facts, by)
    write_page(items, data, folder, "Faces and captions")
    say(f"{len(items)} pairs on {folder / PAGE}")


@human_eval.command("score")
@click.argument("key", type=FOLDER)
@click.argument("ratings", type=FOLDER, nargs=-1, required=True)
@JSON
def human_eval_score(key: Path, ratings: tuple[Path, ...], as_json: bool) -> None:
    """What RATINGS, tables that the page saved, say of the pairs of KEY.

    \b
    Example:
      sfhq flip human-eval score rating/key.json ratings-ann.csv ratings-bob.csv
    """
    from encoders.flip.studies.ratings import read_key, read_ratings, score

    items = read_key(key)
    found = score(items, read_ratings(ratings, items))
    click.echo(json.dumps(found.to_dict(), indent=1) if as_json else found.lines())


STUDIES = (
    *(caption_ablate, compare_pretraining, scaling),
    *(probe_command, sketch, fairness_report, human_eval),
)
