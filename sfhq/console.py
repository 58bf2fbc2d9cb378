"""What all commands share: errors as one line, options, and one stage run with its counts told.

Only click is imported at the start; the rest when a command runs.
"""

from __future__ import annotations

import errno
import functools
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sfhq.errors import SfhqError, UsageError, plain

if TYPE_CHECKING:
    from sfhq.pipeline.engine import OnShard
    from sfhq.pipeline.recipe import Recipe
    from sfhq.pipeline.run import Ended
    from sfhq.pipeline.workers import Engine

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path)
EXIT_REJECTIONS = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


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
        """Run a command; turn errors a user can mend, and signals, into one line on stderr."""
        try:
            with ended_by_signals():
                return super().invoke(ctx)
        except SfhqError as error:
            _fail(str(error), error.exit_code)
        except click.UsageError as error:
            _fail_usage(error)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has gone; click ends quietly
                raise
            _fail(_os_error(error), 1)
        except Terminated:
            _fail(
                "terminated; what is finished is kept; run the same command again to go on",
                EXIT_TERMINATED,
            )
        except KeyboardInterrupt:
            _fail("interrupted; run the same command again to go on", EXIT_INTERRUPTED)


class Terminated(KeyboardInterrupt):
    """SIGTERM has come. Whoever clears up after an interrupt does so after this, too."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within it SIGINT raises `KeyboardInterrupt` and SIGTERM `Terminated`, once.

    Whichever comes first is the last one that is heard: what clears up is not interrupted, and the
    exit code says what has happened however often a key is pressed. Signals that somebody else
    handles are left alone, and so is everything outside the main thread.
    """
    mine: dict[signal.Signals, Any] = {}

    def heard(number: int, frame: object) -> None:
        for each in mine:
            signal.signal(each, signal.SIG_IGN)
        mine.clear()  # they stay unheard
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for each, usual in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        ):
            if signal.getsignal(each) == usual:
                mine[each] = usual
                signal.signal(each, heard)
    try:
        yield
    finally:
        for each, usual in mine.items():
            if signal.getsignal(each) is heard:
                signal.signal(each, usual)


def say(line: object, *, err: bool = False) -> None:
    """Print one line; control characters in it are escaped, see `sfhq.errors.plain`."""
    click.echo(plain(str(line)), err=err)


def _fail(message: str, code: int) -> None:
    say(f"sfhq: {message}", err=True)
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


_WORKERS = options(
    click.option(
        "--workers",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Number of worker processes.",
    ),
)
_REST = options(
    click.option(
        "--redo", is_flag=True, help="Do this stage again, and drop the stages that read it."
    ),
    click.option("--strict", is_flag=True, help="Exit with 3 when faces were rejected."),
    click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON."),
)
# What a command that runs stages on this machine alone takes.
local_options = options(_WORKERS, _REST)
# What a command that runs a stage takes, and hands to `run_and_report`.
run_options = options(
    _WORKERS,
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where the workers are: on this machine, or on a Ray cluster that shares the folder.",
    ),
    click.option(
        "--address",
        metavar="HOST:PORT",
        help="A running Ray cluster, or auto.  [default: one on this machine for this run]",
    ),
    click.option(
        "--share",
        "shares",
        metavar="STAGE=CPUS[:GPUS]",
        multiple=True,
        help="What a Ray worker of a stage takes of a machine. May be repeated.  [default: 1]",
    ),
    _REST,
)


def engine_of(workers: int, engine: str, address: str | None, shares: Sequence[str]) -> Engine:
    """What does the work, as `run_options` say.

    Raises:
        UsageError: an option of one engine was given for the other, or is not valid.
        MissingExtra: Ray is not installed.
    """
    if engine == "ray":
        from sfhq import stages
        from sfhq.pipeline.cluster import Ray, shares_of

        return Ray(workers, address, shares_of(shares, stages.names()))
    from sfhq.pipeline.workers import Local

    if address is not None or shares:
        raise UsageError(f"--{'share' if shares else 'address'} belongs to --engine ray; give both")
    return Local(workers)


def read_recipe(path: Path | None = None, /, **flags: Any) -> Recipe:
    """The recipe in a file, or the defaults, with flags laid over it.

    Args:
        path: a TOML file.
        flags: `table__key` or `key` to values; None for a flag that was not given.
    """
    from sfhq.pipeline.recipe import load_recipe

    return load_recipe(path, {k.replace("__", "."): v for k, v in flags.items()})


def split_names(text: str | None) -> tuple[str, ...] | None:
    """The names of a comma-separated list; None where none was given."""
    return None if text is None else tuple(n.strip() for n in text.split(",") if n.strip())


@contextmanager
def progress_bar(name: str, faces: int | None) -> Iterator[OnShard]:
    """A bar on stderr while a stage runs, of `faces` faces where that is known."""
    from tqdm import tqdm

    with tqdm(
        total=faces, desc=f"{name:<10}", unit=" faces", disable=not sys.stderr.isatty()
    ) as bar:

        def advance(done: int) -> None:
            bar.update(done)

        yield advance


def run_stages(
    names: Sequence[str] | None,
    recipe: Recipe,
    part: Path,
    *,
    engine: Engine,
    redo: bool,
    strict: bool,
    as_json: bool,
    finish: Callable[[], None] = lambda: None,
) -> None:
    """Run stages and print their counts as they end.

    Args:
        names: of the stages; None for those of a whole run.
        recipe: their settings.
        part: folder of the part.
        engine: what does the work, see `engine_of`.
        redo, strict, as_json: of `run_options`.
        finish: what is left to do at the end of a whole run.
    """
    from sfhq.ingest import passed_over_line
    from sfhq.parts.part import Part
    from sfhq.pipeline import Pipeline
    from stylegan2_ops.memory import keep_freed_memory

    keep_freed_memory()

    def told(ended: Ended) -> None:
        passed = Part(part).stage_info(ended.stage).get("passed_over")
        if passed:
            click.echo(f"sfhq: {passed_over_line(passed)}", err=True)
        if not as_json:
            say(counts_line(ended.stage, ended.counts.to_dict()))

    pipeline = Pipeline.from_recipe(recipe, names)
    several = names is None or len(names) > 1
    ended = pipeline.run(
        part,
        engine=engine,
        redo=redo,
        progress=progress_bar,
        on_end=told,
        may_end_empty=names is not None,
    )
    finish()
    if as_json:
        rows = [{"stage": e.stage, **e.counts.to_dict()} for e in ended]
        value = rows[0] if not several else {"part": str(part), "stages": rows}
        click.echo(json.dumps(value, sort_keys=True))
    if strict and any(e.counts.rejected for e in ended):
        sys.exit(EXIT_REJECTIONS)


def counts_line(stage: str, counts: dict[str, Any]) -> str:
    """A stage's counts (`Counts.to_dict`) as a line of the funnel."""
    rejected = ", ".join(f"{n} {reason}" for reason, n in counts["rejected"].items())
    return f"{stage:<10} {counts['entered']:>7} in {counts['alive']:>7} out" + (
        f"   rejected: {rejected}" if rejected else ""
    )
