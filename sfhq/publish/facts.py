"""What only the publisher of a part knows, from a small TOML file."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sfhq.errors import UsageError

NOT_STATED = "not stated"
# Key -> what is asked for. The order is that of the template.
KEYS = {
    "title": "Title of the dataset",
    "description": "What it is, in a few sentences",
    "version": "Version of the dataset",
    "publisher": "Who publishes it",
    "contact": "Address for questions",
    "takedown": "Whom to ask to take a photo down, and how fast it goes",
    "maintenance": "Who keeps it up, until when, and how changes are announced",
    "licence": "Licence of the dataset as a whole, an SPDX identifier where there is one",
    "citation": "How to cite it",
    "consent": "What the people behind sources and training data were asked, and by whom",
    "generator_data": "What the generator was trained on, where sfhq does not know it",
    "intended": "What it is meant for",
    "out_of_scope": "What it must not be used for, beside what the card says anyway",
    "limits": "What is known to be wrong with it",
    "label_errors": "Error rates of labels on a sample that people checked, and its size",
    "social_impact": "Whom its use may help or harm",
}
LONGEST = 10_000


@dataclass(frozen=True)
class Facts:
    """Texts of the publisher.

    Attributes:
        texts: key of `KEYS` -> text; keys that were not given are missing.
    """

    texts: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, key: str) -> str:
        """The text of a key, or "not stated"."""
        return self.texts.get(key) or NOT_STATED

    def missing(self) -> list[str]:
        """Keys that nothing is stated for."""
        return [key for key in KEYS if not self.texts.get(key)]

    @classmethod
    def load(cls, path: Path | None) -> Facts:
        """The facts in a file; none for None.

        Raises:
            UsageError: it cannot be read, or a key or value is not one of the known ones.
        """
        if path is None:
            return cls()
        try:
            values = tomllib.loads(path.read_text("utf-8-sig"))
        except OSError as error:
            raise UsageError(f"{path}: cannot read facts: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}: not TOML: {error}") from None
        for key, value in values.items():
            if key not in KEYS:
                near = difflib.get_close_matches(key, KEYS, n=1)
                advice = f"did you mean {near[0]}?" if near else f"wanted {', '.join(KEYS)}"
                raise UsageError(f"{path}: unknown key {key}; {advice}")
            if not isinstance(value, str) or len(value) > LONGEST:
                raise UsageError(f"{path}: {key}: wanted a text of at most {LONGEST:,} characters")
        return cls({key: " ".join(value.split()) for key, value in values.items()})


def template() -> str:
    """A file of all keys to fill in."""
    lines = [f'# {what}\n{key} = ""' for key, what in KEYS.items()]
    return "\n".join(lines) + "\n"
