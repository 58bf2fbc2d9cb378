"""Rules of English that captions must not break, written apart from the grammar that makes them."""

from __future__ import annotations

import re

VOWEL_SOUND = r"(?:[aeio]|u(?!ni|se|su))"
RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a before a vowel", re.compile(rf"\b[Aa] {VOWEL_SOUND}")),
    ("an before a consonant", re.compile(rf"\b[Aa]n (?!{VOWEL_SOUND})[a-z]")),
    ("two articles", re.compile(r"\b(?:a|an|the) (?:a|an|the|no)\b", re.IGNORECASE)),
    ("a word twice", re.compile(r"\b(\w+) \1\b", re.IGNORECASE)),
    ("spaces", re.compile(r"  |^ | $| [.,]|\n")),
    ("no space after a mark", re.compile(r"[.,](?! |$)")),
    ("marks in a row", re.compile(r"[.,] ?[.,]")),
    ("and at an edge", re.compile(r"(?:^|\. )And\b|\band[.,]")),
    ("small letter at the start", re.compile(r"(?:^|\. )[a-z]")),
    ("no period at the end", re.compile(r"[^.]$")),
    ("they with a singular verb", re.compile(r"\bthey (?:is|has|wears|looks|smiles)\b", re.I)),
    ("singular with a plural verb", re.compile(r"\b(?:he|she|the \w+) (?:are|have|wear|look|smile)\b", re.I)),
    ("plural thing with is", re.compile(r"\b(?:brows|eyebrows|eyes|lips|cheeks|cheekbones) is\b")),
    ("single thing with are", re.compile(r"\b(?:hair|nose|face|skin|complexion) are\b")),
    ("article of a plural", re.compile(r"\b(?:a|an) (?:\w+ )?(?:eyebrows|brows|eyes|lips|cheeks)\b", re.I)),
    ("article missing", re.compile(r"\b(?:has|have|with) (?:big |large |pointy |oval )+(?:nose|face)\b")),
)  # fmt: skip
PRONOUNS = (("he", "his"), ("she", "her"), ("they", "their"))


def broken_rules(text: str) -> list[str]:
    """Names of the rules that a caption breaks, in order; none for good English."""
    found = [name for name, rule in RULES if rule.search(text)]
    words = set(re.findall(r"[a-z]+", text.lower()))
    if sum(bool(words & set(forms)) for forms in PRONOUNS) > 1:
        found.append("two kinds of pronouns")
    nouns = {"he": ("woman", "girl"), "she": ("man", "boy")}
    for pronoun, others in nouns.items():
        if pronoun in words and words & set(others):
            found.append("pronoun of another noun")
    return found
