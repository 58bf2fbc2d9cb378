"""Names of the ways from a latent to a photograph, and what they may be.

Each way is a word on the command line and in the record:

    strict        pulled to the mean face, fine layers most, and bounded: the most realistic
    low           refined until the picture is nearest to the art in colour, and no blurrier
    close         refined until the picture shows the person of the art; close-60: in 60 steps
    psi-0.6       the plain truncation ladder
    donor-11      fine layers from a realistic donor, crossing over at layer 11 (of 18)
    sefa-0+1.5    a step along one of the strongest directions of the weights: direction, units
"""

from __future__ import annotations

import re

from sfhq.errors import UsageError

DEFAULT_CANDIDATES = ("strict", "low", "psi-0.6", "donor-11")
PATTERN = re.compile(
    r"strict|low|close(?:-(?P<steps>\d+))?|psi-(?P<psi>\d+(?:\.\d+)?)|donor-(?P<donor>\d+(?:\.\d+)?)"
    r"|sefa-(?P<axis>\d+)(?P<step>[+-]\d+(?:\.\d+)?)"
)
DONORS = 64  # faces that a donor is chosen from
SEFA_LIMIT = 4.0
MOST_STEPS = 10_000


def check_names(names: tuple[str, ...]) -> None:
    """Refuse names of candidates that do not exist.

    Raises:
        UsageError: unknown, repeated, or out of range.
    """
    for name in names:
        match = PATTERN.fullmatch(name)
        if match is None:
            raise UsageError(
                f"unknown candidate {name!r}; wanted strict, low, close, close-<steps>, "
                "psi-<strength>, donor-<layer> or sefa-<direction><+step or -step>"
            )
        if match["steps"] and not 1 <= int(match["steps"]) <= MOST_STEPS:
            raise UsageError(f"{name}: steps are out of range; wanted 1 to {MOST_STEPS}")
        if match["psi"] and not 0.0 <= float(match["psi"]) <= 2.0:
            raise UsageError(f"{name}: psi is out of range; wanted 0 to 2")
        if match["donor"] and float(match["donor"]) > 18.0:
            raise UsageError(f"{name}: the layer is out of range; wanted 0 to 18")
        if match["step"] and abs(float(match["step"])) > SEFA_LIMIT:
            raise UsageError(f"{name}: the step is out of range; wanted at most {SEFA_LIMIT}")
    if len(set(names)) != len(names):
        raise UsageError(f"candidates {', '.join(names)} repeat a name; give each once")


def check_directions(names: tuple[str, ...], width: int) -> None:
    """Refuse directions that a generator does not have.

    Args:
        names: ways of making a candidate.
        width: of the generator's w, which has as many directions.

    Raises:
        UsageError: a direction beyond the last.
    """
    for name in names:
        match = PATTERN.fullmatch(name)
        if match is not None and match["axis"] and int(match["axis"]) >= width:
            raise UsageError(f"{name}: direction {match['axis']}; wanted 0 to {width - 1}")
