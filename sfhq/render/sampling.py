"""Drawing people by a recipe of shares.

The first draws of each person come from a sequence that fills its cube evenly (Roberts 2018, "The
unreasonable effectiveness of quasirandom sequences"), so that any run of seeds is balanced; the
rest from a generator of the seed's own. A person depends on the recipe and the seed, on nothing
else.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sfhq.errors import UsageError
from sfhq.render.assets import base_mesh
from sfhq.render.attributes import attributes, measures
from sfhq.render.bust import build
from sfhq.render.person import (
    Beard,
    Brows,
    Colour,
    Hair,
    MakeUp,
    Person,
    Setting,
    Skin,
    View,
    Wear,
)
from sfhq.render.recipe import RenderRecipe

AXES = 8  # of the even sequence: age, gender, ancestry, hair, colour, yaw, expression, skin
TRIES = 400
OPPOSITES = (
    *(("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward")),
    *(("concave", "convex"), ("compress", "uncompress")),
)
LEFT_OUT = ("head-trans", "head-age", "neck", "measure", "asymm", "eyebrows", "head-fat")
SPREAD = {"nose": 0.19, "mouth": 0.15, "chin": 0.17, "cheek": 0.17, "head": 0.13, "ears": 0.2}
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmile": 0.6, "cheekSquint": 0.35, "eyeSquint": 0.12, "mouthDimple": 0.1},
    "laugh": {
        **{"mouthSmile": 0.75, "cheekSquint": 0.55, "eyeSquint": 0.22, "jawOpen": 0.13},
        **{"mouthUpperUp": 0.3, "mouthLowerDown": 0.22},
    },
    "open": {"jawOpen": 0.12, "mouthLowerDown": 0.08},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.6, "jawOpen": 0.28},
    "frown": {"browDown": 0.7, "mouthFrown": 0.5, "eyeSquint": 0.35, "mouthPress": 0.3},
    "pout": {"mouthPucker": 0.5, "browDown": 0.2, "mouthShrugLower": 0.3},
    "smirk": {"mouthSmileLeft": 0.6, "mouthLeft": 0.15, "browOuterUpLeft": 0.3},
}
BLACK, BROWN, BLOND, RED = (5.5, 0.1), (1.5, 0.3), (0.28, 0.28), (0.35, 1.1)


class NoSuchPerson(UsageError):
    """Nobody in all draws had what a recipe always and never wants."""


class Draw:
    """Random numbers of one person."""

    def __init__(self, seed: int, attempt: int) -> None:
        self.rng = np.random.default_rng([seed, attempt, 77])
        self._even = _even(seed) if attempt == 0 else self.rng.random(AXES)

    def even(self, axis: int) -> float:
        """A number in [0, 1) that is spread evenly over seeds."""
        return float(self._even[axis])

    def pick(self, table: Mapping[str, float], at: float | None = None) -> str:
        """A key by its share."""
        at = float(self.rng.random()) if at is None else at
        total = 0.0
        for name, share in table.items():
            total += share
            if at < total:
                return name
        return next(reversed([n for n, s in table.items() if s > 0]))

    def chance(self, share: float) -> bool:
        """True in a share of cases."""
        return bool(self.rng.random() < share)

    def normal(self, mean: float, spread: float, low: float, high: float) -> float:
        """A bell, cut at its ends."""
        return float(np.clip(self.rng.normal(mean, spread), low, high))

    def between(self, low: float, high: float) -> float:
        """Uniform."""
        return float(self.rng.uniform(low, high))


def _even(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    root = 1.0
    for _ in range(64):  # the positive root of x^(d+1) = x + 1
        root = (1 + root) ** (1 / (AXES + 1))
    steps = root ** -np.arange(1, AXES + 1)
    return (0.5 + (seed % 2**32) * steps) % 1.0


def person(seed: int, recipe: RenderRecipe) -> Person:
    """The person of a seed.

    Raises:
        NoSuchPerson: no one in `TRIES` draws had what the recipe always and never wants.
    """
    if not recipe.always and not recipe.never:
        return _draw(Draw(seed, 0), seed, recipe)
    for attempt in range(TRIES):
        one = _draw(Draw(seed, attempt), seed, recipe)
        one = _insist(one, recipe, Draw(seed, attempt + 10_000))
        got = _attributes(one)
        if all(got[n] for n in recipe.always) and not any(got[n] for n in recipe.never):
            return one
    wanted = [*recipe.always, *(f"no {n}" for n in recipe.never)]
    raise NoSuchPerson(
        f"seed {seed}: no person with {', '.join(wanted)} in {TRIES} draws; "
        "raise the shares that lead to these in the recipe, or ask for less"
    )


def _attributes(one: Person) -> dict[str, bool | None]:
    from sfhq.render.model import weights_of

    return attributes(one, measures(one, build(weights_of(one))))


def _insist(one: Person, recipe: RenderRecipe, draw: Draw) -> Person:
    """Bring about what is wanted where one number decides it; the rest is left to chance."""
    from dataclasses import replace

    wear, hair, beard, made = one.wear, one.hair, one.beard, one.make_up
    for name in recipe.always:
        if name == "Eyeglasses" and wear.glasses == "none":
            wear = replace(wear, glasses=draw.pick({"round": 0.4, "square": 0.5, "sunglasses": 0.1}))
        elif name == "Wearing_Hat" and wear.hat == "none":
            wear = replace(wear, hat=draw.pick({"beanie": 0.4, "cap": 0.4, "brim": 0.2}))
            hair = replace(hair, bangs=False)
        elif name == "Wearing_Earrings":
            wear = replace(wear, earrings=True)
        elif name == "Wearing_Necklace":
            wear = replace(wear, necklace=True)
        elif name == "Wearing_Necktie":
            wear = replace(wear, necktie=True, clothes=draw.pick({"suit": 0.6, "shirt": 0.4}))
        elif name == "Bald":
            hair = replace(hair, style="bald", bangs=False)
        elif name == "Bangs":
            style = draw.pick({"bob": 0.4, "long": 0.4, "wavy": 0.2})
            length = {"bob": 1.0, "long": 1.8, "wavy": 1.8}[style]
            hair = replace(hair, style=style, bangs=True, receding=0.0, length=length)
            wear = replace(wear, hat="none")
        elif name == "Gray_Hair":
            hair = replace(hair, grey=draw.between(0.6, 1.0), dye=None)
        elif name == "Wearing_Lipstick":
            made = replace(made, lipstick=draw.between(0.5, 0.9))
        elif name in ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns"):
            kinds = {
                "5_o_Clock_Shadow": ("stubble", 0.02),
                "Goatee": ("goatee", 0.07),
                "Mustache": ("moustache", 0.08),
                "Sideburns": ("full", 0.08),
            }
            kind, length = kinds[name]
            if not (name == "Mustache" and beard.kind in ("goatee", "full")):
                beard = replace(beard, kind=kind, length=length)
    if "No_Beard" in recipe.always:
        beard = replace(beard, kind="none")
    for name, field in (("Eyeglasses", "glasses"), ("Wearing_Hat", "hat")):
        if name in recipe.never:
            wear = replace(wear, **{field: "none"})
    return replace(one, wear=wear, hair=hair, beard=beard, make_up=made)


def _draw(d: Draw, seed: int, recipe: RenderRecipe) -> Person:
    band = d.pick(recipe.age, d.even(0))
    low, high = (float(v) for v in band.split("-"))
    years = d.between(low, high)
    male = d.pick(recipe.gender, d.even(1)) == "male"
    origin = d.pick(recipe.ancestry, d.even(2))
    ancestry = _ancestry(d, origin)
    skin = _skin(d, years, ancestry)
    hair = _hair(d, recipe, years, male, ancestry)
    expression = _expression(d, recipe)
    view = _view(d, recipe)
    _look(expression, view)
    weight = d.normal(0.45, 0.17, 0.05, 0.95)
    shape = _shape(d)
    if weight > 0.7 and d.chance(0.6):
        shape["neck-double-incr"] = d.between(0.3, 0.9)
    return Person(
        seed=seed,
        years=years,
        male=d.between(0.86, 1.0) if male else d.between(0.0, 0.14),
        ancestry=ancestry,
        muscle=d.normal(0.5, 0.15, 0.1, 0.9),
        weight=weight,
        shape=shape,
        expression=expression,
        iris=_iris(d, ancestry),
        skin=skin,
        make_up=_make_up(d, recipe, years, male, skin),
        hair=hair,
        brows=Brows(
            thickness=d.normal(0.62 if male else 0.42, 0.18, 0.1, 1.0),
            arch=d.normal(0.4 if male else 0.62, 0.18, 0.0, 1.0),
            density=d.normal(0.62, 0.16, 0.2, 1.0),
        ),
        beard=_beard(d, recipe, years, male, hair),
        wear=_wear(d, recipe, years, male),
        view=view,
        setting=_setting(d, recipe),
    )


def _ancestry(d: Draw, origin: str) -> dict[str, float]:
    names = ("african", "asian", "caucasian")
    if origin == "mixed":
        share = d.rng.dirichlet([1.2, 1.2, 1.2])
    else:
        share = d.rng.dirichlet([14.0 if n == origin else 0.6 for n in names])
    return {n: round(float(s), 4) for n, s in zip(names, share, strict=True)}


def _skin(d: Draw, years: float, ancestry: Mapping[str, float]) -> Skin:
    typical = {"african": 1.45, "asian": 0.36, "caucasian": 0.2}
    mean = sum(typical[n] * s for n, s in ancestry.items())
    melanin = float(np.clip(mean * np.exp(d.rng.normal(0, 0.3)), 0.04, 2.3))
    old = np.clip((years - 32) / 45, 0, 1)
    return Skin(
        melanin=melanin,
        haemoglobin=d.normal(0.26, 0.05, 0.14, 0.42),
        rosy=float(np.clip(d.rng.beta(1.3, 3.2), 0, 1)),
        bags=float(np.clip(d.rng.beta(1.5, 4.0) + 0.35 * old, 0, 1)),
        wrinkles=float(np.clip(old * d.between(0.5, 1.2), 0, 1)),
        freckles=d.between(0.3, 1.0) if melanin < 0.25 and d.chance(0.2) else 0.0,
        oil=d.between(0.15, 0.8),
    )


def _natural(d: Draw, ancestry: Mapping[str, float]) -> str:
    fair = ancestry.get("caucasian", 0.0)
    if d.even(4) > fair:
        return "black"
    return d.pick({"black": 0.2, "brown": 0.45, "blond": 0.27, "red": 0.08})


def _hair(
    d: Draw, recipe: RenderRecipe, years: float, male: bool, ancestry: Mapping[str, float]
) -> Hair:
    table = recipe.hair_male if male else recipe.hair_female
    style = d.pick(table, d.even(3))
    if recipe.hair_colour:
        colour = d.pick(recipe.hair_colour, d.even(4))
    else:
        colour = "dyed" if d.chance(0.03) else _natural(d, ancestry)
    eumelanin, pheomelanin = {"brown": BROWN, "blond": BLOND, "red": RED}.get(colour, BLACK)
    spread = np.exp(d.rng.normal(0, 0.25, 2))
    if colour == "brown":
        spread = np.exp(d.rng.normal(0, 0.4, 2))
    dye: Colour | None = None
    if colour == "dyed":
        hue = np.clip(d.rng.dirichlet([0.7, 0.7, 0.7]) * 0.8, 0.02, 0.7)
        dye = (float(hue[0]), float(hue[1]), float(hue[2]))
    length = {
        "bald": 0.0,
        "buzz": d.between(0.03, 0.1),
        "short": d.between(0.28, 0.55),
        "crop": d.between(0.25, 0.45),
        "side-part": d.between(0.5, 0.85),
        "swept-back": d.between(0.6, 1.0),
        "bob": d.between(0.8, 1.3),
        "long": d.between(1.5, 2.6),
        "wavy": d.between(1.2, 2.4),
        "curly": d.between(0.7, 1.8),
        "afro": d.between(0.3, 0.8),
        "tied": d.between(0.4, 2.0),
    }[style]
    old = np.clip((years - 35) / 40, 0, 1)
    receding = 0.0
    if male and style not in ("bald", "afro") and d.chance(0.15 + 0.55 * old):
        receding = float(d.rng.beta(1.4, 1.8)) * (0.5 + 0.5 * old)
    if receding > 0.35 and style in ("bob", "long", "wavy", "curly", "side-part"):
        style, length = "short", d.between(0.25, 0.45)
    bangs = not male and style in ("bob", "long", "wavy", "curly") and d.chance(recipe.bangs)
    african = ancestry.get("african", 0.0)
    return Hair(
        style=style,
        length=length,
        eumelanin=float(eumelanin * spread[0]),
        pheomelanin=float(pheomelanin * spread[1]),
        grey=float(np.clip(old * 1.5 * d.rng.random() + 0.9 * (years > 66), 0, 1))
        if years > 38
        else 0.0,
        dye=dye,
        receding=receding,
        bangs=bangs,
        part=d.between(-1, 1),
        wave=d.between(0.6, 1.0) if style == "wavy" else d.between(0.0, 0.3),
        curl=d.between(0.5, 1.0)
        if style in ("curly", "afro") or (african > 0.6 and style in ("short", "crop"))
        else 0.0,
        frizz=d.between(0.05, 0.5),
        volume=d.between(0.7, 1.3),
    )


def _expression(d: Draw, recipe: RenderRecipe) -> dict[str, float]:
    name = d.pick(recipe.expression, d.even(6))
    strength = d.between(0.55, 1.15)
    out: dict[str, float] = {}
    known = base_mesh().targets
    for unit, full in EXPRESSIONS[name].items():
        sides = (unit,) if unit in known else (f"{unit}Left", f"{unit}Right")
        for side in sides:
            value = full * strength * d.between(0.85, 1.15)
            out[side] = float(np.clip(value, 0, 1))
    lid = d.normal(-0.04, 0.06, -0.14, 0.16)
    for side in ("Left", "Right"):
        key = f"eyeBlink{side}"
        out[key] = float(np.clip(lid + d.rng.normal(0, 0.01), -0.16, 0.35))
    if d.chance(recipe.closed_eyes):
        out.update({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})
    for unit in ("browInnerUp", "browDownLeft", "browDownRight", "mouthPressLeft", "mouthPressRight"):
        out[unit] = float(np.clip(out.get(unit, 0) + 0.12 * abs(d.rng.normal()), 0, 1))
    return out


def _look(expression: dict[str, float], view: View) -> None:
    """Lids go with the gaze."""
    up, down = max(view.gaze_pitch, 0) / 30, max(-view.gaze_pitch, 0) / 30
    for side, sign in (("Left", 1), ("Right", -1)):
        out = view.gaze_yaw * sign / 35
        expression[f"eyeLookUp{side}"] = min(up, 1.0)
        expression[f"eyeLookDown{side}"] = min(down, 1.0)
        expression[f"eyeLookOut{side}"] = float(np.clip(out, 0, 1))
        expression[f"eyeLookIn{side}"] = float(np.clip(-out, 0, 1))


def _view(d: Draw, recipe: RenderRecipe) -> View:
    yaw = float(np.clip((2 * d.even(5) - 1), -0.999, 0.999))
    bell = np.sign(yaw) * np.sqrt(-2 * np.log(1 - abs(yaw)) / 2)  # even in, bell-shaped out
    yaw = float(np.clip(bell * recipe.yaw, -recipe.most_yaw, recipe.most_yaw))
    gaze = d.normal(-0.5 * yaw if d.chance(0.6) else 0.0, recipe.gaze, -28, 28)
    return View(
        yaw=yaw,
        pitch=d.normal(0, recipe.pitch, -30, 30),
        roll=d.normal(0, recipe.roll, -30, 30),
        body_yaw=d.normal(0.45 * yaw, 8, -40, 40),
        gaze_yaw=gaze,
        gaze_pitch=d.normal(0, recipe.gaze * 0.6, -20, 20),
        fov=d.between(12, 24),
        zoom=d.between(*recipe.zoom),
        shift=(d.normal(0, 0.015, -0.05, 0.05), d.normal(0, 0.015, -0.05, 0.05)),
    )


def _shape(d: Draw) -> dict[str, float]:
    out: dict[str, float] = {}
    names = [
        n
        for n in base_mesh().targets
        if not n.startswith(("universal", "african", "asian", "caucasian", *LEFT_OUT))
        and not n[0].isupper()
        and "-" in n
    ]
    known = set(names)
    done: set[str] = set()
    for name in names:
        if name in done:
            continue
        stem, _, end = name.rpartition("-")
        pair = next((o for o in OPPOSITES if end in o), None)
        if name.startswith("asym"):
            out[name] = abs(d.normal(0, 0.12, -0.35, 0.35)) if d.chance(0.5) else 0.0
            continue
        part = stem.removeprefix("l-").removeprefix("r-").split("-")[0]
        spread = SPREAD.get({"ear": "ears"}.get(part, part), 0.11)
        if "trans" in stem:
            spread *= 0.7
        if stem.endswith("epicanthus"):
            spread *= 0.6
        if pair is None:  # such as head-oval: one way only
            value = d.normal(0, 0.2, 0, 0.6)
            stems, ends = [name], [None]
        else:
            value = d.normal(0, spread, -0.6, 0.6)
            stems, ends = [stem], [pair[0] if value < 0 else pair[1]]
            done |= {f"{stem}-{pair[0]}", f"{stem}-{pair[1]}"}
        if name.startswith("l-"):  # both sides alike, but for a little
            stems = [stems[0], "r" + stems[0][1:]]
            if pair is not None:
                done |= {f"{stems[1]}-{e}" for e in pair}
            else:
                done.add(stems[1])
        for each in stems:
            full = each if ends[0] is None else f"{each}-{ends[0]}"
            if full in known and value != 0:
                out[full] = float(abs(value) * d.between(0.9, 1.1))
        done.add(name)
    return {n: round(v, 4) for n, v in out.items() if v > 0.004}


def _iris(d: Draw, ancestry: Mapping[str, float]) -> Colour:
    kinds = {
        "dark": (0.035, 0.017, 0.009),
        "brown": (0.085, 0.04, 0.016),
        "hazel": (0.13, 0.085, 0.03),
        "green": (0.11, 0.13, 0.06),
        "blue": (0.09, 0.15, 0.22),
        "grey": (0.14, 0.16, 0.17),
    }
    fair = ancestry.get("caucasian", 0.0) ** 2
    pale = {"dark": 0.05, "brown": 0.3, "hazel": 0.15, "green": 0.13, "blue": 0.3, "grey": 0.07}
    deep = {"dark": 0.7, "brown": 0.3, "hazel": 0.0, "green": 0.0, "blue": 0.0, "grey": 0.0}
    name = d.pick({k: fair * pale[k] + (1 - fair) * deep[k] for k in kinds})
    tint = np.array(kinds[name]) * np.exp(d.rng.normal(0, 0.15, 3)) * d.between(0.8, 1.3)
    return (float(tint[0]), float(tint[1]), float(tint[2]))


def _make_up(d: Draw, recipe: RenderRecipe, years: float, male: bool, skin: Skin) -> MakeUp:
    if male or years < 15 or not d.chance(recipe.make_up):
        return MakeUp()
    much = d.between(0.2, 1.0)
    red = np.array([d.between(0.3, 0.55), d.between(0.02, 0.12), d.between(0.03, 0.14)])
    red = red * np.exp(-0.35 * skin.melanin)
    shade = np.clip(d.rng.dirichlet([2, 1.5, 1.6]) * d.between(0.1, 0.5), 0.01, 0.5)
    return MakeUp(
        lipstick=float(np.clip(much * d.between(0.4, 1.2), 0, 0.95)),
        lip_colour=(float(red[0]), float(red[1]), float(red[2])),
        shadow=float(np.clip(much * d.between(0, 1.1), 0, 0.9)),
        shadow_colour=(float(shade[0]), float(shade[1]), float(shade[2])),
        liner=float(np.clip(much * d.between(0.3, 1.2), 0, 1)),
        blush=float(np.clip(much * d.between(0, 0.8), 0, 0.7)),
    )


def _beard(d: Draw, recipe: RenderRecipe, years: float, male: bool, hair: Hair) -> Beard:
    if not male or years < 17:
        return Beard()
    kind = d.pick(recipe.beard)
    length = {
        "none": 0.0,
        "stubble": d.between(0.012, 0.03),
        "goatee": d.between(0.04, 0.12),
        "moustache": d.between(0.05, 0.11),
        "full": d.between(0.04, 0.16),
        "sideburns": d.between(0.04, 0.08),
    }[kind]
    grey = float(np.clip(hair.grey * d.between(0.8, 1.4), 0, 1))
    return Beard(kind=kind, length=length, density=d.between(0.4, 1.0), grey=grey)


def _cloth(d: Draw) -> Colour:
    if d.chance(0.5):
        v = float(np.exp(d.between(np.log(0.015), np.log(0.7))))
        return (v, v, v * d.between(0.9, 1.1))
    tint = d.rng.dirichlet([3.0, 3.0, 3.0]) * float(np.exp(d.between(np.log(0.04), np.log(0.9))))
    tint = np.clip(tint, 0.01, 0.7)
    return (float(tint[0]), float(tint[1]), float(tint[2]))


def _wear(d: Draw, recipe: RenderRecipe, years: float, male: bool) -> Wear:
    clothes = d.pick(recipe.clothes)
    frame = d.pick({"black": 0.5, "brown": 0.25, "metal": 0.15, "bright": 0.1})
    frames: dict[str, Colour] = {
        "black": (0.012, 0.012, 0.013),
        "brown": (0.09, 0.04, 0.015),
        "metal": (0.45, 0.42, 0.36),
        "bright": _cloth(d),
    }
    return Wear(
        glasses=d.pick(recipe.glasses),
        frame_colour=frames[frame],
        hat=d.pick(recipe.hat),
        hat_colour=_cloth(d),
        earrings=d.chance(0.06 if male else recipe.earrings),
        necklace=d.chance(0.06 if male else recipe.necklace),
        necktie=clothes in ("suit", "shirt") and d.chance(0.75 if male else 0.08),
        metal=(0.9, 0.7, 0.32) if d.chance(0.55) else (0.75, 0.76, 0.78),
        clothes=clothes,
        cloth_colour=_cloth(d),
        tie_colour=_cloth(d),
    )


def _setting(d: Draw, recipe: RenderRecipe) -> Setting:
    return Setting(
        light=d.pick(recipe.light),
        azimuth=d.normal(0, 42, -100, 100),
        elevation=d.between(8, 50),
        hardness=float(d.rng.beta(1.4, 2.2)),
        warmth=d.normal(0.1, 0.4, -1, 1),
        background=d.pick(recipe.background),
        exposure=d.normal(0.0, 0.22, -0.6, 0.5),
    )
