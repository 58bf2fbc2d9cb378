"""Draw skin, colour of the eyes, hair, brows, beard, make-up and clothes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sfhq.render.people.attributes import COLLARED, HANGING, OPEN, ears_free, neck_free
from sfhq.render.people.draw import Draw
from sfhq.render.people.limits import BEARDED, FRINGED
from sfhq.render.people.recipe import RenderRecipe
from sfhq.render.person import Beard, Brows, Colour, Hair, MakeUp, Skin, Wear

PIGMENTS = {"black": (5.5, 0.1), "brown": (1.5, 0.3), "blond": (0.28, 0.28), "red": (0.35, 1.1)}
MADE_UP = 15
BEHIND = 0.35  # share of people with falling hair who tuck it behind the shoulders
DARKEST = 1.7  # largest melanin


def skin(d: Draw, years: float, ancestry: Mapping[str, float]) -> Skin:
    """Random skin for an age in years and shares of ancestry."""
    typical = {"african": 1.45, "asian": 0.36, "caucasian": 0.2}
    mean = sum(typical[n] * s for n, s in ancestry.items())
    melanin = float(mean * np.exp(d.rng.normal(0, 0.3)))
    bend = DARKEST - 0.5  # values above it are compressed towards DARKEST
    if melanin > bend:
        melanin = bend + (DARKEST - bend) * float(np.tanh((melanin - bend) / (DARKEST - bend)))
    old = np.clip((years - 32) / 45, 0, 1)
    return Skin(
        melanin=max(melanin, 0.05),
        haemoglobin=d.normal(0.26, 0.05, 0.14, 0.42),
        rosy=float(np.clip(d.rng.beta(1.3, 3.2), 0, 1)),
        bags=float(np.clip(d.rng.beta(1.5, 4.0) + 0.35 * old, 0, 1)),
        wrinkles=float(np.clip(old * d.between(0.5, 1.2), 0, 1)),
        freckles=d.between(0.3, 1.0) if melanin < 0.25 and d.chance(0.2) else 0.0,
        oil=d.between(0.15, 0.8),
    )


def iris(d: Draw, ancestry: Mapping[str, float]) -> Colour:
    """A random colour of the irises in linear RGB."""
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


def hair(
    d: Draw,
    table: Mapping[str, float],
    recipe: RenderRecipe,
    years: float,
    male: bool,
    ancestry: Mapping[str, float],
) -> Hair:
    """Random scalp hair.

    Args:
        d: random numbers.
        table: shares of styles.
        recipe: its hair_colour and bangs are used.
        years, male, ancestry: of the person.
    """
    style = d.pick(table, d.even("hair"))
    if style == "bald" and years < 18:
        style = "buzz"
    if recipe.hair_colour:
        colour = d.pick(recipe.hair_colour, d.even("colour"))
    else:
        colour = "dyed" if d.chance(0.03) else _colour(d, years, male, ancestry)
    eumelanin, pheomelanin, dye = pigment(d, colour)
    length = _length(d, style)
    old = np.clip((years - 35) / 40, 0, 1)
    white = _grey(d, years, male)
    receding = 0.0
    if male and years >= 22 and style not in ("bald", "afro") and d.chance(0.15 + 0.55 * old):
        receding = float(d.rng.beta(1.4, 1.8)) * (0.5 + 0.5 * old)
    if receding > 0.35 and style in (*FRINGED, "side-part"):
        style, length = "short", d.between(0.25, 0.45)
    african = ancestry.get("african", 0.0)
    coiled = style in ("curly", "afro") or (african > 0.6 and style in ("short", "crop"))
    return Hair(
        style=style,
        length=length,
        eumelanin=eumelanin,
        pheomelanin=pheomelanin,
        grey=white,
        dye=dye,
        receding=receding,
        bangs=not male and style in FRINGED and d.chance(recipe.bangs),
        part=d.between(-1, 1),
        wave=d.between(0.6, 1.0) if style == "wavy" else d.between(0.0, 0.3),
        curl=d.between(0.5, 1.0) if coiled else 0.0,
        frizz=d.between(0.05, 0.5),
        volume=d.between(0.7, 1.3),
        behind=style in HANGING and d.chance(BEHIND),
    )


def _colour(d: Draw, years: float, male: bool, ancestry: Mapping[str, float]) -> str:
    """A random natural colour by ancestry; some women with black hair colour it brown or blond."""
    if d.even("colour") < 1.35 * ancestry.get("caucasian", 0.0):
        return d.pick({"black": 0.1, "brown": 0.5, "blond": 0.32, "red": 0.08})
    if not male and years >= MADE_UP and d.chance(0.2):
        return d.pick({"brown": 0.65, "blond": 0.35})
    return "black"


def _grey(d: Draw, years: float, male: bool) -> float:
    """A random share of strands without pigment; half of the women colour them."""
    onset = d.normal(50, 8, 35, 70)
    share = float(np.clip((years - onset) / d.between(18, 40), 0, 1))
    return share if male or d.chance(0.5) else 0.0


def pigment(d: Draw, colour: str) -> tuple[float, float, Colour | None]:
    """Eumelanin, pheomelanin and dye of a colour of the recipe's table `hair_colour`."""
    eumelanin, pheomelanin = PIGMENTS.get(colour, PIGMENTS["black"])
    spread = np.exp(d.rng.normal(0, 0.4 if colour == "brown" else 0.25, 2))
    dye: Colour | None = None
    if colour == "dyed":
        hue = np.clip(d.rng.dirichlet([0.7, 0.7, 0.7]) * 0.8, 0.02, 0.7)
        dye = (float(hue[0]), float(hue[1]), float(hue[2]))
    return float(eumelanin * spread[0]), float(pheomelanin * spread[1]), dye


