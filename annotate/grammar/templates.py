"""Captions as older data sets make them: for comparison with the grammar's.

One sentence with all attributes in a list, as generators of captions for CelebA-HQ wrote them; and
CelebA-Dialog's form: a sentence for each of five attributes, from a few templates (Jiang et al.
2021, "Talk-to-Edit"). The words are ours.
"""

from __future__ import annotations

import random

from annotate.grammar.compose import listed, with_article
from annotate.grammar.facts import Facts, Value, worth_saying


def noun_of(facts: Facts) -> str:
    """The word for a person."""
    male = facts.get("Male")
    return "man" if male is True else "woman" if male is False else "person"


def single_template(facts: Facts, _: int) -> str:
    """One sentence: all attributes by their names, in a list."""
    said = worth_saying(facts, negations=False)
    words = [_named(name, value) for name, value in said.items() if name != "Male" and value]
    start = f"This is a photo of {with_article(noun_of(said))}"
    return f"{start} with {listed(words)}." if words else f"{start}."


def _named(name: str, value: Value) -> str:
    """A statement in the words of its name."""
    if isinstance(value, str):
        thing = {"hair_length": "hair", "age": "age", "skin": "skin"}.get(name)
        return f"{value} {thing}" if thing else f"{name} to the {value}"
    return name.lower().replace("_", " ")


# Five attributes with a few sentences each, joined: the form of CelebA-Dialog's captions.
DIALOG = {
    "Bangs": ("{He} has bangs.", "The {noun} has bangs over the forehead.", "There are bangs."),
    "Eyeglasses": ("{He} wears eyeglasses.", "The {noun} wears glasses.", "There are glasses."),
    "No_Beard": ("{His} face is clean.", "The {noun} has no beard.", "There is no beard."),
    "Smiling": ("The {noun} smiles.", "{He} has a smile on the face.", "The {noun} looks happy."),
    "Young": ("The {noun} is young.", "{He} looks young.", "{His} face is that of the young."),
}


def dialog_style(facts: Facts, seed: int | str) -> str:
    """A sentence for each of five attributes, from a few templates, in a random order."""
    rng = random.Random(seed)
    noun = noun_of(facts)
    he, his = {"man": ("He", "His"), "woman": ("She", "Her")}.get(noun, ("This person", "The"))
    said = [name for name in DIALOG if facts.get(name) is True]
    rng.shuffle(said)
    lines = [rng.choice(DIALOG[name]).format(He=he, His=his, noun=noun) for name in said]
    return " ".join(lines or [f"This is {with_article(noun)}."])
