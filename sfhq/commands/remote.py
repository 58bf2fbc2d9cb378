"""Commands that move parts to and from storage: push, pull."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfhq.console import FOLDER, options, say

if TYPE_CHECKING:
    from sfhq.remote.push import Moved, OnFile

storage_options = options(
    click.option(
        "--endpoint",
        metavar="URL",
        help="A server that speaks S3, such as http://host:9000.  "
        "[default: $AWS_ENDPOINT_URL_S3, $AWS_ENDPOINT_URL, else Amazon's]",
    ),
    click.option(
        "--transfers",
        type=click.IntRange(1, 64),
        default=8,
        show_default=True,
        help="Number of files that move at a time.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print as JSON."),
)


@contextmanager
def _bar(word: str) -> Iterator[OnFile]:
    from tqdm import tqdm

    with tqdm(
        desc=word, unit="B", unit_scale=True, unit_divisor=1024, disable=not sys.stderr.isatty()
    ) as bar:

        def seen(size: int) -> None:
            bar.update(size)

        yield seen


def _tell(done: Moved, where: object, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(done), sort_keys=True))
        return
    say(
        f"{done.files} files, {done.size / 1e6:.1f} MB in {where}: {done.moved} files, "
        f"{done.moved_size / 1e6:.1f} MB moved"
    )
    if done.deleted:
        say(f"{done.deleted} files deleted that the part no longer has")
    if done.left:
        say(f"{done.left} files stay there that the part no longer has; --delete deletes them")


@click.command()
@click.argument("part", type=FOLDER)
@click.argument("url")
@click.option("--check", is_flag=True, help="Read everything back and compare its digest.")
@click.option(
    "--delete", is_flag=True, help="Delete what an earlier push sent and PART no longer has."
)
@storage_options
def push(part: Path, url: str, check: bool, delete: bool, **given: Any) -> None:
    """Copy PART to URL: s3://BUCKET/FOLDER, or file:///FOLDER.

    Only what is missing or different moves. The manifest comes last: without it, nobody takes what
    is there for a part. A push that ended early goes on where it stopped; run it again.

    \b
    Examples:
      sfhq push part-05 s3://faces/part-05
      sfhq push part-05 s3://faces/part-05 --endpoint http://minio:9000 --check
    """
    from sfhq.remote.push import push as run
    from sfhq.remote.store import open_store

    store = open_store(url, given["endpoint"])
    with _bar("push") as seen:
        done = run(
            part, store, transfers=given["transfers"], check=check, delete=delete, on_file=seen
        )
    _tell(done, store.url, given["as_json"])


@click.command()
@click.argument("url")
@click.argument("part", type=FOLDER)
@click.option("--replace", is_flag=True, help="Write over files of PART that differ.")
@click.option("--anonymous", is_flag=True, help="Ask without credentials, for public buckets.")
@storage_options
def pull(url: str, part: Path, replace: bool, anonymous: bool, **given: Any) -> None:
    """Copy the part at URL to the folder PART; each file's digest is checked.

    Only what is missing moves. PART is a part when all of it has come, and not before. A pull that
    ended early goes on where it stopped; run it again.

    \b
    Examples:
      sfhq pull s3://faces/part-05 part-05
      sfhq pull s3://faces/part-05 part-05 --endpoint http://minio:9000
    """
    from sfhq.remote.pull import pull as run
    from sfhq.remote.store import open_store

    store = open_store(url, given["endpoint"], anonymous)
    with _bar("pull") as seen:
        done = run(store, part, transfers=given["transfers"], replace=replace, on_file=seen)
    _tell(done, part, given["as_json"])
