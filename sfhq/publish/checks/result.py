"""What a check says: its state, what it found, and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from sfhq.parts.records import Json

Severity = Literal["integrity", "quality", "figures"]
State = Literal["passed", "failed", "told", "not checked"]
MOST = 100  # findings that a result keeps; the others are counted
Z95 = 1.959964


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        where: the face, file or stage.
        what: what was found and what was wanted.
    """

    where: str
    what: str


@dataclass
class Result:
    """What a check says.

    Attributes:
        name: of the check.
        title: what it looks at, in a few words.
        severity: "integrity" where a finding means damage; "quality" where it is a matter of
            judgement; "figures" where there is nothing to fail.
        state: what came of it.
        findings: the first `MOST` things that are wrong.
        count: how many there are.
        figures: numbers by name.
        note: in a sentence what the figures say, or why nothing was checked and what to run.
    """

    name: str
    title: str
    severity: Severity
    state: State = "passed"
    findings: list[Finding] = field(default_factory=list)
    count: int = 0
    figures: dict[str, Json] = field(default_factory=dict)
    note: str = ""

    def add(self, where: str, what: str) -> None:
        """Note something that is wrong."""
        self.state = "failed"
        self.count += 1
        if len(self.findings) < MOST:
            self.findings.append(Finding(where, what))

    def skip(self, note: str) -> None:
        """Say why nothing was checked."""
        self.state, self.note = "not checked", note

    def tell(self, figures: Mapping[str, Json], note: str = "") -> None:
        """Give figures."""
        self.figures.update(figures)
        self.note = note or self.note
        if self.severity == "figures" and self.state == "passed":
            self.state = "told"

    @property
    def said(self) -> str:
        """In a line: what the figures say, or what was looked at; of a failure, how often first."""
        if self.state != "failed":
            return self.note or self.title
        return f"{self.count:,} found; {self.note or f'wanted: {self.title}'}"

    def to_dict(self) -> dict[str, Json]:
        """As JSON can hold it."""
        return asdict(self)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    if count == 0:
        return 0.0, 1.0
    share, wide = hits / count, Z95**2 / count
    middle = (share + wide / 2) / (1 + wide)
    half = Z95 * math.sqrt(share * (1 - share) / count + wide / (4 * count)) / (1 + wide)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(hits: int, count: int) -> dict[str, float | int]:
    """A count as a share of others, with its interval."""
    low, high = wilson(hits, count)
    return {
        "count": hits,
        "share": round(hits / count, 4) if count else 0.0,
        "low": round(low, 4),
        "high": round(high, 4),
    }
