"""The command `doctor`."""

from __future__ import annotations

import functools
import json

import click

from sfhq.console import say
from sfhq.errors import SfhqError


@click.command("doctor")
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
        for line in report(findings).split("\n"):
            say(line)  # it holds paths
    blocking = [f.name for f in findings if f.blocks]
    if blocking:
        raise SfhqError(f"the basic pipeline cannot work: {', '.join(blocking)}; see above")
