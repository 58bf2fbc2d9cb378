"""Errors a user can act on. Each message is one line: the thing, what was found, what was
wanted, what to do."""

from __future__ import annotations


class SfhqError(Exception):
    """Something is wrong that the user can mend; `exit_code` is what the command returns."""

    exit_code = 1


class UsageError(SfhqError):
    """A setting or an argument is not valid."""

    exit_code = 2


class IntegrityError(SfhqError):
    """Data on disk is not what its own records say."""

    exit_code = 4


class DiskFull(SfhqError):
    """No room is left on the disk."""


class MissingExtra(SfhqError):
    """An optional dependency is not installed.

    Args:
        what: what needs it, as a noun.
        package: the package that is missing.
        extra: the extra of sfhq that installs it.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}; install it with: pip install 'sfhq[{extra}]'")
        self._given = (what, package, extra)

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str, str]]:
        """Pickle what it was made from, so that it can leave a worker."""
        return MissingExtra, self._given
