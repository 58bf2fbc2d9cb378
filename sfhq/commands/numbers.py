"""Types of options that click lacks."""

from __future__ import annotations

import math
from typing import Any

import click

SEED = click.IntRange(0, 2**32 - 1)


class Finite(click.FloatRange):
    """A number in a range; unlike click's own type it refuses `nan` and infinities."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number of a text."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            wanted = self._describe_range() if self.min is not None or self.max is not None else ""
            self.fail(f"{value} is not a number in the range {wanted}".rstrip(), param, ctx)
        return number


def not_blank(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A callback: refuse a name of nothing but spaces."""
    del ctx
    if value is not None and not value.strip():
        raise click.BadParameter("is empty; wanted a name", param=param)
    return value
