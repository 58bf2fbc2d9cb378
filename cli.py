"""The sfhq command: every stage by its name, `run` for all of them, `train` for the networks.

Commands are thin. Each imports what it needs inside itself, so that `sfhq --help` needs neither
torch nor dlib.
"""

from __future__ import annotations

import errno
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from sfhq.errors import SfhqError, UsageError

if TYPE_CHECKING:
    from sfhq.engine import Counts
    from sfhq.part import Part
    from sfhq.recipe import Recipe
    from sfhq.stage import Stage

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path)
EXIT_REJECTIONS = 3
EXIT_INTERRUPTED = 130


class Command(click.Group):
    """A group whose commands end with one line and a meaningful exit code, never a traceback."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the command's name."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _fail_usage(error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn errors a user can mend into one line on stderr."""
        try:
            return super().invoke(ctx)
        except SfhqError as error:
            _fail(str(error), error.exit_code)
        except click.UsageError as error:
            _fail_usage(error)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has gone; click ends quietly
                raise
            _fail(_os_error(error), 1)
        except KeyboardInterrupt:
            _fail("interrupted; run the same command again to go on", EXIT_INTERRUPTED)


def _fail(message: str, code: int) -> None:
    click.echo(f"sfhq: {message}", err=True)
    sys.exit(code)


def _fail_usage(error: click.UsageError) -> None:
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # not in 8.1
        raise error
    where = error.ctx.command_path if error.ctx is not None else "sfhq"
    message = " ".join(error.format_message().split()).rstrip(".")
    _fail(f"{message}; see: {where} --help", UsageError.exit_code)