def _length(d: Draw, style: str) -> float:
    low, high = {
        "bald": (0.0, 0.0),
        "buzz": (0.03, 0.1),
        "short": (0.28, 0.55),
        "crop": (0.25, 0.45),
        "side-part": (0.5, 0.85),
        "swept-back": (0.6, 1.0),
        "bob": (0.8, 1.3),
        "long": (1.5, 2.6),
        "wavy": (1.2, 2.4),
        "curly": (0.7, 1.8),
        "afro": (0.3, 0.8),
        "tied": (0.4, 2.0),
    }[style]
    return d.between(low, high)


def brows(d: Draw, male: bool, years: float) -> Brows:
    """Random brows; those of children are thin and light."""
    young = float(np.clip((17 - years) / 8, 0, 1))
    return Brows(
        thickness=d.normal((0.62 if male else 0.42) - 0.2 * young, 0.18, 0.1, 1.0),
        arch=d.normal(0.4 if male else 0.62, 0.18, 0.0, 1.0),
        density=d.normal(0.62 - 0.25 * young, 0.16, 0.2, 1.0),
    )


def beard(d: Draw, table: Mapping[str, float], years: float, male: bool, scalp: Hair) -> Beard:
    """A random beard by shares of kinds; women and children have none."""
    if not male or years < BEARDED:
        return Beard()
    kind = d.pick(table)
    low, high = {
        "none": (0.0, 0.0),
        "stubble": (0.012, 0.03),
        "goatee": (0.04, 0.12),
        "moustache": (0.05, 0.11),
        "full": (0.04, 0.16),
        "sideburns": (0.04, 0.08),
    }[kind]
    length = d.between(low, high)
    grey = float(np.clip(scalp.grey * d.between(0.8, 1.4), 0, 1))
    return Beard(kind=kind, length=length, density=d.between(0.4, 1.0), grey=grey)


def make_up(d: Draw, share: float, years: float, male: bool, under: Skin) -> MakeUp:
    """Random make-up for a share of women; men and children have none."""
    if male or years < MADE_UP or not d.chance(share):
        return MakeUp()
    much = d.between(0.3, 1.0)
    red = np.array([d.between(0.3, 0.55), d.between(0.02, 0.12), d.between(0.03, 0.14)])
    red = red * np.exp(-0.35 * under.melanin)
    shade = np.clip(d.rng.dirichlet([2, 1.5, 1.6]) * d.between(0.1, 0.5), 0.01, 0.5)
    return MakeUp(
        lipstick=float(np.clip(much * d.between(0.7, 1.3), 0, 0.95)),
        lip_colour=(float(red[0]), float(red[1]), float(red[2])),
        shadow=float(np.clip(much * d.between(0, 1.1), 0, 0.9)),
        shadow_colour=(float(shade[0]), float(shade[1]), float(shade[2])),
        liner=float(np.clip(much * d.between(0.3, 1.2), 0, 1)),
        blush=float(np.clip(much * d.between(0, 0.8), 0, 0.7)),
    )


def _cloth(d: Draw) -> Colour:
    if d.chance(0.5):
        v = float(np.exp(d.between(np.log(0.015), np.log(0.7))))
        return (v, v, v * d.between(0.9, 1.1))
    tint = d.rng.dirichlet([3.0, 3.0, 3.0]) * float(np.exp(d.between(np.log(0.04), np.log(0.9))))
    tint = np.clip(tint, 0.01, 0.7)
    return (float(tint[0]), float(tint[1]), float(tint[2]))


def wear(d: Draw, recipe: RenderRecipe, male: bool, scalp: Hair) -> Wear:
    """Random clothes, glasses, hat and jewellery, without jewellery that would be hidden."""
    clothes = d.pick(recipe.clothes)
    bare = clothes in OPEN and neck_free(scalp)
    frame = d.pick({"black": 0.5, "brown": 0.25, "metal": 0.15, "bright": 0.1})
    frames: dict[str, Colour] = {
        "black": (0.012, 0.012, 0.013),
        "brown": (0.09, 0.04, 0.015),
        "metal": (0.45, 0.42, 0.36),
        "bright": _cloth(d),
    }
    glasses = d.pick(recipe.glasses, d.even("glasses"))
    hat = d.pick(recipe.hat)
    hat = "none" if hat == "headscarf" and male else hat
    bare = bare and hat != "headscarf"
    return Wear(
        glasses=glasses,
        frame_colour=frames[frame],
        hat=hat,
        hat_colour=_cloth(d),
        earrings=d.chance(0.06 if male else recipe.earrings)
        and ears_free(scalp)
        and hat != "headscarf",
        necklace=d.chance(0.06 if male else recipe.necklace) and bare,
        necktie=d.chance(0.75 if male else 0.08) and clothes in COLLARED,
        metal=(0.9, 0.7, 0.32) if d.chance(0.55) else (0.75, 0.76, 0.78),
        clothes=clothes,
        cloth_colour=_cloth(d),
        tie_colour=_cloth(d),
    )
