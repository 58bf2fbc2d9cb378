"""Make drawn people fit the wishes of a recipe, so that few draws are wasted.

Tables are reduced to the entries that fit the wishes. If one number decides an attribute, it is
set. The shape of a face is drawn again and, after several failed draws, moved towards the wish. The
caller checks the attributes of the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from sfhq.render.people.attributes import COLLARED, COLOURS, LIMITS, OPEN, ears_free, neck_free
from sfhq.render.people.draw import Draw
from sfhq.render.people.features import EXPRESSIONS, fleshed, push
from sfhq.render.people.limits import (
    CROPPED,
    Wishes,
    ages,
    ancestries,
    beards,
    genders,
    styles,
)
from sfhq.render.people.recipe import KNOWN, RenderRecipe, Shares
from sfhq.render.person import CLOTHES, GLASSES, HATS, Hair, MakeUp, Person, Skin, Wear

PATIENCE = 6  # failed draws before a shape is moved
SMILES, PARTED = ("smile", "laugh"), ("laugh", "open", "surprise")
# For each attribute of the shape: the axes to move, and the largest move. To avoid the attribute,
# the moves are reversed.
PUSHES = {
    "Big_Lips": {
        "mouth-lowerlip-height": 0.5,
        "mouth-upperlip-height": 0.5,
        "mouth-lowerlip-volume": 0.4,
    },
    "Big_Nose": {"nose-scale-horiz": 0.4, "nose-scale-vert": 0.4, "nose-scale-depth": 0.4},
    "High_Cheekbones": {"l-cheek-bones": 0.5, "l-cheek-trans": 0.4, "head-diamond": 0.2},
    "Narrow_Eyes": {"l-eye-height2": -0.5, "l-eye-height1": -0.4, "l-eye-height3": -0.4},
    "Oval_Face": {
        **{"head-oval": 0.5, "head-diamond": 0.3},
        **{"head-rectangular": -0.3, "head-square": -0.3, "head-triangular": -0.4},
    },
    "Pointy_Nose": {"nose-scale-horiz": -0.4, "nose-scale-depth": 0.5, "nose-point-width": -0.4},
}


def narrowed(recipe: RenderRecipe, wished: Wishes) -> RenderRecipe:
    """The recipe with its tables reduced to the entries that fit the wishes.

    If no entry of gender, age or ancestry fits, that table stays as it is. If no entry of another
    table fits, the default recipe's shares are used.
    """
    default = RenderRecipe()

    def cut(key: str, names: Iterable[str]) -> Shares:
        kept = list(names)
        for table in (getattr(recipe, key), getattr(default, key), dict.fromkeys(kept, 1.0)):
            left = {n: table[n] for n in kept if table.get(n, 0.0) > 0}
            if left or not kept:
                break
        return left or dict(getattr(recipe, key))

    def worn(kinds: tuple[str, ...], wish: bool | None) -> tuple[str, ...]:
        return kinds if wish is None else tuple(k for k in kinds if (k != "none") == wish)

    hatless = False if wished.get("Bangs") else wished.get("Wearing_Hat")
    hats = HATS if hatless is None else tuple(kind for kind in HATS if kind != "headscarf")
    dressed: tuple[str, ...] = COLLARED if wished.get("Wearing_Necktie") else CLOTHES
    dressed = OPEN if wished.get("Wearing_Necklace") else dressed
    made = any(wished.get(n) for n in ("Heavy_Makeup", "Wearing_Lipstick"))
    return replace(
        recipe,
        gender=genders(recipe.gender, wished) or recipe.gender,
        age=ages(recipe.age, wished) or recipe.age,
        ancestry=ancestries(recipe.ancestry, wished),
        hair_female=cut("hair_female", styles(wished)),
        hair_male=cut("hair_male", styles(wished)),
        hair_colour=_colours(recipe, wished),
        beard=cut("beard", beards(wished)),
        glasses=cut("glasses", worn(GLASSES, wished.get("Eyeglasses"))),
        hat=cut("hat", worn(hats, hatless)),
        clothes=cut("clothes", dressed),
        expression=cut("expression", _expressions(wished)),
        make_up=1.0 if made else recipe.make_up,
        closed_eyes=0.0 if wished.get("Narrow_Eyes") is False else recipe.closed_eyes,
        blurry=float(wished.get("Blurry", recipe.blurry)),
    )


def _colours(recipe: RenderRecipe, wished: Wishes) -> Shares:
    of = {"black": "Black_Hair", "brown": "Brown_Hair", "blond": "Blond_Hair"}
    asked = [n for n in COLOURS if n in wished]
    if not asked:
        return recipe.hair_colour
    only = next((c for c, name in of.items() if wished.get(name)), None)
    if only is not None:
        return {only: 1.0}
    barred = {c for c, name in of.items() if wished.get(name) is False}
    if wished.get("Brown_Hair") is False:
        barred.add("red")
    if wished.get("Gray_Hair"):
        barred.add("dyed")
    if barred <= {"dyed"} and not recipe.hair_colour:
        return recipe.hair_colour
    left = [c for c in KNOWN["hair_colour"] if c not in barred]
    table = recipe.hair_colour or {
        **{"black": 0.52, "brown": 0.26, "blond": 0.16},
        **{"red": 0.03, "dyed": 0.03},
    }
    return {c: table[c] for c in left if table.get(c, 0) > 0} or dict.fromkeys(left, 1.0)


def _expressions(wished: Wishes) -> list[str]:
    left = list(EXPRESSIONS)
    smiling, parted = wished.get("Smiling"), wished.get("Mouth_Slightly_Open")
    if smiling is not None:
        left = [n for n in left if (n in SMILES) == smiling and (smiling or n != "smirk")]
    if parted is not None:
        left = [n for n in left if (n in PARTED) == parted]
    return left


def insist(one: Person, wished: Wishes, d: Draw, attempt: int) -> Person:
    """Set the numbers that decide wishes, and move the shape after several failed draws.

    Args:
        one: a person drawn by the narrowed recipe.
        wished: the wishes.
        d: random numbers for the new values.
        attempt: number of failed draws.
    """
    weight, shape = _build(one, wished, d)
    eager = d.between(0.2, 1.0) if attempt >= PATIENCE else 0.0
    for name, stems in PUSHES.items():
        if name in wished and eager:
            for stem, most in stems.items():
                shape = push(shape, stem, eager * most * (1 if wished[name] else -1))
    brows = one.brows
    brows = replace(
        brows,
        arch=_beyond(brows.arch, "Arched_Eyebrows", wished, d, 1.0),
        thickness=_beyond(brows.thickness, "Bushy_Eyebrows", wished, d, 1.0),
        density=max(brows.density, 0.55) if wished.get("Bushy_Eyebrows") else brows.density,
    )
    hair = _hair(one.hair, wished, d)
    made = _make_up(one.make_up, wished, d)
    return replace(
        one,
        weight=weight,
        shape=shape,
        brows=brows,
        hair=hair,
        make_up=made,
        skin=_skin(one.skin, made, wished, d),
        wear=_wear(one.wear, wished),
    )


def _beyond(value: float, name: str, wished: Wishes, d: Draw, most: float) -> float:
    """The value if it is on the wished side of the limit of `name`, else a random one there."""
    border = LIMITS[name]
    wish = wished.get(name, value > border)
    if wish == (value > border):
        return value
    reach = 0.6 * (most - border) if wish else -0.4 * border
    return border + reach * d.between(0.1, 1.0)


def _build(one: Person, wished: Wishes, d: Draw) -> tuple[float, dict[str, float]]:
    weight = _beyond(one.weight, "Chubby", wished, d, 0.95)
    if wished.get("Double_Chin") and "Chubby" not in wished:
        weight = max(weight, d.between(0.6, 0.8))
    shape = fleshed(one.shape, weight)
    chin = _beyond(shape.pop("neck-double-incr", 0.0), "Double_Chin", wished, d, 1.0)
    return weight, {**shape, **({"neck-double-incr": round(chin, 4)} if chin > 0 else {})}


def _hair(hair: Hair, wished: Wishes, d: Draw) -> Hair:
    if wished.get("Gray_Hair"):
        hair = replace(hair, grey=max(hair.grey, d.between(0.6, 1.0)), dye=None)
    elif any(n in wished for n in COLOURS) and hair.grey > 0.45:
        hair = replace(hair, grey=d.between(0.0, 0.45))
    if "Bangs" in wished:
        hair = replace(hair, bangs=wished["Bangs"])
    if wished.get("Receding_Hairline"):
        hair = replace(hair, receding=d.between(0.4, 0.8), bangs=False)
    elif (wished.get("Receding_Hairline") is False or wished.get("Bangs")) and hair.receding > 0.3:
        hair = replace(hair, receding=d.between(0.0, 0.3))
    if wished.get("Bald") is False:
        hair = replace(hair, receding=min(hair.receding, 0.8))
    coiled = wished.get("Wavy_Hair") or wished.get("Straight_Hair") is False
    if coiled and hair.style in CROPPED:
        hair = replace(hair, curl=d.between(0.5, 1.0))
    if wished.get("Straight_Hair") or wished.get("Wavy_Hair") is False:
        hair = replace(hair, curl=0.0, wave=min(hair.wave, 0.2))
    ears, neck = wished.get("Wearing_Earrings"), wished.get("Wearing_Necklace")
    if (ears and not ears_free(hair)) or (neck and not neck_free(hair)):
        hair = replace(hair, behind=True)
    return hair


def _make_up(made: MakeUp, wished: Wishes, d: Draw) -> MakeUp:
    lips, heavy = wished.get("Wearing_Lipstick"), wished.get("Heavy_Makeup")
    if heavy:
        made = replace(
            made,
            lipstick=max(made.lipstick, d.between(0.5, 0.9)),
            shadow=max(made.shadow, d.between(0.5, 0.8)),
            liner=max(made.liner, d.between(0.6, 1.0)),
        )
    if lips:
        made = replace(made, lipstick=max(made.lipstick, d.between(0.4, 0.8)))
    elif lips is False:
        made = replace(made, lipstick=min(made.lipstick, d.between(0.0, 0.3)))
    if heavy is False:
        border = LIMITS["Heavy_Makeup"] * 0.98
        rest = made.shadow + made.liner
        share = max(min(1.0, (border - made.lipstick) / max(rest, 1e-6)), 0.0)
        made = replace(
            made,
            lipstick=min(made.lipstick, border),
            shadow=made.shadow * share,
            liner=made.liner * share,
        )
    return made


def _skin(skin: Skin, made: MakeUp, wished: Wishes, d: Draw) -> Skin:
    bags = _beyond(skin.bags, "Bags_Under_Eyes", wished, d, 1.0)
    melanin = skin.melanin
    if wished.get("Pale_Skin") and melanin < 0.5:
        melanin = min(melanin, d.between(0.05, 0.16))
    rosy = skin.rosy
    red = rosy + made.blush
    if "Rosy_Cheeks" in wished and wished["Rosy_Cheeks"] != (red > LIMITS["Rosy_Cheeks"]):
        rosy = float(np.clip(_beyond(red, "Rosy_Cheeks", wished, d, 1.4) - made.blush, 0, 1))
    return replace(skin, bags=bags, melanin=melanin, rosy=rosy)


def _wear(wear: Wear, wished: Mapping[str, bool]) -> Wear:
    tie = wished.get("Wearing_Necktie", wear.necktie)
    return replace(
        wear,
        earrings=wished.get("Wearing_Earrings", wear.earrings),
        necklace=wished.get("Wearing_Necklace", wear.necklace),
        necktie=tie and wear.clothes in COLLARED,
    )
