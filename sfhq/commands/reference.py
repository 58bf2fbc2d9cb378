"""The page docs/cli.md: every command with its help and options, written by `make docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

HEAD = """# Commands

Written by `make docs` from the commands themselves. Options of a stage are the keys of its table in
a recipe, with dashes for underscores.
"""


def reference(group: click.Group) -> str:
    """The page, as Markdown.

    Args:
        group: the command `sfhq`.
    """
    blocks = [HEAD]
    for words, command in _commands(group, ()):
        context = click.Context(
            command,
            info_name=" ".join(("sfhq", *words)),
            terminal_width=96,
            max_content_width=96,
            help_option_names=["-h", "--help"],
        )
        text = command.get_help(context)
        blocks.append(f"## sfhq {' '.join(words)}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(blocks)


def _commands(
    group: click.Group, above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, (*above, name))
        elif command is not None:
            yield (*above, name), command


def write_reference(group: click.Group, target: Path) -> None:
    """Write the page."""
    target.write_text(reference(group), encoding="utf-8")
