"""The group `train`, and the training of a generator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sfhq.commands.numbers import SEED, Finite
from sfhq.console import FOLDER, Command, options, say
from sfhq.errors import UsageError

if TYPE_CHECKING:
    from sfhq.training.run import Training

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=Command)
def train() -> None:
    """Train a generator and its encoder, and measure how good they are."""


# What every training takes.
of_a_run = options(
    click.option(
        "--out",
        type=FOLDER,
        required=True,
        help="Folder of the run; an earlier run in it is resumed.",
    ),
    click.option("--seed", type=SEED, default=0, show_default=True),
    click.option(
        "--minutes",
        type=Finite(0, min_open=True),
        help="Stop after this many minutes; run again to go on.",
    ),
)


def run_of(*precisions: str) -> Callable[[F], F]:
    """What a training takes that can compute in several number formats.

    Args:
        precisions: their names, the default first.
    """
    return options(
        of_a_run,
        click.option(
            "--precision",
            type=click.Choice(precisions),
            default=precisions[0],
            show_default=True,
            help="Number format of the networks; 16 bits need hardware for them.",
        ),
    )


EMA_STEPS = 312.5  # half-life of the averaged generator

run_of_training = run_of("fp32", "bf16")
DEVICE = click.option(
    "--device", default="cpu", show_default=True, help="Device to train on: cpu or cuda."
)


def batch_option(default: int, what: str) -> Callable[[F], F]:
    """The option --batch.

    Args:
        default: its default.
        what: what it counts, for the help.
    """
    return click.option(
        "--batch",
        type=click.IntRange(2, 65_536),
        default=default,
        show_default=True,
        help=f"{what} per step.",
    )


def reschedule_option(*settings: str) -> Callable[[F], F]:
    """The flag --reschedule, which gives `may_change`: settings that may change in a resumed run.

    Args:
        settings: their names, which are those of options.
    """
    named = " or ".join("--" + name.replace("_", "-") for name in settings)
    return click.option(
        "--reschedule",
        "may_change",
        is_flag=True,
        callback=lambda _context, _option, given: frozenset(settings if given else ()),
        help=f"Go on with the run in OUT with other {named} than it had.",
    )


def run_on(
    training: Training,
    out: Path,
    settings: dict[str, Any],
    minutes: float | None,
    may_change: frozenset[str],
) -> bool:
    """Run a training, or go on with it; says so where --minutes ended it.

    Args:
        training, out, settings, may_change: see `sfhq.training.run.run_training`.
        minutes: its limit; None for none.

    Returns:
        Whether it has ended.
    """
    from sfhq.training.run import run_training

    limit = None if minutes is None else minutes * 60
    ended = run_training(
        training, out, settings, limit_seconds=limit, may_change=may_change, say=click.echo
    )
    if not ended:
        say(f"stopped at {training.images} images; run again to go on", err=True)
    return ended


# What trainings on photos take.
train_options = options(
    click.argument("folders", type=FOLDER, nargs=-1, required=True),
    run_of_training,
    DEVICE,
    batch_option(16, "Photos"),
)


def check_device(device: str) -> None:
    """Refuse a device that is not there; let a GPU take its fastest kernels, a CPU keep its memory.

    Raises:
        UsageError: not cpu, cuda or cuda:NUMBER, or this machine has no such GPU.
    """
    import torch

    from stylegan2_ops.memory import keep_freed_memory

    keep_freed_memory()
    kind, colon, number = device.partition(":")
    if device != "cpu" and (kind != "cuda" or (colon and not number.isdecimal())):
        raise UsageError(f"--device {device}: wanted cpu, cuda, or cuda:0 and so on")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UsageError(f"--device {device}: found {found} CUDA devices; use --device cpu")
    if kind == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.benchmark_limit = 4  # ways that are timed for each convolution
        torch.set_float32_matmul_precision("high")


@train.command("generator")
@train_options
@click.option("--resolution", type=click.IntRange(32, 1024), default=128, show_default=True)
@click.option(
    "--channel-base",
    type=click.IntRange(1, 2**20),
    default=4096,
    show_default=True,
    help="Channels of a layer times its resolution.",
)
@click.option(
    "--channel-max",
    type=click.IntRange(1, 4096),
    default=256,
    show_default=True,
    help="Largest number of channels of a layer.",
)
@click.option(
    "--phases",
    default="32:28000,64:40000,128:8000",
    show_default=True,
    help="Phases of growing: resolution:images, separated by commas.",
)
@click.option(
    "--adversarial-from",
    type=click.IntRange(0),
    default=20000,
    show_default=True,
    help="Images after which the adversarial loss begins.",
)
@click.option(
    "--code-dim",
    type=click.IntRange(2, 256),
    default=128,
    show_default=True,
    help="Dimensions of the photos' codes.",
)
@click.option(
    "--from",
    "start",
    type=FOLDER,
    help="Weights of a generator that this command trained, to go on from; --phases begin with "
    "its resolution, or a smaller one: its larger blocks wait for their phase.",
)
@click.option(
    "--codes",
    type=FOLDER,
    help="codes.pt of the run that made the generator of --from, of the same photos; without it "
    "their codes are estimated.",
)
@click.option(
    "--mirrored/--no-mirrored",
    default=True,
    show_default=True,
    help="Learn the mirror images of the photos too, with codes of their own.",
)
@reschedule_option("phases", "adversarial_from")
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
    code_dim: int,
    start: Path | None,
    codes: Path | None,
    mirrored: bool,
    may_change: frozenset[str],
) -> None:
    """Train a generator on FOLDERS of aligned faces; writes OUT/generator.safetensors.

    A run that --minutes ends writes it as well, and can be resumed: run the same command again. Its
    state is in files of at most 16 MiB, which can be carried to another machine or device.

    A tenth of the photos, chosen by the hash of the file name, is never trained on. Of photos that
    are up to 5 % wider or higher the middle square is taken; others that are not square are
    refused.

    \b
    Example:
      sfhq train generator part-05/aligned --out runs/g1 --minutes 60
    """
    from dataclasses import asdict

    import torch

    from sfhq.training.features import load_feature_pyramid
    from sfhq.training.generator.codes import load_codes
    from sfhq.training.generator.recipe import GeneratorRecipe, parse_phases
    from sfhq.training.generator.training import GeneratorTraining
    from sfhq.training.photos import load_photos
    from sfhq.training.precision import check_precision
    from sfhq.training.state import INDEX
    from sfhq.weights.checkpoints import load_generator, save_generator
    from stylegan2_ops.generator import GeneratorConfig

    torch.set_flush_denormal(True)
    check_device(device)
    check_precision(precision, device)
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
        code_dim=code_dim,
        ema_images=round(EMA_STEPS * batch),
        mirrored=mirrored,
        precision=precision,
    )
    if codes and start is None:
        raise UsageError("--codes are of the generator of --from; give both")
    first, digest = load_generator(start) if start else (None, "")
    photos, held_out = load_photos(folders, resolution).split()
    click.echo(f"{len(photos)} photos, {len(held_out)} held out", err=True)
    if (out / INDEX).is_file():
        first = None  # the state has what would be estimated from it
    known = load_codes(codes, photos.names, config.w_dim, mirrored) if codes and first else None
    training = GeneratorTraining(recipe, photos, load_feature_pyramid(), device, first, known)
    settings = {**asdict(recipe), "from": digest, "photos": list(photos.names)}
    if mirrored:
        del settings["mirrored"]  # runs of before do not name it
    run_on(training, out, settings, minutes, may_change)
    found = {"codes": training.latents(), "names": list(photos.names)}
    torch.save(found, out / "codes.pt")
    notes = {"images": str(training.images)}
    save_generator(out / "generator.safetensors", training.finish(), notes)
    say(out / "generator.safetensors")


@train.command("events")
@click.argument("run", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--follow", is_flag=True, help="Go on while the training goes on, until Ctrl-C.")
def train_events(run: Path, out: Path, follow: bool) -> None:
    """Write the log of any training in the folder RUN as TensorBoard's events to OUT.

    \b
    Example:
      sfhq train events runs/g1 events/g1 --follow
      tensorboard --logdir events
    """
    import time

    from sfhq.training.events import write_events

    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: not empty; events are written anew: give another folder")
    done = write_events(run, out)
    say(f"{out}: the log up to byte {done}")
    while follow:
        time.sleep(5)
        done = write_events(run, out, done)
