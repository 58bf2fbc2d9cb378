"""Settings as dataclasses: each field carries its type, default, limits and help.

    @dataclass(frozen=True)
    class Settings:
        psi: Annotated[float, option("Strength of the draw.", least=0, most=10)] = 1.2

The recipe's tables and the commands' options are both read off such a class. msgspec checks values.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import msgspec

from sfhq.errors import UsageError


@dataclass(frozen=True)
class Option:
    """What a field says beyond its type.

    Attributes:
        help: one line; the default is added to it.
        least, most: limits of a number, both allowed.
        metavar: what stands for the value in help.
        default: what the default None means, in words.
        argument: a positional argument of the command, before PART.
        flag: name on the command line, where it differs from the field's.
    """

    help: str
    least: float | None = None
    most: float | None = None
    metavar: str = ""
    default: str = ""
    argument: bool = False
    flag: str = ""


def option(
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    metavar: str = "",
    default: str = "",
    argument: bool = False,
    flag: str = "",
) -> Option:
    """The annotation of a settings field; arguments as the attributes of `Option`."""
    return Option(help, least, most, metavar, default, argument, flag)


@dataclass(frozen=True)
class Setting:
    """A field of a settings class, read.

    Attributes:
        name: of the field.
        kind: the plain type: int, float, str, bool, Path, a Literal, or tuple[str, ...].
        optional: whether None is allowed.
        default: `MISSING` where one must be given.
        option: the annotation.
    """

    name: str
    kind: Any
    optional: bool
    default: Any
    option: Option

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.default is MISSING

    @property
    def choices(self) -> tuple[str, ...]:
        """Values of a Literal; empty for other types."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is Literal else ()

    @property
    def several(self) -> bool:
        """Whether the value is a tuple."""
        return typing.get_origin(self.kind) is tuple

    def wanted(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.several:
            item = typing.get_args(self.kind)[0]
            return "a list of paths" if item is Path else "a list of names"
        words = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
        text = words.get(self.kind, "a text")
        least, most = self.option.least, self.option.most
        if least is not None and most is not None:
            return f"{text} from {_number(least)} to {_number(most)}"
        if least is not None:
            return f"{text}, {_number(least)} or more"
        return f"{text}, {_number(most)} or less" if most is not None else text

    def convert(self, value: Any, place: str) -> Any:
        """The value in its type.

        Args:
            value: as TOML or Python gives it.
            place: what to call it in an error.

        Raises:
            UsageError: of another type, or out of its limits.
        """
        if value is None and self.optional:
            return None
        wanted = self.kind
        if wanted in (int, float):
            limits: Any = msgspec.Meta(ge=self.option.least, le=self.option.most)
            wanted = typing.Annotated[wanted, limits]
        try:
            if wanted is float and isinstance(value, bool):
                raise msgspec.ValidationError
            found = msgspec.convert(value, wanted, dec_hook=_path)
        except (msgspec.ValidationError, TypeError, OverflowError):
            raise UsageError(f"{place} is {value!r}; wanted {self.wanted()}") from None
        if isinstance(found, float) and found != found:
            raise UsageError(f"{place} is {value!r}; wanted {self.wanted()}")
        return found


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _path(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise msgspec.ValidationError


def settings_of(cls: type[Any]) -> tuple[Setting, ...]:
    """The fields of a settings class, in their order.

    Raises:
        TypeError: a field without `option`; the class is wrong, not the user.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(_setting(cls, field, hints[field.name]) for field in fields(cls))


def _setting(cls: type[Any], field: Field[Any], hint: Any) -> Setting:
    notes: tuple[Any, ...] = ()
    if typing.get_origin(hint) is typing.Annotated:
        hint, *rest = typing.get_args(hint)
        notes = tuple(rest)
    found = next((n for n in notes if isinstance(n, Option)), None)
    if found is None:
        raise TypeError(f"{cls.__qualname__}.{field.name} has no option(...) in its annotation")
    inner = [a for a in typing.get_args(hint) if a is not type(None)]
    optional = type(None) in typing.get_args(hint)
    return Setting(field.name, inner[0] if optional else hint, optional, field.default, found)


def read_values(cls: type[Any], values: Any, where: str, table: str) -> dict[str, Any]:
    """Plain values in the types of a settings class; some may be missing yet.

    Args:
        cls: the settings class.
        values: name -> value.
        where: a file, or "the command line"; begins each error.
        table: name of the table, for errors; "" for the top.

    Raises:
        UsageError: an unknown key, or a value that does not fit.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: {table} is {values!r}; wanted a table")
    known = {s.name: s for s in settings_of(cls)}
    prefix = f"{table}." if table else ""
    for key in values:
        if key not in known:
            raise UsageError(
                f"{where}: unknown key {prefix}{key}{did_you_mean(key, known, prefix)}"
            )
    return {k: known[k].convert(v, f"{where}: {prefix}{k}") for k, v in values.items()}


def read_table(cls: type[Any], values: Any, where: str, table: str) -> Any:
    """An instance of a settings class; arguments as those of `read_values`.

    Raises:
        UsageError: an unknown key, a missing one, or a value that does not fit.
    """
    found = read_values(cls, values, where, table)
    for setting in settings_of(cls):
        if setting.required and setting.name not in found:
            flag = setting.name.replace("_", "-")
            raise UsageError(
                f"{where}: {table}.{setting.name} is missing; wanted {setting.wanted()}; "
                f"give --{flag}, or the key in a recipe"
            )
    return cls(**found)


def did_you_mean(key: str, known: typing.Iterable[str], prefix: str = "") -> str:
    """The end of an error about an unknown key: the nearest one, or all of them."""
    near = difflib.get_close_matches(key, known, 1)
    if near:
        return f"; did you mean {prefix}{near[0]}?"
    return f"; known: {', '.join(sorted(known)) or 'none'}"
