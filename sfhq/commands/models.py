"""The group `models`: weights that others trained, fetched, added and checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sfhq.console import FOLDER, Command, say
from sfhq.errors import UsageError

if TYPE_CHECKING:
    from sfhq.weights.store import Status


@click.group(cls=Command)
def models() -> None:
    """Fetch, add and check the weights that others trained."""


name_argument = click.argument("name", metavar="NAME")
pin_option = click.option(
    "--pin", is_flag=True, help="Trust this file if no digest was published for it."
)
licence_option = click.option(
    "--accept-licence",
    "accepted",
    metavar="ID",
    default="",
    envvar="SFHQ_ACCEPT_LICENCE",
    help="Accept the licence with this name.",
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
    """Whether to accept a file without a published digest: by --pin, or by asking the user."""

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
    """Print the weights that sfhq knows, and which of them are on this machine.

    SHA256 is the beginning of the published digest, or of the pinned one in brackets; info prints
    it whole, with the address and what the licence comes to.

    \b
    Examples:
      sfhq models list
      sfhq models list --json
    """
    from sfhq.weights.store import status, to_dict
    from sfhq.weights.table import ROWS

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
    head = ("NAME", "STATE", "SIZE", "SHA256", "LICENCE", "COMMERCIAL", "WHAT")
    for line in _columns(rows, head).split("\n"):
        say(line)


@models.command("fetch")
@name_argument
@licence_option
@pin_option
@click.option("--url", help="Download from this mirror; size and digest are still checked.")
def models_fetch(name: str, accepted: str, pin: bool, url: str | None) -> None:
    """Download the weights NAME into the cache; resumes a download that was interrupted.

    Size and digest are checked where they were published; where not, the file is pinned once you
    say that you trust it. With SFHQ_OFFLINE or HF_HUB_OFFLINE set nothing is downloaded.

    \b
    Examples:
      sfhq models fetch bisenet --accept-licence CelebAMask-NC
      sfhq models fetch bisenet-resnet18 --accept-licence CelebAMask-NC --pin
    """
    from tqdm import tqdm

    from sfhq.weights import fetch as model_fetch
    from sfhq.weights import store as model_store
    from sfhq.weights.table import model_row

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


def _say_where(found: Status) -> None:
    """Print the path of the weights; on stderr, where a package looks for them and what is next."""
    from sfhq.weights.store import put_in_hub

    say(found.path)
    if found.state == "installed":
        placed = put_in_hub(found.row)
        if placed is not None:
            say(f"also at {placed}, where face-alignment looks for it", err=True)
    if found.row.converts_to:
        convert = f"sfhq models convert {found.row.name} OUT.safetensors"
        say(f"next: {convert}; then give OUT as {found.row.converts_to}", err=True)


@models.command("add")
@name_argument
@click.argument("file", type=FOLDER)
@pin_option
@licence_option
@click.option("--link", is_flag=True, help="Link to FILE instead of copying it.")
def models_add(name: str, file: Path, pin: bool, accepted: str, link: bool) -> None:
    """Add a FILE that you have to the cache, as the weights NAME.

    Size and digest are checked where they were published; where not, --pin trusts the file. Those
    of face-alignment are also put where that package looks, so that it needs no network.

    \b
    Examples:
      sfhq models add e4e-ffhq ~/Downloads/e4e_ffhq_encode.pt
      sfhq models add stylegan2-ffhq-1024-pt stylegan2-ffhq-config-f.pt --pin --link
    """
    from sfhq.weights import store as model_store
    from sfhq.weights.table import model_row

    row = model_row(name)
    found = model_store.add(row, file, _trust(pin), link, accepted)
    click.echo(f"{row.name} is under {row.licence}: {row.terms}", err=True)
    _say_where(found)


@models.command("verify")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def models_verify(names: tuple[str, ...]) -> None:
    """Check the digests of the weights on this machine; exits with 4 if one differs.

    "unknown" is a file whose digest nobody published and nobody pinned.

    \b
    Examples:
      sfhq models verify
      sfhq models verify bisenet
    """
    from sfhq.errors import IntegrityError
    from sfhq.weights import store as model_store
    from sfhq.weights.table import ROWS, model_row

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


@models.command("info")
@name_argument
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def models_info(name: str, as_json: bool) -> None:
    """Print what is known about the weights NAME.

    \b
    Example:
      sfhq models info e4e-ffhq
    """
    from sfhq.weights import store as model_store
    from sfhq.weights.table import model_row
    from stylegan2_ops.foreign.inert import BadCheckpoint
    from stylegan2_ops.foreign.torch_files import sniff

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
        say(f"{head:<13} {text}")
