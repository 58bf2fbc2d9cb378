"""The recipe of `sfhq render`: which people to draw, as shares by name in a TOML file.

yaw = 20.0
always = ["Smiling"]
[age]
18-29 = 0.5
30-60 = 0.5
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sfhq.errors import UsageError
from sfhq.parts.records import Json
from sfhq.render.people.attributes import ATTRIBUTES, UNKNOWN
from sfhq.render.people.consistent import check_consistent
from sfhq.render.people.limits import OLDEST
from sfhq.render.person import BEARDS, CLOTHES, GLASSES, HAIR_STYLES, HATS

Shares = dict[str, float]
KNOWN = {  # table -> names that it may have
    "gender": ("female", "male"),
    "ancestry": ("african", "asian", "caucasian", "mixed"),
    "hair_female": HAIR_STYLES,
    "hair_male": HAIR_STYLES,
    "hair_colour": ("black", "brown", "blond", "red", "dyed"),
    "beard": BEARDS,
    "glasses": GLASSES,
    "hat": HATS,
    "clothes": CLOTHES,
    "expression": ("neutral", "smile", "laugh", "open", "surprise", "frown", "pout", "smirk"),
    "light": ("studio", "window", "overcast", "sun", "indoor", "flat"),
    "background": ("plain", "gradient", "wall", "leaves", "blurred", "bokeh"),
}
TOLERANCE = 1e-6


@dataclass(frozen=True)
class RenderRecipe:
    """Which people to draw.

    Attributes:
        age: ranges of years such as "18-29" -> share. This and all other tables are name -> share;
            the shares of a table sum to 1.
        hair_colour: an empty table draws by ancestry; then a fifth of women with black hair have
            it brown or blond, and 3 % of people have dyed hair.
        yaw, pitch, roll, gaze: standard deviations in degrees, approximately; most_yaw limits yaw.
        zoom: lowest and highest; 1 is FFHQ's framing.
        bangs, make_up: shares of women; men have neither.
        earrings, necklace: shares of women; nobody wears jewellery that hair or clothes would hide.
        closed_eyes: share of people with closed eyes.
        blurry: share of blurred pictures.
        always, never: CelebA's attributes that everybody or nobody has. They have priority over
            all tables except gender, age and ancestry.
    """

    age: Shares = field(
        default_factory=lambda: {
            "6-15": 0.1,
            "16-29": 0.32,
            "30-44": 0.26,
            "45-59": 0.18,
            "60-80": 0.14,
        }
    )
    gender: Shares = field(default_factory=lambda: {"female": 0.5, "male": 0.5})
    ancestry: Shares = field(
        default_factory=lambda: {"african": 0.22, "asian": 0.26, "caucasian": 0.36, "mixed": 0.16}
    )
    hair_female: Shares = field(
        default_factory=lambda: {
            **{"long": 0.24, "wavy": 0.2, "bob": 0.15, "tied": 0.15, "curly": 0.1, "short": 0.06},
            **{"side-part": 0.03, "swept-back": 0.02, "afro": 0.04, "buzz": 0.01},
        }
    )
    hair_male: Shares = field(
        default_factory=lambda: {
            **{"short": 0.3, "crop": 0.16, "side-part": 0.16, "swept-back": 0.12, "buzz": 0.11},
            **{"bald": 0.06, "afro": 0.03, "curly": 0.03, "long": 0.02, "tied": 0.01},
        }
    )
    hair_colour: Shares = field(default_factory=dict)
    beard: Shares = field(
        default_factory=lambda: {
            "none": 0.46,
            "stubble": 0.24,
            "full": 0.13,
            "goatee": 0.07,
            "moustache": 0.06,
            "sideburns": 0.04,
        }
    )
    glasses: Shares = field(
        default_factory=lambda: {"none": 0.82, "round": 0.07, "square": 0.08, "sunglasses": 0.03}
    )
    hat: Shares = field(
        default_factory=lambda: {
            **{"none": 0.9, "beanie": 0.03, "cap": 0.04, "brim": 0.02, "headscarf": 0.01}
        }
    )
    clothes: Shares = field(
        default_factory=lambda: {
            **{"tee": 0.26, "shirt": 0.2, "v-neck": 0.14, "suit": 0.14, "turtleneck": 0.09},
            **{"hoodie": 0.11, "bare": 0.06},
        }
    )
    expression: Shares = field(
        default_factory=lambda: {
            "neutral": 0.29,
            "smile": 0.26,
            "laugh": 0.2,
            "open": 0.12,
            "surprise": 0.03,
            "frown": 0.04,
            "pout": 0.02,
            "smirk": 0.04,
        }
    )
    light: Shares = field(
        default_factory=lambda: {
            "studio": 0.3,
            "window": 0.15,
            "overcast": 0.2,
            "sun": 0.1,
            "indoor": 0.15,
            "flat": 0.1,
        }
    )
    background: Shares = field(
        default_factory=lambda: {
            **{"plain": 0.1, "gradient": 0.14, "wall": 0.42, "leaves": 0.12},
            **{"blurred": 0.17, "bokeh": 0.05},
        }
    )
    yaw: float = 16.0
    most_yaw: float = 45.0
    pitch: float = 6.0
    roll: float = 5.0
    gaze: float = 5.0
    zoom: tuple[float, float] = (0.92, 1.12)
    bangs: float = 0.4
    make_up: float = 0.8
    earrings: float = 0.55
    necklace: float = 0.7
    closed_eyes: float = 0.01
    blurry: float = 0.05
    always: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    def settings(self) -> dict[str, Json]:
        """All values by name, ready for JSON."""
        out: dict[str, Json] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            out[f.name] = list(value) if isinstance(value, tuple) else value
        return out


def load_render_recipe(path: Path | None) -> RenderRecipe:
    """Read a recipe from a TOML file; None gives the default recipe.

    Raises:
        UsageError: the file is missing or not TOML, a key is unknown, shares do not sum to 1, a
            value is out of its range, or attributes contradict each other or the tables of gender,
            age and ancestry.
    """
    if path is None:
        return RenderRecipe()
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"{path}: cannot read the recipe: {reason}") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: byte {error.start} is not UTF-8; save the recipe as UTF-8 text"
        ) from None
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    return check_recipe(values, str(path))


def check_recipe(values: dict[str, Any], where: str) -> RenderRecipe:
    """Check a table of values and make a recipe of it.

    Args:
        values: key -> value, as in the TOML file.
        where: the start of each message, such as the path of the file.

    Raises:
        UsageError: as in `load_render_recipe`.
    """
    names = {f.name for f in fields(RenderRecipe)}
    default = RenderRecipe()
    done: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            raise UsageError(f"{where}: unknown key {_said(key)}{_near(key, names)}")
        standard = getattr(default, key)
        if isinstance(standard, dict):
            done[key] = _table(key, value, where)
        elif key in ("always", "never"):
            done[key] = _names(key, value, where)
        elif key == "zoom":
            done[key] = _zoom(value, where)
        else:
            done[key] = _number(key, value, where)
    recipe = RenderRecipe(**done)
    check_consistent(recipe, done, where)
    return recipe


def _said(value: Any) -> str:
    """A value as text for a message, on one line and at most 80 characters."""
    plain = isinstance(value, str) and re.fullmatch(r"[\w.+-]{1,60}", value)
    text = value if plain else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _near(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(known))}"


def _table(key: str, value: Any, where: str) -> Shares:
    if not isinstance(value, dict) or not (value or key == "hair_colour"):
        raise UsageError(
            f"{where}: {key} is {_said(value)}; wanted a table of shares under [{key}]"
        )
    for name, share in value.items():
        if key == "age":
            if not _is_range(name):
                raise UsageError(
                    f"{where}: age.{_said(name)} is not a range of years; "
                    "wanted a range within 5-85, such as 18-29"
                )
        elif name not in KNOWN[key]:
            raise UsageError(f"{where}: unknown {key}.{_said(name)}{_near(name, KNOWN[key])}")
        if not _is_number(share) or not 0 <= share <= 1:
            raise UsageError(f"{where}: {key}.{name} is {_said(share)}; wanted a share, 0 to 1")
    total = math.fsum(value.values())
    if value and abs(total - 1) > TOLERANCE:
        raise UsageError(
            f"{where}: the shares of {key} sum to {total:.6g}; wanted 1; "
            "change one of them, or divide all by the sum"
        )
    return {name: float(share) for name, share in value.items()}


def _is_range(name: str) -> bool:
    found = re.fullmatch(r"([0-9]{1,2})-([0-9]{1,2})", name)
    return found is not None and 5 <= int(found[1]) <= int(found[2]) <= OLDEST


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _names(key: str, value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise UsageError(f"{where}: {key} is {_said(value)}; wanted a list of attributes")
    for name in value:
        if name in UNKNOWN:
            raise UsageError(f"{where}: {key} has {name}, which a renderer cannot judge; remove it")
        if name not in ATTRIBUTES:
            raise UsageError(
                f"{where}: {key} has the unknown attribute {_said(name)}{_near(name, ATTRIBUTES)}"
            )
    return tuple(dict.fromkeys(value))


def _zoom(value: Any, where: str) -> tuple[float, float]:
    fine = isinstance(value, list) and len(value) == 2 and all(_is_number(v) for v in value)
    if not fine or not 0.3 <= value[0] <= value[1] <= 2:
        raise UsageError(
            f"{where}: zoom is {_said(value)}; wanted two numbers from 0.3 to 2, ascending"
        )
    return float(value[0]), float(value[1])


def _number(key: str, value: Any, where: str) -> float:
    high = {"yaw": 90.0, "most_yaw": 90.0, "pitch": 30.0, "roll": 30.0, "gaze": 20.0}.get(key, 1.0)
    what = "degrees" if high > 1 else "a share"
    if not _is_number(value) or not 0 <= value <= high:
        raise UsageError(f"{where}: {key} is {_said(value)}; wanted {what}, 0 to {high:g}")
    return float(value)
