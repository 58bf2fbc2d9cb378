"""Errors a user can act on. Each message is one line: the thing, what was found, what was
wanted, what to do."""

from __future__ import annotations

import unicodedata

# Categories of characters that a terminal obeys instead of showing: controls, marks of direction,
# halves of surrogates (bytes of a file name that are no UTF-8), separators of lines.
_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # harmless, and part of Persian words and of emoji


def plain(text: str) -> str:
    r"""Text that a terminal only shows: control characters are escaped, as in "\\x1b[31m".

    Args:
        text: a message with names that others chose, such as those of files.
    """
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in _OBEYED and c not in _JOINERS
        else c
        for c in text
    )


def apart(found: float, wanted: float, kind: str = "f", least: int = 0) -> tuple[str, str]:
    """Two numbers for a message, with as many digits as it takes to tell them apart.

    Args:
        found, wanted: the numbers; where they are equal, the texts are, too.
        kind: "f" for numbers, "%" for shares, which are written in percent.
        least: digits after the point that there are in any case.
    """
    for digits in range(least, 12):
        texts = f"{found:.{digits}{kind}}", f"{wanted:.{digits}{kind}}"
        if texts[0] != texts[1]:
            return texts
    return f"{found:.{least}{kind}}", f"{wanted:.{least}{kind}}"


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