def _os_error(error: OSError) -> str:
    name = error.filename or "a file"
    advice = {
        errno.ENOSPC: "free some room and run again: what is finished is kept",
        errno.EDQUOT: "free some room and run again: what is finished is kept",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.EACCES: "give this user the right to write there, or choose another folder",
        errno.EPERM: "give this user the right to write there, or choose another folder",
    }.get(error.errno or 0, "run again when it is mended: what is finished is kept")
    return f"{name}: {(error.strerror or str(error)).lower()}; {advice}"


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several option decorators as one."""

    def apply(command: F) -> F:
        return functools.reduce(lambda f, d: d(f), reversed(decorators), command)

    return apply


run_options = options(
    click.option("--workers", default=1, show_default=True, help="Processes that do shards."),
    click.option("--redo", is_flag=True, help="Delete this stage's records and all after it."),
    click.option("--strict", is_flag=True, help="Exit with 3 when faces were rejected."),
    click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON."),
)
model_options = options(
    click.option("--generator", type=FOLDER, help="Generator weights; default: embedded pack."),
    click.option("--e4e", "e4e", type=FOLDER, help="e4e weights; default: embedded pack."),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        help="Of the networks' convolutions.  [default: fp32]",
    ),
)
source_options = options(
    click.option("--only", metavar="GLOB", help="Only files whose name matches."),
    click.option("--limit", type=int, help="At most so many files."),
    click.option("--licence", help="Licence of the sources, for the records."),
    click.option("--provenance", help="Where the sources come from, for the records."),
)
align_options = options(
    click.option("--size", type=int, help="Pixels of the crop; default: the generator's."),
    click.option(
        "--faces",
        type=click.Choice(["best", "single"]),
        help="Of several faces take the best, or reject the image.",
    ),
    click.option("--min-face", type=int, help="Smallest crop in source pixels.  [default: 64]"),
    click.option("--aligned", is_flag=True, default=None, help="Images are FFHQ crops already."),
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


@click.group(
    cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="sfhq", message="%(version)s")
def main() -> None:
    """Make, curate and label synthetic faces.

    \b
    From art to a finished part in one command:
      sfhq run paintings/ part-05
      sfhq sheet part-05
      sfhq show part-05
    """


def _recipe(path: Path | None, **overrides: Any) -> Recipe:
    from sfhq.recipe import load_recipe

    return load_recipe(path, {k.replace("__", "."): v for k, v in overrides.items()})


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(n.strip() for n in text.split(",") if n.strip())


def _stage(name: str, recipe: Recipe, source: str | None = None) -> Stage:
    """Build a stage with its real networks."""
    if name == "ingest":
        from sfhq.ingest import Ingest

        s = recipe.ingest
        return Ingest(source or "", s.only or None, s.limit or None, s.licence, s.provenance)
    if name == "align":
        from annotate.align import Align

        a = recipe.align
        if a.faces not in ("best", "single"):
            raise UsageError(f"align.faces is {a.faces!r}; wanted best or single")
        faces: Literal["best", "single"] = "single" if a.faces == "single" else "best"
        size = a.size or max(256, _networks(recipe)[0].config.resolution)
        return Align.load(
            size=size,
            faces=faces,
            min_face=a.min_face,
            max_padding=a.max_padding,
            aligned=a.aligned,
        )
    if name == "invert":
        from encoders.invert import Invert

        _, _, encoder, digest = _networks(recipe)
        return Invert(encoder, digest, recipe.synthesize.batch)
    if name == "synthesize":
        from sfhq.synthesize import Synthesize

        generator, generator_digest, encoder, digest = _networks(recipe)
        c = recipe.synthesize
        return Synthesize(
            generator,
            generator_digest,
            encoder,
            digest,
            _prior(recipe),
            c.candidates,
            c.keep or None,
            c.max_realism or None,
            recipe.seed,
            c.batch,
            _precision(recipe),
        )
    if name == "embed":
        from encoders.embed import Embed

        return Embed(_image_encoder(recipe))
    from curation.dedup import Dedup

    return Dedup(recipe.dedup.threshold or None)


def _image_encoder(recipe: Recipe) -> Any:
    if recipe.embed.encoder == "dlib-face":
        from encoders.embed import DlibFaceEncoder

        return DlibFaceEncoder()
    if recipe.embed.encoder == "clip":
        from encoders.clip import ClipEncoder

        weights = recipe.models.encoder
        return ClipEncoder(weights=Path(weights) if weights else None)
    raise UsageError(f"unknown encoder {recipe.embed.encoder!r}; wanted dlib-face or clip")


@functools.lru_cache(maxsize=1)
def _networks(recipe: Recipe) -> tuple[Any, str, Any, str]:
    from encoders.e4e import load_e4e, require_pair
    from encoders.inference import PreparedE4e
    from sfhq.checkpoints import load_generator
    from stylegan2_ops.memory import keep_freed_memory

    keep_freed_memory()
    models, precision = recipe.models, _precision(recipe)
    paths = [Path(path) if path else None for path in (models.generator, models.e4e)]
    generator, digest = load_generator(paths[0])
    encoder, encoder_digest = load_e4e(paths[1], generator.config.num_ws)
    require_pair(*paths)
    return generator, digest, PreparedE4e(encoder, precision), encoder_digest


def _precision(recipe: Recipe) -> Literal["fp32", "bf16"]:
    if recipe.models.precision == "fp32":
        return "fp32"
    if recipe.models.precision != "bf16":
        raise UsageError(f"precision {recipe.models.precision!r}: wanted fp32 or bf16")
    from stylegan2_ops.inference import has_fast_bf16

    if not has_fast_bf16():
        raise UsageError(
            "precision bf16: this CPU has neither AVX512-BF16 nor AMX; leave it at fp32"
        )
    return "bf16"


@functools.lru_cache(maxsize=1)
def _prior(recipe: Recipe) -> Any:
    from sfhq.latents import LatentPrior

    return LatentPrior.of(_networks(recipe)[0])


def _run(stage: Stage, part: Part, workers: int, redo: bool, total: int | None = None) -> Counts:
    """Run one stage with a progress bar on stderr."""
    from tqdm import tqdm

    from sfhq.engine import run_stage

    with tqdm(
        total=total, desc=f"{stage.name:<10}", unit=" faces", disable=not sys.stderr.isatty()
    ) as bar:

        def advance(faces: int) -> None:
            bar.update(faces)

        counts = run_stage(stage, part, workers=workers, redo=redo, on_shard=advance)
    return counts


def _total(part: Part, stage: str) -> int | None:
    from sfhq.part import ORDER

    if stage not in ORDER or ORDER.index(stage) == 0:
        return None
    alive = part.stage_info(part.before(stage)).get("counts", {}).get("alive")
    return int(alive) if alive is not None else None


def _report(name: str, counts: Counts, as_json: bool, strict: bool) -> None:
    if as_json:
        click.echo(json.dumps({"stage": name, **counts.to_dict()}, sort_keys=True))
    else:
        click.echo(_sentence(name, counts.to_dict()))
    if strict and counts.rejected:
        sys.exit(EXIT_REJECTIONS)


def _sentence(name: str, counts: dict[str, Any]) -> str:
    rejected = ", ".join(f"{n} {reason}" for reason, n in counts["rejected"].items())
    return f"{name:<10} {counts['entered']:>7} in {counts['alive']:>7} out" + (
        f"   rejected: {rejected}" if rejected else ""
    )


NEEDS = {  # any of these, whose images and arrays a stage reads
    "invert": ("align",),
    "synthesize": ("invert",),
    "align": ("ingest", "render"),
    "embed": ("synthesize", "sample", "align", "ingest", "render"),
    "score": ("embed",),
    "dedup": ("embed",),
}


def _one(
    name: str, folder: Path, recipe: Recipe, flags: dict[str, Any], stage: Stage | None = None
) -> None:
    from sfhq.part import Part

    part = Part.open(folder)
    needed = NEEDS.get(name, ())
    if needed and not set(needed) & set(part.stages()):
        part.stage_info(needed[0])  # says which command is missing
    stage = stage or _stage(name, recipe)
    counts = _run(stage, part, flags["workers"], flags["redo"], _total(part, name))
    _report(name, counts, flags["as_json"], flags["strict"])


@main.command()
@click.argument("source", type=FOLDER)
@click.argument("part", type=FOLDER)
@source_options
@run_options
def ingest(
    source: Path,
    part: Path,
    only: str | None,
    limit: int | None,
    licence: str | None,
    provenance: str | None,
    **flags: Any,
) -> None:
    """Start PART with the images of SOURCE: a folder, a .zip, or a .txt list of files.

    \b
    Example:
      sfhq ingest paintings/ part-05 --only '*.jpg' --licence CC0-1.0
    """
    from sfhq.part import Part

    recipe = _recipe(
        None,
        ingest__only=only,
        ingest__limit=limit,
        ingest__licence=licence,
        ingest__provenance=provenance,
    )
    stage = _stage("ingest", recipe, str(source))
    stage.settings()
    opened = Part.create(part)
    counts = _run(stage, opened, flags["workers"], flags["redo"])
    _report("ingest", counts, flags["as_json"], flags["strict"])


@main.command()
@click.argument("part", type=FOLDER)
@align_options
@model_options
@run_options
def align(
    part: Path,
    size: int | None,
    faces: str | None,
    min_face: int | None,
    aligned: bool | None,
    generator: Path | None,
    e4e: Path | None,
    precision: str | None,
    **flags: Any,
) -> None:
    """Find the face in every image of PART and cut the upright FFHQ crop.

    \b
    Example:
      sfhq align part-05 --faces single --min-face 128
    """
    recipe = _recipe(
        None,
        align__size=size,
        align__faces=faces,
        align__min_face=min_face,
        align__aligned=aligned,
        **_model_overrides(generator, e4e, precision),
    )
    _one("align", part, recipe, flags)


def _model_overrides(
    generator: Path | None, e4e: Path | None, precision: str | None
) -> dict[str, str | None]:
    return {
        "models__generator": str(generator) if generator else None,
        "models__e4e": str(e4e) if e4e else None,
        "models__precision": precision,
    }


@main.command()
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
    _one("invert", part, _recipe(None, **_model_overrides(generator, e4e, precision)), flags)


@main.command()
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
    recipe = _recipe(
        None,
        seed=seed,
        synthesize__candidates=_names(candidates),
        synthesize__keep=keep,
        synthesize__max_realism=max_realism,
        **_model_overrides(generator, e4e, precision),
    )
    _one("synthesize", part, recipe, flags)


@main.command()
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
    from sfhq.part import Part
    from sfhq.sample import Sample

    recipe = _recipe(None, **_model_overrides(generator, e4e, precision))
    stage = Sample(
        *_networks(recipe),
        _prior(recipe),
        count,
        seed,
        psi,
        anchor_psi,
        recipe.synthesize.batch,
        _precision(recipe),
    )
    counts = _run(stage, Part.create(part), flags["workers"], flags["redo"], count)
    _report("sample", counts, flags["as_json"], flags["strict"])


@main.command()
@click.argument("part", type=FOLDER)
@click.option("--count", type=int, required=True, help="How many faces.")
@click.option("--seed", default=0, show_default=True, help="First seed.")
@click.option("--size", default=256, show_default=True, help="Side of the pictures in pixels.")
@click.option(
    "--style",
    "styles",
    default="photo",
    show_default=True,
    metavar="NAMES",
    help="Comma-separated, dealt in turn: photo, oil, watercolour, pencil, cel, low-poly, clay, "
    "pixelated.",
)
@click.option("--recipe", "recipe_path", type=FOLDER, help="TOML file: whom to draw.")
@click.option("--samples", default=3, show_default=True, help="Light paths a pixel.")
@run_options
def render(
    part: Path,
    count: int,
    seed: int,
    size: int,
    styles: str,
    recipe_path: Path | None,
    samples: int,
    **flags: Any,
) -> None:
    """Start PART with rendered heads: nobody's photographs, every label exact.

    Each face is a photograph in renders/, in an art style also in art/, with 19 classes in
    segmentations/, what is behind hair, glasses and clothes in bare/, 110 landmarks, 40 attributes,
    pose and gaze. Needs: pip install 'sfhq[render]'

    \b
    Examples:
      sfhq render heads --count 10000 --seed 1 --style photo,oil --workers 2
      sfhq run heads part-05                 # its pictures as inspirations
      sfhq sheet heads --labels
    """
    from sfhq.part import Part
    from sfhq.render.recipe import load_render_recipe
    from sfhq.render.render import Render

    recipe = load_render_recipe(recipe_path)
    stage = Render(count, seed, size, _names(styles) or (), recipe, samples)
    stage.settings()  # a package that is missing says so before a folder is made
    counts = _run(stage, Part.create(part), flags["workers"], flags["redo"], count)
    _report("render", counts, flags["as_json"], flags["strict"])


@main.command()
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
    from encoders.embed import Embed

    weights = str(encoder_weights) if encoder_weights else None
    recipe = _recipe(None, embed__encoder=encoder, models__encoder=weights)
    sets = tuple(s for name in _names(features) or () for s in _feature_sets(name, encoder_weights))
    _one("embed", part, recipe, flags, Embed(_image_encoder(recipe), features=sets))


def _feature_sets(name: str, weights: Path | None) -> tuple[Any, ...]:
    if name == "geometry":
        from encoders.geometry import GeometryEncoder

        return (GeometryEncoder(),)
    if name == "efficientnet":
        from encoders.efficientnet import EfficientNetEncoder

        return (EfficientNetEncoder(),)
    if name == "dlib-face":
        from encoders.embed import DlibFaceEncoder

        return (DlibFaceEncoder(),)
    from encoders.presets import preset

    return preset(name, weights)


@main.command()
@click.argument("part", type=FOLDER)
@click.option("--threshold", type=float, help="Cosine; default: the encoder's own.")
@click.option(
    "--published",
    type=FOLDER,
    multiple=True,
    help="An earlier part: its photos stay, and nothing near them does. May be repeated.",
)
@click.option(
    "--way",
    type=click.Choice(["auto", "int8", "bf16", "f32"]),
    default="auto",
    show_default=True,
    help="How pairs are looked for; changes the speed only.",
)
@click.option("--verify", is_flag=True, help="Only prove that no two kept photos are closer.")
@click.option("--calibrate", is_flag=True, help="Only find the threshold that fits the encoder.")
@click.option("--report", type=FOLDER, help="Where --calibrate writes its page.")
@run_options
def dedup(
    part: Path,
    threshold: float | None,
    published: tuple[Path, ...],
    way: Any,
    verify: bool,
    calibrate: bool,
    report: Path | None,
    **flags: Any,
) -> None:
    """Keep the best of every group of near-duplicates in PART.

    \b
    Examples:
      sfhq dedup part-05
      sfhq dedup part-05 --published part-01 --published part-02
      sfhq dedup part-05 --verify
      sfhq dedup part-05 --calibrate --report calibration.html
    """
    from sfhq.errors import UsageError

    if verify and calibrate:
        raise UsageError("--verify and --calibrate do different things; give one of them")
    if calibrate:
        _calibrate(part, report or part / "audit" / "calibration.html", flags["as_json"])
        return
    if verify:
        _verify(part, threshold, published, flags["as_json"])
        return
    from curation.dedup import Dedup

    stage = Dedup(threshold, published=published, way=way)
    _one("dedup", part, _recipe(None), flags, stage)


def _calibrate(part: Path, report: Path, as_json: bool) -> None:
    from curation.calibrate import calibrate, calibration_page, part_photos
    from sfhq.images import write_atomic
    from sfhq.part import Part

    opened = Part.open(part)
    name = str(opened.stage_info("embed")["settings"]["encoder"])
    images, sources = part_photos(opened)
    found = calibrate(name, _image_encoder(_recipe(None, embed__encoder=name)), images, sources)
    report.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(report, calibration_page(found).encode())
    if as_json:
        click.echo(json.dumps(found.to_dict(), sort_keys=True))
        return
    click.echo(f"{name}: threshold {found.threshold:.4f} from {found.photos} photos")
    click.echo(f"  {found.taken} of {found.pairs} pairs of other photos lie above it")
    for copy in found.copies:
        click.echo(f"  {100 * copy.found:5.1f} % of copies found: {copy.name}")
    click.echo(f"page: {report}")


def _verify(
    part: Path, threshold: float | None, published: tuple[Path, ...], as_json: bool
) -> None:
    from curation.dedup import Dedup
    from curation.dedup import verify as prove
    from sfhq.part import Part

    opened = Part.open(part)
    used = threshold or opened.stage_info("dedup")["settings"]["threshold"]
    limit = Dedup(used).threshold_for(opened)
    count = prove(opened, limit, published)
    if as_json:
        click.echo(json.dumps({"photos": count, "threshold": limit}, sort_keys=True))
    else:
        click.echo(f"{count} photos, no two with a cosine above {limit}")


@main.command()
@click.argument("part", type=FOLDER)
@click.option("--port", default=0, show_default="a free one", help="Of the loopback address.")
@click.option("--model", "model_file", type=FOLDER, help="A taste to begin with.")
@click.option("--everything", is_flag=True, help="Also what scores or near-duplicates removed.")
@click.option("--random-share", default=0.08, show_default=True, help="Faces drawn at random.")
@click.option("--repeat-share", default=0.03, show_default=True, help="Faces shown twice, unsaid.")
@click.option("--overlap", default=0.1, show_default=True, help="Faces that everybody gets.")
@click.option("--retrain", default=25, show_default=True, help="Labels between two trainings.")
@click.option("--blind", is_flag=True, help="Never show a score.")
@click.option("--seed", default=0, show_default=True, help="Of the order.")
def curate(
    part: Path,
    port: int,
    model_file: Path | None,
    everything: bool,
    random_share: float,
    repeat_share: float,
    overlap: float,
    retrain: int,
    blind: bool,
    seed: int,
) -> None:
    """Judge the faces of PART in a page: keep, reject, and a model that learns beside it.

    Labels go to PART/labels.sqlite as they are made. Images are never moved.

    \b
    Example:
      sfhq curate part-05
    """
    from curation.faces import Faces
    from curation.labels import FILE, LabelStore
    from curation.server import free_port, new_token, serve
    from curation.session import Session, SessionSettings
    from curation.taste import TasteModel
    from sfhq.lock import folder_lock
    from sfhq.part import Part

    settings = SessionSettings(
        random_share=random_share,
        repeat_share=repeat_share,
        overlap=overlap,
        retrain_every=retrain,
        seed=seed,
    )
    faces = Faces.of(Part.open(part), everything)
    model = TasteModel.load(model_file) if model_file else None
    folder = part / "curation"
    folder.mkdir(exist_ok=True)
    with folder_lock(folder), LabelStore(part / FILE) as store, free_port(port) as sock:
        session = Session(faces, store, settings, model)
        token = new_token()
        click.echo(f"http://127.0.0.1:{sock.getsockname()[1]}/?token={token}")
        click.echo(f"{len(faces)} faces; stop with Ctrl-C, nothing is lost", err=True)
        try:
            serve(session, sock, token, blind)
        finally:
            session.close()


@main.group(cls=Command)
def labels() -> None:
    """Bring labels in and out."""


@labels.command("export")
@click.argument("part", type=FOLDER)
@click.argument("target", type=FOLDER)
@click.option("--events", is_flag=True, help="Every event instead of what counts now.")
def labels_export(part: Path, target: Path, events: bool) -> None:
    """Write the labels of PART to TARGET (.csv, .jsonl or .parquet).

    \b
    Example:
      sfhq labels export part-05 labels.csv
    """
    from curation.exchange import export_labels
    from curation.labels import FILE, LabelStore

    with LabelStore(part / FILE, readonly=True) as store:
        click.echo(f"{export_labels(store, target, current=not events)} rows in {target}")


@labels.command("import")
@click.argument("part", type=FOLDER)
@click.argument("source", type=FOLDER)
@click.option("--annotator", default="import", show_default=True, help="Whose labels they are.")
def labels_import(part: Path, source: Path, annotator: str) -> None:
    """Store the labels of SOURCE in PART.

    SOURCE is a .csv, .jsonl or .parquet file with face_id, image_hash or file and with
    action or label, or a folder with positively_labeled and negatively_labeled.

    \b
    Example:
      sfhq labels import part-05 taste/ --annotator david
    """
    from curation.exchange import import_labels
    from curation.faces import Faces
    from curation.labels import FILE, LabelStore
    from sfhq.part import Part

    faces = Faces.of(Part.open(part), everything=True)
    hashes = {r.face_id: faces.hash_of(i) for i, r in enumerate(faces.records)}
    names = {Path(r.source).name: r.face_id for r in faces.records if r.source and not r.parent_id}
    with LabelStore(part / FILE) as store:
        stored, unknown = import_labels(store, source, hashes, annotator, names)
    click.echo(f"{stored} labels stored" + (f", {unknown} name no face here" if unknown else ""))


@main.group(cls=Command)
def taste() -> None:
    """Learn what somebody likes from the labels of a part."""


def _taste_data(part: Path, annotator: str | None) -> tuple[Any, Any, Any, Any]:
    import numpy as np

    from curation.faces import Faces
    from curation.judge import near_groups
    from curation.labels import FILE, LabelStore
    from sfhq.part import Part

    faces = Faces.of(Part.open(part), everything=True)
    with LabelStore(part / FILE, readonly=True) as store:
        known = store.labels(annotator)
    rows = np.array([i for i, r in enumerate(faces.records) if r.face_id in known], dtype=np.int64)
    liked = np.array([known[faces.records[i].face_id] for i in rows.tolist()], dtype=bool)
    blocks = {name: block[rows] for name, block in faces.feature_sets().items()}
    if not blocks:
        raise UsageError(f"{part}: no features yet; run: sfhq embed --features geometry")
    widest = blocks.get("embedding", next(iter(blocks.values())))
    parents: dict[str, int] = {}
    group = near_groups(_unit(widest))
    for place, i in enumerate(rows.tolist()):  # candidates of one inspiration stay together
        parent = faces.records[i].parent_id
        if parent:
            group[place] = group[parents.setdefault(parent, place)]
    return faces, rows, (blocks, group), liked


def _unit(rows: Any) -> Any:
    import numpy as np

    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


@taste.command("fit")
@click.argument("part", type=FOLDER)
@click.option("--out", type=FOLDER, help="[default: PART/curation/taste.safetensors]")
@click.option("--annotator", help="Whose labels; default: everybody's majority.")
@click.option("--precision", default=0.95, show_default=True, help="Of accepted and rejected.")
def taste_fit(part: Path, out: Path | None, annotator: str | None, precision: float) -> None:
    """Learn a taste from the labels of PART.

    \b
    Example:
      sfhq taste fit part-05 --precision 0.97
    """
    from curation.judge import auc_with_interval
    from curation.taste import TasteSettings, fit_taste

    _, _, (blocks, groups), liked = _taste_data(part, annotator)
    model = fit_taste(blocks, liked, groups, TasteSettings(precision=precision))
    target = out or part / "curation" / "taste.safetensors"
    model.save(target)
    auc = auc_with_interval(model.out_of_fold, liked)
    click.echo(f"{target}: version {model.version}, {model.counts[0]} kept, {model.counts[1]} not")
    click.echo(f"cross-validated AUC {auc[0]:.3f} ({auc[1]:.3f} to {auc[2]:.3f})")
    click.echo(f"accept from {model.accept:.3f}, reject up to {model.reject:.3f}")


@taste.command("evaluate")
@click.argument("part", type=FOLDER)
@click.option("--annotator", help="Whose labels; default: everybody's majority.")
@click.option("--precision", default=0.95, show_default=True, help="Of accepted and rejected.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--report", type=FOLDER, help="Write a page with plots here.")
def taste_evaluate(
    part: Path, annotator: str | None, precision: float, as_json: bool, report: Path | None
) -> None:
    """Measure, on labels that had no part in it, how good a taste of PART is.

    \b
    Examples:
      sfhq taste evaluate part-05
      sfhq taste evaluate part-05 --report taste.html
    """
    from curation.judge import evaluate_taste
    from curation.report import taste_page
    from curation.taste import TasteSettings
    from sfhq.images import write_atomic

    faces, rows, (blocks, groups), liked = _taste_data(part, annotator)
    found = evaluate_taste(blocks, liked, groups, TasteSettings(precision=precision))
    if report is not None:
        disputed = [faces.preview(int(rows[i]), 160) for i in found.disputed]
        report.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(report, taste_page(found, liked, disputed, faces.part.name).encode())
    if as_json:
        click.echo(json.dumps(found.to_dict(), sort_keys=True))
        return
    low, high = found.auc[1:]
    click.echo(f"{found.count[0]} kept, {found.count[1]} not; feature sets: {', '.join(blocks)}")
    click.echo(f"AUC {found.auc[0]:.3f} ({low:.3f} to {high:.3f}), nested cross-validation")
    for name, share in (
        ("right at 0.5", found.accuracy),
        ("accepted are kept", found.accepted),
        ("rejected are not", found.rejected),
    ):
        click.echo(
            f"{name:<18} {share.value:.3f} ({share.low:.3f} to {share.high:.3f}), {share.count}"
        )
    click.echo(f"calibration error  {found.calibration_error:.3f}")
    if report is not None:
        click.echo(f"page: {report}")


@taste.command("report")
@click.argument("part", type=FOLDER)
@click.option("--out", type=FOLDER, help="[default: PART/curation/taste.html]")
@click.option("--annotator", help="Whose labels; default: everybody's majority.")
@click.option("--precision", default=0.95, show_default=True, help="Of accepted and rejected.")
@click.pass_context
def taste_report(
    ctx: click.Context, part: Path, out: Path | None, annotator: str | None, precision: float
) -> None:
    """Evaluate, and write a page with histograms, precision, calibration and a learning curve.

    \b
    Example:
      sfhq taste report part-05
    """
    page = out or part / "curation" / "taste.html"
    ctx.invoke(taste_evaluate, part=part, annotator=annotator, precision=precision, report=page)


@main.command()
@click.argument("part", type=FOLDER)
@click.option("--model", "model_file", type=FOLDER, help="[default: PART/curation/taste...]")
@click.option("--drop", is_flag=True, help="Remove faces that the model rejects.")
@run_options
def score(part: Path, model_file: Path | None, drop: bool, **flags: Any) -> None:
    """Score every face of PART: accept, reject or unsure.

    \b
    Example:
      sfhq score part-05 --drop
    """
    from curation.score import Score

    model = model_file or part / "curation" / "taste.safetensors"
    _one("score", part, _recipe(None), flags, Score.load(model, drop))


@main.command(name="export")
@click.argument("part", type=FOLDER)
@click.argument("target", type=FOLDER)
@click.option("--format", "layout", type=click.Choice(["sfhq"]), default="sfhq", show_default=True)
@click.option("--name", help="Prefix of the file names; default: the part's name.")
@click.option("--image-format", type=click.Choice(["jpg", "png"]), help="[default: jpg]")
@click.option("--quality", type=click.IntRange(1, 100), help="Of JPEG.  [default: 95]")
def export_command(
    part: Path,
    target: Path,
    layout: str,
    name: str | None,
    image_format: str | None,
    quality: int | None,
) -> None:
    """Write the photos of PART that stayed to TARGET, with labels and a manifest.

    \b
    Example:
      sfhq export part-05 SFHQ_part5 --name SFHQ_pt5
    """
    from sfhq.part import Part

    del layout
    recipe = _recipe(
        None,
        export__name=name,
        export__image_format=image_format,
        export__quality=quality,
    )
    click.echo(_export(Part.open(part), target, recipe))


def _file_name(name: str) -> str:
    """A part's name as a prefix of file names."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return kept.lstrip("._-")[:64] or "part"


