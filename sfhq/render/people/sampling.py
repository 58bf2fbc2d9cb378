"""Draw random people by a recipe of shares.

A person depends on the recipe and the seed only. Every run of consecutive seeds is balanced in age,
gender and ancestry, and nearly balanced in the rest (`sfhq.render.people.draw`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtri

from sfhq.errors import UsageError
from sfhq.render.head.bust import deform
from sfhq.render.people import features, looks
from sfhq.render.people.attributes import attributes, measures_of
from sfhq.render.people.draw import Draw
from sfhq.render.people.limits import OLDEST, span, wishes
from sfhq.render.people.recipe import RenderRecipe
from sfhq.render.people.wishes import insist, narrowed
from sfhq.render.person import Person, Setting, View

TRIES = 400
HELD = 40  # first tries, which keep the seed's age, gender and ancestry so that they stay balanced


class NoSuchPerson(UsageError):
    """None of the people drawn for a seed had the attributes that the recipe wants."""


def person(seed: int, recipe: RenderRecipe) -> Person:
    """The person of a seed, 0 or more.

    A recipe with wishes (`always` or `never`) gives other people than one without.

    Raises:
        NoSuchPerson: none of `TRIES` people had the attributes that the recipe wants.
    """
    if not recipe.always and not recipe.never:
        return _draw(Draw(seed), seed, recipe)
    wished = wishes(recipe.always, recipe.never)
    cut = narrowed(recipe, wished)
    for attempt in range(TRIES):
        d = Draw(seed, attempt, attempt >= HELD)
        one = insist(_draw(d, seed, cut), wished, d, attempt)
        got = attributes_of(one)
        if all(got[name] == wish for name, wish in wished.items()):
            return one
    wanted = [*recipe.always, *(f"no {n}" for n in recipe.never)]
    raise NoSuchPerson(
        f"seed {seed}: no person with {', '.join(wanted)} in {TRIES} draws; "
        "raise the shares in the recipe that lead to these attributes, or remove some of them"
    )


def attributes_of(one: Person) -> dict[str, bool | None]:
    """The attributes of a person, without rendering a picture."""
    from sfhq.render.scene.model import weights_of

    return attributes(one, measures_of(one, deform(weights_of(one))))


def _draw(d: Draw, seed: int, recipe: RenderRecipe) -> Person:
    first, last = span(d.pick(recipe.age, d.even("age")))
    years = d.between(first, min(last + 1, OLDEST))
    male = d.pick(recipe.gender, d.even("gender")) == "male"
    ancestry = _ancestry(d, d.pick(recipe.ancestry, d.even("ancestry")))
    skin = looks.skin(d, years, ancestry)
    styles = recipe.hair_male if male else recipe.hair_female
    hair = looks.hair(d, styles, recipe, years, male, ancestry)
    expression = features.expression(
        d, d.pick(recipe.expression, d.even("expression")), d.chance(recipe.closed_eyes)
    )
    view = _view(d, recipe)
    weight = d.normal(0.45, 0.17, 0.05, 0.95)
    shape = features.fleshed(features.shape(d), weight)
    if weight > 0.66 and d.chance(0.45):
        shape["neck-double-incr"] = round(d.between(0.45, 1.0), 4)
    wear = looks.wear(d, recipe, male, hair)
    if wear.hat != "none":
        hair = replace(hair, bangs=False)
    return Person(
        seed=seed,
        years=years,
        male=d.between(0.86, 1.0) if male else d.between(0.0, 0.14),
        ancestry=ancestry,
        muscle=d.normal(0.5, 0.15, 0.1, 0.9),
        weight=weight,
        shape=shape,
        expression={**expression, **features.lids(view)},
        iris=looks.iris(d, ancestry),
        skin=skin,
        make_up=looks.make_up(d, recipe.make_up, years, male, skin),
        hair=hair,
        brows=looks.brows(d, male, years),
        beard=looks.beard(d, recipe.beard, years, male, hair),
        wear=wear,
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


def _view(d: Draw, recipe: RenderRecipe) -> View:
    bell = float(ndtri(np.clip(d.even("yaw"), 0.001, 0.999)))  # uniform to Gaussian
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


def _setting(d: Draw, recipe: RenderRecipe) -> Setting:
    return Setting(
        light=d.pick(recipe.light),
        azimuth=d.normal(0, 42, -100, 100),
        elevation=d.between(8, 50),
        hardness=float(d.rng.beta(1.4, 2.2)),
        warmth=d.normal(0.1, 0.4, -1, 1),
        background=d.pick(recipe.background),
        exposure=d.normal(0.0, 0.22, -0.6, 0.5),
        blur=_blur(d, recipe.blurry),
    )


def _blur(d: Draw, share: float) -> float:
    """A random blur, larger for the share of pictures that are out of focus."""
    blur = 1.5 + abs(float(d.rng.normal(0, 0.6)))
    return blur + d.between(6, 11) if d.chance(share) else blur
