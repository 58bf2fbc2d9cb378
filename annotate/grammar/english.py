"""Rules of English that captions must not break, written apart from the grammar that makes them."""

from __future__ import annotations

import re

VOWEL_SOUND = r"(?:[aeio]|u(?!ni|se|su))"
PLURALS = "brows|eyebrows|eyes|lips|cheeks|cheekbones"
PATTERNS = {
    "a before a vowel": rf"\b[Aa] {VOWEL_SOUND}",
    "an before a consonant": rf"\b[Aa]n (?!{VOWEL_SOUND})[a-z]",
    "two articles": r"(?i)\b(?:a|an|the) (?:a|an|the|no)\b",
    "a word twice": r"(?i)\b(\w+) \1\b",
    "spaces": r"  |^ | $| [.,]|\n",
    "no space after a mark": r"[.,](?! |$)",
    "marks in a row": r"[.,] ?[.,]",
    "and at an edge": r"(?:^|\. )And\b|\band[.,]",
    "small letter at the start": r"(?:^|\. )[a-z]",
    "no period at the end": r"[^.]$",
    "they with a singular verb": r"(?i)\bthey (?:is|has|wears|looks|smiles)\b",
    "singular with a plural verb": r"(?i)\b(?:he|she|the \w+) (?:are|have|wear|look|smile)\b",
    "plural thing with is": rf"\b(?:{PLURALS}) is\b",
    "single thing with are": r"\b(?:hair|nose|face|skin|complexion) are\b",
    "article of a plural": rf"(?i)\b(?:a|an) (?:\w+ )?(?:{PLURALS})\b",
    "article missing": r"\b(?:has|have|with) (?:big |large |pointy |oval )+(?:nose|face)\b",
}
RULES = tuple((name, re.compile(pattern)) for name, pattern in PATTERNS.items())
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