def _export(part: Part, target: Path, recipe: Recipe) -> str:
    from tqdm import tqdm

    from annotate.detect import face_landmarks
    from sfhq.export.sfhq_layout import export_sfhq

    settings = recipe.export
    with tqdm(desc="export    ", unit=" faces", disable=not sys.stderr.isatty()) as bar:
        done = export_sfhq(
            part,
            target,
            name=settings.name or _file_name(part.name),
            landmarker=face_landmarks,
            image_format=settings.image_format,
            quality=settings.quality,
            on_image=lambda: bar.update(1) and None,
        )
    return f"export     {done.images:>7} photos in {done.root}"


PIPELINE = ("ingest", "align", "invert", "synthesize", "embed", "dedup")


@main.command()
@click.argument("source", type=FOLDER)
@click.argument("part", type=FOLDER)
@click.option("--recipe", "recipe_path", type=FOLDER, help="TOML file; flags go before it.")
@source_options
@align_options
@candidate_options
@click.option("--encoder", help="dlib-face or clip.  [default: dlib-face]")
@click.option("--threshold", type=float, help="Cosine for near-duplicates.")
@click.option("--seed", type=int, help="Seed of everything random.  [default: 0]")
@click.option("--export/--no-export", "wants_export", default=True, help="Write PART/export.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@model_options
@run_options
def run(
    source: Path,
    part: Path,
    recipe_path: Path | None,
    wants_export: bool,
    dry_run: bool,
    workers: int,
    redo: bool,
    strict: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """From the art in SOURCE to a finished PART: all stages in a row, resumed where it stopped.

    \b
    Examples:
      sfhq run paintings/ part-05
      sfhq run paintings.zip part-05 --recipe part-05.toml --candidates strict,low
      sfhq run crops/ part-05 --aligned --dry-run
    """
    from sfhq.part import Part

    recipe = _recipe(recipe_path, **_run_overrides(flags))
    stage = _stage("ingest", recipe, str(source))
    if dry_run:
        click.echo(_plan(stage, part, recipe, as_json))
        return
    stage.settings()  # a source that is not there says so before networks are read
    stages = {name: _stage(name, recipe, str(source)) for name in PIPELINE}
    for built in stages.values():
        built.settings()
    opened = Part.create(part)
    rows = []
    rejected = False
    for index, (name, built) in enumerate(stages.items()):
        counts = _run(built, opened, workers, redo and index == 0, _total(opened, name))
        rejected = rejected or bool(counts.rejected)
        rows.append({"stage": name, **counts.to_dict()})
        if not as_json:
            click.echo(_sentence(name, rows[-1]))
        if not counts.alive:
            raise SfhqError(
                f"{part}: no face was left after {name} "
                f"({_sentence(name, rows[-1]).split('rejected: ')[-1]}); see: sfhq show {part}"
            )
    if wants_export:
        line = _export(opened, part / "export", recipe)
        if not as_json:
            click.echo(line)
    if as_json:
        click.echo(json.dumps({"part": str(part), "stages": rows}, sort_keys=True))
    if strict and rejected:
        sys.exit(EXIT_REJECTIONS)


def _run_overrides(flags: dict[str, Any]) -> dict[str, Any]:
    tables = {
        "ingest": ("only", "limit", "licence", "provenance"),
        "align": ("size", "faces", "min_face", "aligned"),
        "synthesize": ("keep", "max_realism"),
        "embed": ("encoder",),
        "dedup": ("threshold",),
    }
    overrides = {f"{t}__{key}": flags[key] for t, keys in tables.items() for key in keys}
    return {
        **overrides,
        "seed": flags["seed"],
        "synthesize__candidates": _names(flags["candidates"]),
        **_model_overrides(flags["generator"], flags["e4e"], flags["precision"]),
    }


def _plan(stage: Any, part: Path, recipe: Recipe, as_json: bool) -> str:
    from sfhq.candidates import check_names
    from sfhq.part import Part

    check_names(recipe.synthesize.candidates)
    images = len(stage.names())
    made = images * len(recipe.synthesize.candidates)
    done = {
        name: bool(Part.open(part).stage_info(name)["complete"])
        for name in (Part.open(part).stages() if (part / "part.json").is_file() else [])
    }
    states = {name: "done" if done.get(name) else "to do" for name in PIPELINE}
    plan = {
        "part": str(part),
        "images": images,
        "candidates": list(recipe.synthesize.candidates),
        "photos_at_most": made,
        "stages": states,
    }
    if as_json:
        return json.dumps(plan, sort_keys=True)
    lines = [f"{name:<10} {state}" for name, state in states.items()]
    head = f"{images} images, at most {made} photos ({', '.join(recipe.synthesize.candidates)})"
    return "\n".join([head, *lines])


@main.command()
@click.argument("part", type=FOLDER)
@click.option("--rejections", default=10, show_default=True, help="Examples to list a stage.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(part: Path, rejections: int, as_json: bool) -> None:
    """Print the funnel of PART: faces in and out of every stage, and why others left.

    \b
    Example:
      sfhq show part-05 --rejections 3
    """
    from sfhq.engine import funnel
    from sfhq.part import Part

    opened = Part.open(part)
    rows = funnel(opened)
    if as_json:
        click.echo(json.dumps({"part": opened.name, "stages": rows}, sort_keys=True))
        return
    for row in rows:
        if "entered" not in row:
            click.echo(f"{row['stage']:<10} not ended; run: sfhq {row['stage']} {part}")
            continue
        click.echo(_sentence(row["stage"], row))
        if not row["rejected"]:
            continue
        gone = (r for r in opened.records(row["stage"]) if not r.alive)
        for _, record in zip(range(rejections), gone, strict=False):
            name = record.source if row["stage"] in ("ingest", "align") else record.face_id
            click.echo(f"           {name}: {record.reason}: {record.detail}")


@main.command()
@click.argument("part", type=FOLDER)
@click.option("--out", type=FOLDER, help="Image to write; default: PART/sheet.png.")
@click.option("--rows", default=12, show_default=True, help="Rows a page.")
@click.option("--cell", default=160, show_default=True, help="Pixels of a picture.")
@click.option("--pages", type=int, help="At most so many pages.")
@click.option("--labels", is_flag=True, help="Of rendered heads: classes and landmarks beside.")
def sheet(
    part: Path, out: Path | None, rows: int, cell: int, pages: int | None, labels: bool
) -> None:
    """Draw contact sheets of PART: every inspiration with its candidates beside it.

    \b
    Examples:
      sfhq sheet part-05 --out sheet.png --pages 1
      sfhq sheet heads --labels
    """
    from sfhq.part import Part
    from sfhq.sheet import write_sheets

    for path in write_sheets(
        Part.open(part),
        out or part / "sheet.png",
        rows=rows,
        cell=cell,
        pages=pages,
        labels=labels,
    ):
        click.echo(path)


@main.command()
@click.argument("part", type=FOLDER, default=Path("demo-part"))
def demo(part: Path) -> None:
    """Bring the shipped sample art to life in PART (default: demo-part).

    \b
    Example:
      sfhq demo
    """
    samples = Path(__file__).parent / "sfhq" / "samples"
    licence = ["--licence", "CC0-1.0", "--provenance", "sfhq sample art"]
    main.main(["run", str(samples), str(part), *licence], standalone_mode=False)
    click.echo("contact sheet:")
    main.main(["sheet", str(part)], standalone_mode=False)


@main.group(cls=Command)
def train() -> None:
    """Train the networks of a pack, and judge them."""


train_options = options(
    click.argument("folders", type=FOLDER, nargs=-1, required=True),
    click.option("--out", type=FOLDER, required=True, help="Folder of the run; resumed if there."),
    click.option("--seed", default=0, show_default=True),
    click.option("--minutes", type=float, help="Stop, resumable, after so long."),
    click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
    click.option("--batch", default=16, show_default=True, help="Photos a step."),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        default="fp32",
        show_default=True,
        help="Of the convolutions; bf16 where the machine has it.",
    ),
)


@train.command("generator")
@train_options
@click.option("--resolution", default=128, show_default=True)
@click.option("--channel-base", default=4096, show_default=True, help="Channels x resolution.")
@click.option("--channel-max", default=256, show_default=True, help="Most channels.")
@click.option(
    "--phases",
    default="32:28000,64:40000,128:8000",
    show_default=True,
    help="Resolution:images, growing.",
)
@click.option("--adversarial-from", default=20000, show_default=True, help="In images.")
def train_generator(
    folders: tuple[Path, ...],
    out: Path,
    seed: int,
    minutes: float | None,
    device: str,
    batch: int,
    precision: str,
    resolution: int,
    channel_base: int,
    channel_max: int,
    phases: str,
    adversarial_from: int,
) -> None:
    """Train a generator on FOLDERS of aligned faces; ends with OUT/generator.safetensors.

    A tenth of the photos, chosen by the hash of the file name, is never trained on.

    \b
    Example:
      sfhq train generator part-05/aligned --out runs/g1 --minutes 60
    """
    from dataclasses import asdict

    import torch

    from sfhq.checkpoints import save_generator
    from sfhq.training.features import load_feature_pyramid
    from sfhq.training.generator import (
        GeneratorRecipe,
        GeneratorTraining,
        check_precision,
        parse_phases,
    )
    from sfhq.training.photos import load_photos
    from sfhq.training.run import run_training
    from stylegan2_ops.generator import GeneratorConfig

    torch.set_flush_denormal(True)
    check_precision(precision, device)
    if batch < 2:
        raise UsageError(f"--batch {batch}: wanted 2 or more")
    try:
        config = GeneratorConfig(
            resolution=resolution,
            channel_base=channel_base,
            channel_max=channel_max,
            mapping_layers=1,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    recipe = GeneratorRecipe(
        config,
        parse_phases(phases, resolution),
        batch=batch,
        drawn=(batch + 1) // 2,
        seed=seed,
        adversarial_from=adversarial_from,
        precision=precision,
    )
    photos, held_out = load_photos(folders, resolution).split()
    click.echo(f"{len(photos)} photos, {len(held_out)} held out", err=True)
    training = GeneratorTraining(recipe, photos, load_feature_pyramid(), device)
    settings = {**asdict(recipe), "photos": list(photos.names)}
    limit = None if minutes is None else minutes * 60
    if not run_training(training, out, settings, limit_seconds=limit, say=click.echo):
        click.echo(f"stopped at {training.images} images; run again to go on", err=True)
        return
    generator = training.finish()
    torch.save({"codes": training.latents(), "names": list(photos.names)}, out / "codes.pt")
    notes = {"images": str(training.images)}
    save_generator(out / "generator.safetensors", generator, notes)
    click.echo(out / "generator.safetensors")


@train.command("e4e")
@train_options
@click.option("--generator", type=FOLDER, help="Generator weights; default: embedded pack.")
@click.option("--codes", type=FOLDER, help="codes.pt of the generator's run: known latents.")
@click.option("--images", default=60000, show_default=True, help="Encoded images in all.")
@click.option("--head-width", default=96, show_default=True, help="Channels of the heads.")
@click.option("--widths", default="24,48,96,192", show_default=True, help="Of the backbone.")
@click.option("--depths", default="1,2,2,1", show_default=True, help="Of the backbone.")
def train_e4e(
    folders: tuple[Path, ...],
    out: Path,
    seed: int,
    minutes: float | None,
    device: str,
    batch: int,
    precision: str,
    generator: Path | None,
    codes: Path | None,
    images: int,
    head_width: int,
    widths: str,
    depths: str,
) -> None:
    """Train an encoder for a generator on FOLDERS of aligned faces; ends with OUT/e4e.safetensors.

    \b
    Example:
      sfhq train e4e part-05/aligned --generator runs/g1/generator.safetensors \\
        --codes runs/g1/codes.pt --out runs/e1
    """
    from dataclasses import asdict

    import torch

    from encoders.e4e import E4eConfig, save_e4e
    from encoders.irse import BackboneConfig
    from encoders.training import E4eRecipe, E4eTraining, load_codes
    from sfhq.checkpoints import load_generator
    from sfhq.training.features import load_feature_pyramid
    from sfhq.training.generator import check_precision
    from sfhq.training.photos import load_photos
    from sfhq.training.run import run_training

    torch.set_flush_denormal(True)
    check_precision(precision, device)
    if batch < 2:
        raise UsageError(f"--batch {batch}: wanted 2 or more")
    network, digest = load_generator(generator)
    backbone = BackboneConfig(_four(widths, "--widths"), _four(depths, "--depths"))
    config = E4eConfig(
        network.config.num_ws,
        network.config.resolution,
        network.config.w_dim,
        head_width,
        backbone,
    )
    recipe = E4eRecipe(config, images=images, batch=batch, seed=seed, precision=precision)
    photos, held_out = load_photos(folders, network.config.resolution).split()
    click.echo(f"{len(photos)} photos, {len(held_out)} held out", err=True)
    known = load_codes(codes, photos.names) if codes else None
    training = E4eTraining(recipe, network, photos, load_feature_pyramid(), known, device)
    settings = {**asdict(recipe), "generator": digest, "photos": list(photos.names)}
    limit = None if minutes is None else minutes * 60
    if not run_training(training, out, settings, limit_seconds=limit, say=click.echo):
        click.echo(f"stopped at {training.images} images; run again to go on", err=True)
        return
    notes = {"images": str(training.images), "generator": digest}
    save_e4e(out / "e4e.safetensors", training.averaged, notes)
    click.echo(out / "e4e.safetensors")


def _four(text: str, option: str) -> tuple[int, int, int, int]:
    try:
        a, b, c, d = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: wanted four numbers, such as 24,48,96,192") from None
    return a, b, c, d


@train.command("pack")
@click.option("--generator", type=FOLDER, required=True, help="Of sfhq train generator.")
@click.option("--e4e", "e4e", type=FOLDER, required=True, help="Of sfhq train e4e.")
@click.option("--out", type=FOLDER, required=True, help="Folder to write both to.")
def train_pack(generator: Path, e4e: Path, out: Path) -> None:
    """Write a generator and its encoder as 16-bit files for shipping; prints their sha256.

    \b
    Example:
      sfhq train pack --generator runs/g1/generator.safetensors \\
        --e4e runs/e1/e4e.safetensors --out pack
    """
    from encoders.e4e import load_e4e, save_e4e
    from sfhq.checkpoints import file_digest, load_generator, read_checkpoint, save_generator

    network, _ = load_generator(generator)
    encoder, _ = load_e4e(e4e, network.config.num_ws)
    out.mkdir(parents=True, exist_ok=True)
    notes = read_checkpoint(generator, "generator").notes
    save_generator(out / "generator.safetensors", network, notes, half=True)
    digest = file_digest(out / "generator.safetensors")
    notes = {**read_checkpoint(e4e, "e4e").notes, "generator": digest}
    save_e4e(out / "e4e.safetensors", encoder, notes, half=True)
    for path in (out / "generator.safetensors", out / "e4e.safetensors"):
        click.echo(f"{file_digest(path)}  {path.name}")


@train.command("evaluate")
@click.argument("folders", type=FOLDER, nargs=-1, required=True)
@click.option("--generator", type=FOLDER, help="Generator weights; default: embedded pack.")
@click.option("--e4e", "e4e", type=FOLDER, help="e4e weights; default: embedded pack.")
@click.option("--psi", default=1.0, show_default=True, help="Truncation of the samples.")
@click.option("--count", default=240, show_default=True, help="Images a side.")
@click.option("--plot", type=FOLDER, help="Draw the identity distributions to this .png.")
def train_evaluate(
    folders: tuple[Path, ...],
    generator: Path | None,
    e4e: Path | None,
    psi: float,
    count: int,
    plot: Path | None,
) -> None:
    """Judge a generator and its encoder against the photos in FOLDERS.

    Prints JSON. For the generator, in dlib's recognition space, which it was not trained on:
    Frechet distance, precision and recall (k = 3) beside those of two halves of the photos, the
    share of samples with a face and of near-copies of training photos. For the encoder, on held-out
    photos: the cosine of inverted photos with their originals and with other people.

    \b
    Example:
      sfhq train evaluate part-05/aligned --psi 0.8 --plot identity.png
    """
    from encoders.e4e import load_e4e
    from encoders.evaluate import judge_generator, judge_inversion, plot_identity
    from sfhq.checkpoints import load_generator
    from sfhq.training.photos import load_photos

    network, _ = load_generator(generator)
    encoder, _ = load_e4e(e4e, network.config.num_ws)
    photos = load_photos(folders, network.config.resolution)
    result = judge_generator(network, photos, psi, count).to_dict()
    identity = judge_inversion(network, encoder, photos)
    click.echo(json.dumps({**result, **identity.to_dict()}, indent=1))
    if plot is not None:
        plot_identity(identity, plot)


@main.group(cls=Command)
def models() -> None:
    """Fetch, add and check the weights that others trained."""


name_argument = click.argument("name", metavar="NAME")
pin_option = click.option(
    "--pin", is_flag=True, help="Trust this file where nobody published a digest."
)
licence_option = click.option(
    "--accept-licence",
    "accepted",
    metavar="ID",
    default="",
    envvar="SFHQ_ACCEPT_LICENCE",
    help="Accept the licence of that name.",
)


def _columns(rows: list[tuple[str, ...]], heads: tuple[str, ...]) -> str:
    """A table with a line of heads; columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heads, *rows)
    ]
    return "\n".join(lines)


def _bytes(size: int | None) -> str:
    if size is None:
        return "-"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _trust(pin: bool) -> Callable[[str, int], bool]:
    """Whether to accept a file nobody published a digest of: --pin, or the user when asked."""

    def confirm(digest: str, size: int) -> bool:
        if not (pin or sys.stdin.isatty()):
            return False
        click.echo(f"{size:,} bytes, sha256 {digest}", err=True)
        asked = "nobody published its digest; trust this file and pin it?"
        return pin or click.confirm(asked, err=True)

    return confirm


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def models_list(as_json: bool) -> None:
    """Print the weights we know of, and which are there.

    SHA256 is the beginning of the published digest, or of the pinned one in brackets; info prints
    it whole, with the address and what the licence comes to.

    \b
    Examples:
      sfhq models list
      sfhq models list --json
    """
    from sfhq.model_store import status, to_dict
    from sfhq.model_table import ROWS

    found = [status(row) for row in ROWS]
    if as_json:
        click.echo(json.dumps([to_dict(f) for f in found], sort_keys=True))
        return
    rows: list[tuple[str, ...]] = [
        (
            f.row.name,
            f.state,
            _bytes(f.entry.size if f.entry else f.row.size),
            f.row.sha256[:6] if f.row.sha256 else f"({f.wanted[:6]})" if f.wanted else "-",
            f.row.licence,
            f.row.commercial,
            f.row.purpose,
        )
        for f in found
    ]
    click.echo(_columns(rows, ("NAME", "STATE", "SIZE", "SHA256", "LICENCE", "COMMERCIAL", "WHAT")))


@models.command("fetch")
@name_argument
@licence_option
@pin_option
@click.option("--url", help="A mirror; size and digest must still be right.")
def models_fetch(name: str, accepted: str, pin: bool, url: str | None) -> None:
    """Download the weights NAME into the cache; a broken-off download goes on.

    Size and digest are checked where they were published; where not, the file is pinned once you
    say that you trust it. With SFHQ_OFFLINE or HF_HUB_OFFLINE set nothing is downloaded.

    \b
    Examples:
      sfhq models fetch bisenet --accept-licence CelebAMask-NC
      sfhq models fetch bisenet-resnet18 --accept-licence CelebAMask-NC --pin
    """
    from tqdm import tqdm

    from sfhq import model_fetch, model_store
    from sfhq.model_table import model_row

    row = model_row(name)
    before = model_store.status(row)
    asks = sys.stdin.isatty() and not model_store.offline() and (url or row.url)
    if asks and not (before.sound or accepted):
        click.echo(f"{row.name} is under {row.licence}: {row.terms}", err=True)
        if click.confirm("accept?", err=True):
            accepted = row.licence
    hidden = not sys.stderr.isatty()
    with tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1000, disable=hidden) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = model_fetch.fetch(row, _trust(pin), accepted, url, progress)
    _say_where(found)


def _say_where(found: Any) -> None:
    """Print where weights lie, and where a package finds them; what to do next on stderr."""
    from sfhq.model_store import put_in_hub

    click.echo(found.path)
    if found.state == "installed":
        placed = put_in_hub(found.row)
        if placed is not None:
            click.echo(f"also at {placed}, where face-alignment looks for it", err=True)
    if found.row.converts_to:
        convert = f"sfhq models convert {found.row.name} OUT.safetensors"
        click.echo(f"next: {convert}; then give OUT as {found.row.converts_to}", err=True)


@models.command("add")
@name_argument
@click.argument("file", type=FOLDER)
@pin_option
@licence_option
@click.option("--link", is_flag=True, help="Point at FILE instead of copying it.")
def models_add(name: str, file: Path, pin: bool, accepted: str, link: bool) -> None:
    """Take a FILE you have into the cache, as the weights NAME.

    Size and digest are checked where they were published; where not, --pin trusts the file. Those
    of face-alignment are also put where that package looks, so that it needs no network.

    \b
    Examples:
      sfhq models add e4e-ffhq ~/Downloads/e4e_ffhq_encode.pt
      sfhq models add stylegan2-ffhq-1024-pt stylegan2-ffhq-config-f.pt --pin --link
    """
    from sfhq import model_store
    from sfhq.model_table import model_row

    row = model_row(name)
    found = model_store.add(row, file, _trust(pin), link, accepted)
    click.echo(f"{row.name} is under {row.licence}: {row.terms}", err=True)
    _say_where(found)


@models.command("verify")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def models_verify(names: tuple[str, ...]) -> None:
    """Read the weights that are there and compare their digests; exits with 4 if any differs.

    "unknown" is a file whose digest nobody published and nobody pinned.

    \b
    Examples:
      sfhq models verify
      sfhq models verify bisenet
    """
    from sfhq import model_store
    from sfhq.errors import IntegrityError
    from sfhq.model_table import ROWS, model_row

    rows = tuple(model_row(name) for name in names) or ROWS
    absent = [row.name for row in rows if model_store.status(row).state == "missing"]
    if names and absent:
        raise UsageError(f"{absent[0]}: not there; see: sfhq models info {absent[0]}")
    bad = []
    for found, digest, right in model_store.verify(rows):
        said = {True: "ok", False: "WRONG", None: "unknown"}[right]
        click.echo(f"{found.row.name:<22}  {said:<7}  {digest}")
        if right is False:
            bad.append(found)
    if len(absent) == len(rows):
        click.echo("nothing is there to verify", err=True)
    if bad:
        first = bad[0]
        raise IntegrityError(
            f"{first.path}: wanted sha256 {first.wanted}; delete it, then fetch or add "
            f"{first.row.name} again"
        )


@models.command("convert")
@click.argument("source", metavar="SOURCE")
@click.argument("out", metavar="OUT", type=FOLDER)
@click.option(
    "--generator-out", type=FOLDER, help="Also write the generator inside an e4e checkpoint."
)
@click.option("--force", is_flag=True, help="Replace OUT where it exists.")
def models_convert(source: str, out: Path, generator_out: Path | None, force: bool) -> None:
    """Write a published generator or e4e as safetensors; nothing in SOURCE is run.

    SOURCE is a file, or the name of weights in the cache. Read by content: StyleGAN2 pickles of
    the PyTorch and the TensorFlow release, rosinality's checkpoints, e4e checkpoints.

    \b
    Examples:
      sfhq models convert ffhq.pkl stylegan2-ffhq.safetensors
      sfhq models convert e4e-ffhq e4e.safetensors --generator-out stylegan2-ffhq.safetensors
    """
    from encoders.convert import read_e4e
    from encoders.e4e import save_e4e_state
    from sfhq.checkpoints import save_generator_state
    from sfhq.errors import IntegrityError
    from stylegan2_ops.convert import GeneratorSource, holds_encoder, read_generator
    from stylegan2_ops.inert import BadCheckpoint
    from stylegan2_ops.torch_files import read_weights

    path = _weights_file(source)
    if generator_out is not None and generator_out.resolve() == out.resolve():
        raise UsageError(f"{out}: OUT and --generator-out are the same file; give two names")
    for target in (out, generator_out):
        if target is not None and target.exists() and not force:
            raise UsageError(f"{target}: exists; give another name, or --force to replace it")

    def write_generator(found: GeneratorSource, target: Path) -> None:
        config, notes = found.config, found.notes
        save_generator_state(target, config, found.state, notes)
        click.echo(
            f"{target}: generator, {notes['format']}, {config.resolution} pixels, "
            f"{config.mapping_layers} mapping layers, channel base {config.channel_base}, "
            f"fingerprint {notes['fingerprint'][:16]}"
        )
        for name in ("noise", "w_avg"):
            if name in notes:
                click.echo(f"note: {notes[name]}", err=True)
        click.echo(f"next: sfhq sample PART --count 10 --generator {target} --e4e FILE", err=True)

    try:
        value = read_weights(path)
        if not holds_encoder(value):
            if generator_out is not None:
                raise UsageError(f"{path}: holds no encoder; leave --generator-out out")
            write_generator(read_generator(path, value), out)
            return
        encoder = read_e4e(path, value)
    except BadCheckpoint as error:
        raise IntegrityError(str(error)) from None
    if generator_out is not None and encoder.generator is None:
        raise IntegrityError(f"{path}: has no generator inside; leave --generator-out out")
    save_e4e_state(out, encoder.config, encoder.state, encoder.notes)
    mark = encoder.notes.get("fingerprint", "")[:16] or "unknown"
    click.echo(f"{out}: e4e, {encoder.config.num_ws} layers, for the generator {mark}")
    if generator_out is not None and encoder.generator is not None:
        write_generator(encoder.generator, generator_out)


def _weights_file(source: str) -> Path:
    """A file, or that of a name in the table of models."""
    from sfhq.model_store import status
    from sfhq.model_table import ROWS

    path = Path(source)
    row = next((row for row in ROWS if row.name == source), None)
    if path.is_file() or row is None:
        if not path.is_file():
            raise UsageError(f"{source}: no such file, nor a name that sfhq models list knows")
        return path
    found = status(row)
    if not found.usable:
        raise UsageError(f"{source}: {found.state}; see: sfhq models info {source}")
    return found.path


@models.command("info")
@name_argument
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def models_info(name: str, as_json: bool) -> None:
    """Print all that is known of the weights NAME.

    \b
    Example:
      sfhq models info e4e-ffhq
    """
    from sfhq import model_store
    from sfhq.model_table import model_row
    from stylegan2_ops.inert import BadCheckpoint
    from stylegan2_ops.torch_files import sniff

    found = model_store.status(model_row(name))
    try:
        content = sniff(found.path) if found.path.is_file() else ""
    except BadCheckpoint:
        content = "cannot be read"
    if as_json:
        known = {**model_store.to_dict(found), "content": content}
        click.echo(json.dumps(known, sort_keys=True))
        return
    row, entry = found.row, found.entry
    unpublished = "not published: pinned on first use, once you say so"
    digest = row.sha256 or (f"{entry.sha256} (pinned)" if entry else unpublished)
    lines = [
        ("name", row.name),
        ("what", row.purpose),
        ("needed by", ", ".join(row.needed_by) or "no command of this version"),
        ("state", found.state + (f": {found.why}" if found.why else "")),
        ("path", str(found.path)),
        ("content", content or "-"),
        ("licence", f"{row.licence}: {row.terms}"),
        ("commercial", row.commercial),
        ("page", row.page or "-"),
        ("address", row.url or "-"),
        ("size", f"{row.size:,} bytes" if row.size else "not published"),
        ("sha256", digest),
        ("according to", row.sha256_from or "-"),
    ]
    if entry is not None:
        lines += [
            ("came from", entry.source),
            ("added", entry.added),
            ("accepted", entry.licence_accepted or "-"),
        ]
    if row.converts_to:
        convert = f"sfhq models convert {row.name} OUT.safetensors"
        lines.append(("next", f"{convert}; then give OUT as {row.converts_to}"))
    if row.hint:
        lines.append(("note", row.hint))
    for head, text in lines:
        click.echo(f"{head:<13} {text}")


@main.command("doctor")
@click.option("--build", is_flag=True, help="Compile the kernels now, rather than at first use.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor_command(build: bool, as_json: bool) -> None:
    """Say what is installed, missing or stale, what needs it and what to do.

    Exits with 1 when the basic pipeline cannot work.

    \b
    Examples:
      sfhq doctor
      sfhq doctor --build
    """
    from sfhq.doctor import examine, report

    if build:
        from stylegan2_ops.build import BuildError, build_all

        try:
            build_all(functools.partial(click.echo, err=True))
        except BuildError as error:
            raise SfhqError(f"kernels: {error}") from None
    findings = list(examine())
    if as_json:
        click.echo(json.dumps([f.to_dict() for f in findings], sort_keys=True))
    else:
        click.echo(report(findings))
    blocking = [f.name for f in findings if f.blocks]
    if blocking:
        raise SfhqError(f"the basic pipeline cannot work: {', '.join(blocking)}; see above")


if __name__ == "__main__":
    main()
