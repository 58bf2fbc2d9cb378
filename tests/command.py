"""Runs the command line in this process, as tests of commands do."""

from __future__ import annotations

from click.testing import CliRunner, Result

import cli


def told(*words: object) -> Result:
    """What `sfhq WORDS` prints and its exit code; errors that no user should see are raised."""
    result = CliRunner().invoke(cli.main, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def sfhq(*words: object, code: int = 0) -> Result:
    """The same, which ends with the exit code `code`."""
    result = told(*words)
    assert result.exit_code == code, result.output
    return result
