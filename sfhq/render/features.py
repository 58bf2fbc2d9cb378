"""Drawing the shape and the expression of a face: strengths of MakeHuman's targets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from sfhq.render.assets import ANCESTRIES, base_mesh
from sfhq.render.draw import Draw
from sfhq.render.person import View

OPPOSITES = (
    *(("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward")),
    *(("concave", "convex"), ("compress", "uncompress")),
)
LEFT_OUT = ("head-trans", "head-age", "neck", "measure", "asymm", "eyebrows", "head-fat")
SPREAD = {"nose": 0.19, "mouth": 0.15, "chin": 0.17, "cheek": 0.17, "head": 0.13, "ear": 0.2}
MOST = 0.6  # strength of a target, either way
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


@lru_cache(maxsize=1)
def axes() -> tuple[tuple[str, str | None, str | None, bool], ...]:
    """What a face is varied along: stem, its two ends (None: one way only), and if it has a twin.

    A stem that begins with "l-" stands for both sides of the face.
    """
    skipped = ("universal", *ANCESTRIES, *LEFT_OUT)
    names = [
        n
        for n in base_mesh().targets
        if not n.startswith(skipped) and not n[0].isupper() and "-" in n
    ]
    out: dict[str, tuple[str, str | None, str | None, bool]] = {}
    for name in names:
        if name.startswith("r-"):
            continue
        stem, _, end = name.rpartition("-")
        pair = next((o for o in OPPOSITES if end in o), None)
        if pair is None or name.startswith("asym"):
            out[name] = (name, None, None, name.startswith("l-"))
        else:
            out[stem] = (stem, *pair, name.startswith("l-"))
    return tuple(out.values())


def shape(d: Draw) -> dict[str, float]:
    """Target name -> strength, of the face's details; the two sides are a little unlike."""
    out: dict[str, float] = {}
    for stem, low, high, twin in axes():
        if stem.startswith("asym"):
            out[stem] = abs(d.normal(0, 0.12, -0.35, 0.35)) if d.chance(0.5) else 0.0
            continue
        if low is None or high is None:  # such as head-oval
            value, end = d.normal(0, 0.2, 0, MOST), ""
        else:
            value = d.normal(0, _spread(stem), -MOST, MOST)
            end = f"-{low if value < 0 else high}"
        for each in (stem, "r" + stem[1:]) if twin else (stem,):
            out[each + end] = abs(value) * d.between(0.9, 1.1)
    known = base_mesh().targets
    return {n: round(v, 4) for n, v in out.items() if v > 0.004 and n in known}


def _spread(stem: str) -> float:
    part = stem.removeprefix("l-").split("-")[0]
    spread = SPREAD.get(part, 0.11)
    if "trans" in stem:
        spread *= 0.7
    if stem.endswith("epicanthus"):
        spread *= 0.6
    return spread


def fleshed(shape: Mapping[str, float], weight: float) -> dict[str, float]:
    """A shape with the face and the neck of a weight: the weight's own targets end below them.

    Args:
        shape: target name -> strength.
        weight: 0 to 1.
    """
    more, less = float(np.clip(1.9 * (weight - 0.48), 0, 0.9)), float(np.clip(0.4 - weight, 0, 0.4))
    flesh = {"head-fat-incr": more, "head-fat-decr": less, "neck-scale-horiz-incr": 0.6 * more}
    out = {**shape, **{n: round(v, 4) for n, v in flesh.items()}}
    return {n: v for n, v in out.items() if v > 0}


def push(shape: Mapping[str, float], stem: str, by: float) -> dict[str, float]:
    """A shape with more of a stem of `axes`: towards its second end, or its first if negative.

    Raises:
        KeyError: no such stem.
    """
    low, high, twin = {a[0]: a[1:] for a in axes()}[stem]
    out = dict(shape)
    for each in (stem, "r" + stem[1:]) if twin else (stem,):
        if low is None or high is None:
            out[each] = float(np.clip(out.get(each, 0.0) + by, 0, MOST))
            continue
        before = out.pop(f"{each}-{high}", 0.0) - out.pop(f"{each}-{low}", 0.0)
        value = float(np.clip(before + by, -MOST, MOST))
        out[f"{each}-{low if value < 0 else high}"] = abs(value)
    return {n: round(v, 4) for n, v in out.items() if v > 0.004}


def expression(d: Draw, name: str, closed: bool) -> dict[str, float]:
    """Face unit -> strength.

    Args:
        d: draws.
        name: of `EXPRESSIONS`.
        closed: the eyes are shut.
    """
    strength = d.between(0.55, 1.15)
    out: dict[str, float] = {}
    known = base_mesh().targets
    for unit, full in EXPRESSIONS[name].items():
        for each in (unit,) if unit in known else (f"{unit}Left", f"{unit}Right"):
            out[each] = float(np.clip(full * strength * d.between(0.85, 1.15), 0, 1))
    lid = d.normal(-0.1, 0.06, -0.14, 0.16)  # below 0 the eyes are wider open than the mean head's
    for side in ("Left", "Right"):
        out[f"eyeBlink{side}"] = float(np.clip(lid + d.rng.normal(0, 0.01), -0.16, 0.35))
        if closed:
            out[f"eyeBlink{side}"] = 1.0
            out[f"eyeWide{side}"] = out[f"eyeSquint{side}"] = 0.0
    for unit in RESTLESS:
        out[unit] = float(np.clip(out.get(unit, 0) + 0.12 * abs(d.rng.normal()), 0, 1))
    return out


def lids(view: View) -> dict[str, float]:
    """Face unit -> strength: lids go with the gaze."""
    out = {}
    for side, sign in (("Left", 1), ("Right", -1)):
        away = view.gaze_yaw * sign / 35
        out[f"eyeLookUp{side}"] = float(np.clip(view.gaze_pitch / 30, 0, 1))
        out[f"eyeLookDown{side}"] = float(np.clip(-view.gaze_pitch / 30, 0, 1))
        out[f"eyeLookOut{side}"] = float(np.clip(away, 0, 1))
        out[f"eyeLookIn{side}"] = float(np.clip(-away, 0, 1))
    return out
