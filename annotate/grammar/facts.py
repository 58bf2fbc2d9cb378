"""What a caption may say of a face: names, values, groups, and what excludes what.

A statement is a name and a value. The 40 attributes of CelebA have the values True and False; the
others have the words of `VALUES`. What is unknown is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from sfhq.errors import UsageError

Value = bool | str
Statement = tuple[str, Value]
Facts = dict[str, Value]

# Liu et al. 2015, "Deep Learning Face Attributes in the Wild", in five groups as in Dai et al.
# 2024, "15M Multimodal Facial Image-Text Dataset"; the members of the groups are ours.
GROUPS: dict[str, tuple[str, ...]] = {
    "elementary": (
        *("Male", "Young", "Attractive", "Chubby", "Pale_Skin", "Smiling", "Blurry"),
        *("age", "skin", "expression", "gaze", "head"),
    ),
    "features": (
        *("Arched_Eyebrows", "Bushy_Eyebrows", "Bags_Under_Eyes", "Narrow_Eyes", "Big_Nose"),
        *("Pointy_Nose", "Big_Lips", "Mouth_Slightly_Open", "High_Cheekbones", "Rosy_Cheeks"),
        *("Oval_Face", "Double_Chin", "Eyes_Closed"),
    ),
    "beard": ("5_o_Clock_Shadow", "Goatee", "Mustache", "No_Beard", "Sideburns"),
    "hairstyle": (
        *("Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Red_Hair"),
        *("Receding_Hairline", "Straight_Hair", "Wavy_Hair", "Curly_Hair", "hair_length"),
    ),
    "accessories": (
        *("Eyeglasses", "Sunglasses", "Heavy_Makeup", "Wearing_Earrings", "Wearing_Hat"),
        *("Wearing_Headscarf", "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie"),
    ),
}
GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}
AGES = ("baby", "child", "teenager", "young adult", "middle-aged", "older", "elderly")
VALUES: dict[str, tuple[str, ...]] = {
    "age": AGES,
    "skin": ("light", "olive", "tan", "brown", "dark"),
    "expression": ("neutral", "happy", "sad", "angry", "surprised"),
    "gaze": ("camera", "left", "right", "up", "down"),
    "head": ("left", "right", "up", "down"),
    "hair_length": ("short", "medium", "long"),
}
ALWAYS = ("Male", "Young", "No_Beard")  # False says something that the face has
JUDGEMENTS = ("Attractive",)  # said only where a user asks for it
COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Red_Hair")
TEXTURES = ("Straight_Hair", "Wavy_Hair", "Curly_Hair")
BEARDS = ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns")


def _pairs() -> Iterable[tuple[Statement, Statement]]:
    def both(a: str, b: str) -> tuple[Statement, Statement]:
        return (a, True), (b, True)

    yield from (both(a, b) for a, b in combinations(COLOURS, 2))
    yield from (both(a, b) for a, b in combinations(TEXTURES, 2))
    hair = (*COLOURS, *TEXTURES, "Bangs", "Receding_Hairline")
    yield from (both("Bald", other) for other in hair)
    yield from ((("Bald", True), ("hair_length", length)) for length in VALUES["hair_length"])
    yield from (both("No_Beard", other) for other in BEARDS)
    yield both("5_o_Clock_Shadow", "Goatee")
    yield both("Eyeglasses", "Sunglasses")
    yield both("Wearing_Hat", "Wearing_Headscarf")
    yield both("Wearing_Necklace", "Wearing_Necktie")
    yield both("Bangs", "Receding_Hairline")
    yield from ((("Young", True), ("age", age)) for age in AGES[4:])
    yield from ((("Young", False), ("age", age)) for age in AGES[:4])
    yield from ((("Pale_Skin", True), ("skin", skin)) for skin in VALUES["skin"][1:])
    yield from ((("Smiling", True), ("expression", e)) for e in ("neutral", "sad", "angry"))
    yield ("Smiling", False), ("expression", "happy")
    yield from ((("Eyes_Closed", True), ("gaze", gaze)) for gaze in VALUES["gaze"])
    beards: tuple[Statement, ...] = (*((b, True) for b in BEARDS), ("No_Beard", False))
    yield from ((("age", age), beard) for age in AGES[:2] for beard in beards)
    yield ("age", "baby"), ("Receding_Hairline", True)
    yield ("age", "child"), ("Receding_Hairline", True)


EXCLUSIVE: frozenset[frozenset[Statement]] = frozenset(frozenset(pair) for pair in _pairs())
_PARTNERS: dict[Statement, frozenset[Statement]] = {}
for _pair in EXCLUSIVE:
    for _one in _pair:
        _PARTNERS[_one] = _PARTNERS.get(_one, frozenset()) | (_pair - {_one})


STATEMENTS: frozenset[Statement] = frozenset(
    (name, value) for name in GROUP_OF for value in VALUES.get(name, (True, False))
)


def check_facts(facts: Mapping[str, Value]) -> None:
    """Check names and values.

    Raises:
        UsageError: a name or value that no caption can say.
    """
    for name, value in facts.items():
        if (name, value) in STATEMENTS and type(value) is not int:
            continue
        if name not in GROUP_OF:
            raise UsageError(f"{name!r} is no attribute; wanted one of {', '.join(GROUP_OF)}")
        said = ", ".join(str(w) for w in VALUES.get(name, (True, False)))
        raise UsageError(f"{name} is {value!r}; wanted one of {said}")


def contradictions(facts: Mapping[str, Value]) -> list[tuple[Statement, Statement]]:
    """Pairs of statements that cannot both be true, in the order of the names."""
    found = []
    for statement in facts.items():
        for other in _PARTNERS.get(statement, ()):
            if other[0] > statement[0] and facts.get(other[0]) == other[1]:
                found.append((statement, other))
    return sorted(found, key=str)


def without_contradictions(
    facts: Mapping[str, Value], certainty: Mapping[str, float]
) -> tuple[Facts, list[str]]:
    """The facts that stay when of each contradiction the less certain statement goes.

    Args:
        facts: statements.
        certainty: of each name, higher for what is surer; 0 for a name that is missing.

    Returns:
        What stays, in the order of `facts`, and the names that went.
    """
    stay: Facts = {}
    for name in sorted(facts, key=lambda n: (-certainty.get(n, 0.0), n)):
        partners = _PARTNERS.get((name, facts[name]), frozenset())
        if not any(stay.get(other) == value for other, value in partners):
            stay[name] = facts[name]
    return {n: v for n, v in facts.items() if n in stay}, [n for n in facts if n not in stay]


def worth_saying(facts: Mapping[str, Value], negations: bool, judgements: bool = False) -> Facts:
    """What a caption says of what is known.

    Not said are: that somebody lacks an attribute, unless `negations`, and then not what follows
    from another statement, such as that black hair is not blond; that anybody but a grown man
    has no beard; `Young` where the age says more; judgements, unless asked for. The age "young
    adult" is said as `Young`.

    Args:
        facts: statements without contradictions.
        negations: say False as well; that of `ALWAYS` is said in any case.
        judgements: say `JUDGEMENTS`.

    Returns:
        The statements in the order of `GROUPS`, whatever the order of `facts`.
    """
    if facts.get("age") == "young adult":
        facts = {**{n: v for n, v in facts.items() if n != "age"}, "Young": True}
    said: Facts = {}
    for name in GROUP_OF:
        if name not in facts:
            continue
        value = facts[name]
        if value is False and name not in ALWAYS:
            if not negations:
                continue
            partners = _PARTNERS.get((name, True), ())
            if any(facts.get(other) == fact for other, fact in partners):
                continue
        if name in JUDGEMENTS and not judgements:
            continue
        if name == "Young" and "age" in facts:
            continue
        if name == "No_Beard":
            if value is True and (facts.get("Male") is not True or facts.get("age") in AGES[:3]):
                continue
            if value is False and any(facts.get(b) is True for b in ("Goatee", "5_o_Clock_Shadow")):
                continue  # these are beards
        if name == "Smiling" and facts.get("expression") == "happy":
            continue
        said[name] = value
    return said
