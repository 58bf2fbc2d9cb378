"""Draw the shape and the expression of a face: strengths of MakeHuman's targets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sfhq.render.head.assets import ANCESTRIES, base_mesh
from sfhq.render.people.draw import Draw
from sfhq.render.person import View

OPPOSITES = (
    *(("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward")),
    *(("concave", "convex"), ("compress", "uncompress")),
)
LEFT_OUT = ("head-trans", "head-age", "neck", "measure", "asymm", "eyebrows", "head-fat")
SPREAD = {"nose": 0.19, "mouth": 0.15, "chin": 0.17, "cheek": 0.17, "head": 0.13, "ear": 0.2}
OUTLINE = 0.09  # spread of axes with one direction only, such as head-oval
MOST = 0.6  # largest strength of a target, in both directions
# Means of axes that differ from MakeHuman's mean face, which is wide and long with small close
# eyes. They were fitted by least squares to lengths between dlib's points on photographs.
MIDDLES = {
    "l-eye-trans out": 0.38,
    "l-eye-scale": 0.24,
    "l-eye-push1": 0.15,
    "l-eye-push2": 0.1,
    "nose-trans": 0.15,
    "nose-scale-horiz": 0.2,
    "mouth-scale-horiz": 0.45,
    "chin-width": 0.1,
}
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmile": 0.6, "cheekSquint": 0.35, "eyeSquint": 0.12, "mouthDimple": 0.1},
    "laugh": {
        **{"mouthSmile": 0.75, "cheekSquint": 0.55, "eyeSquint": 0.22, "jawOpen": 0.16},
        **{"mouthUpperUp": 0.55, "mouthLowerDown": 0.3},
    },
    "open": {"jawOpen": 0.12, "mouthLowerDown": 0.08},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.6, "jawOpen": 0.28},
    "frown": {"browDown": 0.7, "mouthFrown": 0.5, "eyeSquint": 0.35, "mouthPress": 0.3},
    "pout": {"mouthPucker": 0.5, "browDown": 0.2, "mouthShrugLower": 0.3},
    "smirk": {"mouthSmileLeft": 0.6, "mouthLeft": 0.15, "browOuterUpLeft": 0.3},
}
RESTLESS = ("browInnerUp", "browDownLeft", "browDownRight", "mouthPressLeft", "mouthPressRight")


class Axis(NamedTuple):
    """One way in which faces differ: a pair of opposite targets, or one target.

    Attributes:
        stem: common start of the targets' names. "l-" at its start stands for both sides of the
            face.
        low, high: ends of the names of the two opposite targets; None if there is one target only,
            whose name is the stem.
    """

    stem: str
    low: str | None
    high: str | None

    def at(self, value: float) -> tuple[str, ...]:
        """Names of the targets for the sign of `value`, for both sides if the axis has sides."""
        end = "" if self.low is None else f"-{self.low if value < 0 else self.high}"
        sides = (self.stem, f"r{self.stem[1:]}") if self.stem.startswith("l-") else (self.stem,)
        return tuple(side + end for side in sides)


@lru_cache(maxsize=1)
def axes() -> Mapping[str, Axis]:
    """All axes by name.

    The name is the stem. A "-trans" stem has several axes; only the one of "down" and "up" has the
    stem as its name, and the others add their second end, as in "l-eye-trans out".
    """
    skipped = ("universal", *ANCESTRIES, *LEFT_OUT)
    out: dict[str, Axis] = {}
    for name in base_mesh().targets:
        if name.startswith((*skipped, "r-")) or name[0].isupper() or "-" not in name:
            continue
        stem, _, end = name.rpartition("-")
        pair = next((o for o in OPPOSITES if end in o), None)
        if pair is None or name.startswith("asym"):
            out[name] = Axis(name, None, None)
        elif not stem.endswith("-trans") or pair == ("down", "up"):
            out[stem] = Axis(stem, *pair)
        elif name.startswith("l-") or pair != ("in", "out"):  # keep nose and mouth in the middle
            out[f"{stem} {pair[1]}"] = Axis(stem, *pair)
    return out


def shape(d: Draw) -> dict[str, float]:
    """Random details of a face, target name -> strength; the two sides differ slightly."""
    out: dict[str, float] = {}
    for name, axis in axes().items():
        if name.startswith("asym"):
            out[name] = abs(d.normal(0, 0.12, -0.35, 0.35)) if d.chance(0.5) else 0.0
            continue
        if axis.low is None:
            value = d.normal(0, OUTLINE, 0, MOST)
        else:
            middle = MIDDLES.get(name, 0.0)
            most = min(middle + MOST, 1.0)
            value = d.normal(middle, _spread(axis.stem), middle - MOST, most)
        for each in axis.at(value):
            out[each] = abs(value) * d.between(0.9, 1.1)
    known = base_mesh().targets
    return {n: round(v, 4) for n, v in out.items() if v > 0.004 and n in known}


def middle() -> dict[str, float]:
    """The mean of the shapes that `shape` draws: target name -> strength."""
    return {each: abs(v) for name, v in MIDDLES.items() for each in axes()[name].at(v)}


def _spread(stem: str) -> float:
    part = stem.removeprefix("l-").split("-")[0]
    spread = SPREAD.get(part, 0.11)
    if "trans" in stem:
        spread *= 0.7
    if stem.endswith("epicanthus"):
        spread *= 0.6
    return spread


def fleshed(shape: Mapping[str, float], weight: float) -> dict[str, float]:
    """Add the fat of face and neck for a weight; MakeHuman's weight changes only the body.

    Args:
        shape: target name -> strength.
        weight: weight of the person, 0 to 1.
    """
    more, less = float(np.clip(1.9 * (weight - 0.48), 0, 0.9)), float(np.clip(0.4 - weight, 0, 0.4))
    flesh = {"head-fat-incr": more, "head-fat-decr": less, "neck-scale-horiz-incr": 0.6 * more}
    out = {**shape, **{n: round(v, 4) for n, v in flesh.items()}}
    return {n: v for n, v in out.items() if v > 0}


def push(shape: Mapping[str, float], name: str, by: float) -> dict[str, float]:
    """Move a shape along an axis.

    Args:
        shape: target name -> strength.
        name: name of the axis.
        by: change of strength; positive towards the axis's `high`, negative towards its `low`.

    Raises:
        KeyError: `name` is not an axis.
    """
    axis = axes()[name]
    middle = MIDDLES.get(name, 0.0)
    least = 0.0 if axis.low is None else middle - MOST
    out = dict(shape)
    for low, high in zip(axis.at(-1), axis.at(1), strict=True):
        before = out.pop(high, 0.0) - (out.pop(low, 0.0) if low != high else 0.0)
        value = float(np.clip(before + by, least, min(middle + MOST, 1.0)))
        out[low if value < 0 else high] = abs(value)
    return {n: round(v, 4) for n, v in out.items() if v > 0.004}


def expression(d: Draw, name: str, closed: bool) -> dict[str, float]:
    """A random variant of an expression, face unit -> strength.

    Args:
        d: random numbers.
        name: one of `EXPRESSIONS`.
        closed: True if the eyes are closed.
    """
    strength = d.between(0.55, 1.15)
    out: dict[str, float] = {}
    known = base_mesh().targets
    for unit, full in EXPRESSIONS[name].items():
        for each in (unit,) if unit in known else (f"{unit}Left", f"{unit}Right"):
            out[each] = float(np.clip(full * strength * d.between(0.85, 1.15), 0, 1))
    lid = d.normal(-0.1, 0.06, -0.14, 0.16)  # below 0 the eyes are wider open than on the mean head
    for side in ("Left", "Right"):
        out[f"eyeBlink{side}"] = float(np.clip(lid + d.rng.normal(0, 0.01), -0.16, 0.35))
        if closed:
            out[f"eyeBlink{side}"] = 1.0
            out[f"eyeWide{side}"] = out[f"eyeSquint{side}"] = 0.0
    for unit in RESTLESS:
        out[unit] = float(np.clip(out.get(unit, 0) + 0.12 * abs(d.rng.normal()), 0, 1))
    return out


def lids(view: View) -> dict[str, float]:
    """The units that move the lids with the gaze, face unit -> strength."""
    out = {}
    for side, sign in (("Left", 1), ("Right", -1)):
        away = view.gaze_yaw * sign / 35
        out[f"eyeLookUp{side}"] = float(np.clip(view.gaze_pitch / 30, 0, 1))
        out[f"eyeLookDown{side}"] = float(np.clip(-view.gaze_pitch / 30, 0, 1))
        out[f"eyeLookOut{side}"] = float(np.clip(away, 0, 1))
        out[f"eyeLookIn{side}"] = float(np.clip(-away, 0, 1))
    return out
