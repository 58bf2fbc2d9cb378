"""What is known of a face as facts for captions: from predicted looks, or from a render's truth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from annotate.grammar.facts import AGES, GROUP_OF, GROUPS, VALUES, Facts, Statement, Value

# Years until which an age lasts; the last one is open.
UNTIL = (2.0, 13.0, 20.0, 35.0, 55.0, 70.0)
SKIN = {"very light": "light", "light": "light", "tan": "tan", "brown": "brown", "dark": "dark"}
SAID = {  # attributes of the label network by other names; captions say "a hat"
    **dict.fromkeys(("Beanie", "Cap", "Brimmed_Hat"), "Wearing_Hat"),
    **{"Headscarf": "Wearing_Headscarf", "Full_Beard": "No_Beard"},
}
COLOURS = {
    **{"black": "Black_Hair", "blond": "Blond_Hair", "brown": "Brown_Hair"},
    **{"grey": "Gray_Hair", "red": "Red_Hair"},
}
BEARDS: dict[str, Statement] = {
    "full beard": ("No_Beard", False),
    "goatee": ("Goatee", True),
    "moustache": ("Mustache", True),
    "sideburns": ("Sideburns", True),
    "stubble": ("5_o_Clock_Shadow", True),
}
TONES = ((55.0, "light"), (41.0, "light"), (28.0, ""), (10.0, "tan"), (-30.0, "brown"))
SHORT, LONG = 0.8, 1.3  # decimetres of a rendered head's hair: up to the ears, from the shoulders
TURNED = 25.0  # degrees of yaw from which a head is said to be turned
TILTED = 20.0  # degrees of pitch from which it is said to be tilted
AT_CAMERA = 8.0  # degrees between the gaze and the camera up to which eyes look at it


def age_of(years: float) -> str:
    """The word of `AGES` for an age in years."""
    return AGES[sum(years >= limit for limit in UNTIL)]


def from_looks(
    about: Mapping[str, Any],
    probabilities: Mapping[str, float],
    threshold: float = 0.85,
) -> tuple[Facts, dict[str, float]]:
    """Facts from what `attribute` says of a face.

    Ages, skin tones, lengths and colours of hair are measured, and glasses, hats and beards
    decided, so they count as they stand; everything else counts above the threshold.

    Args:
        about: columns of `attribute`: `attributes_present`, `attributes_absent`, `male`, `years`,
            `skin_tone`, `hair_length`, `hair_colour`, `glasses`, `hat`, `facial_hair`, `yaw`,
            `pitch`, `gaze_yaw`, `gaze_pitch`.
        probabilities: of attributes by name.
        threshold: probability from which it counts that somebody is male, or is not.

    Returns:
        Facts that may contradict each other, and how certain each is, 0 to 1.
    """
    facts: Facts = {}
    certain: dict[str, float] = {}

    def say(name: str, value: Value, certainty: float) -> None:
        if name in GROUP_OF and certain.get(name, -1.0) < certainty:
            facts[name], certain[name] = value, certainty

    for name in _names(about.get("attributes_present")):
        said = SAID.get(name, name)
        say(said, name != "Full_Beard", probabilities.get(name, threshold))
    for name in _names(about.get("attributes_absent")):
        say(name, False, 1.0 - probabilities.get(name, 1.0 - threshold))
    male, years = _number(about.get("male")), _number(about.get("years"))
    facts.pop("Male", None)
    certain.pop("Male", None)
    if male is not None and max(male, 1.0 - male) > threshold:
        say("Male", male > 0.5, max(male, 1.0 - male))
    if years is not None:
        for name in ("Young", "Child"):
            facts.pop(name, None)
            certain.pop(name, None)
        facts["age"], certain["age"] = age_of(years), 0.5
    if about.get("skin_tone") in SKIN:
        say("skin", SKIN[about["skin_tone"]], 0.4)
    if about.get("hair_length") in VALUES["hair_length"]:
        say("hair_length", str(about["hair_length"]), 0.4)
    if about.get("hair_colour") in COLOURS:
        say(COLOURS[about["hair_colour"]], True, 0.45)
    if about.get("hair_length") == "bald":
        say("Bald", True, 0.42)
    if about.get("glasses") in ("clear", "sunglasses"):
        name = "Sunglasses" if about["glasses"] == "sunglasses" else "Eyeglasses"
        say(name, True, max(probabilities.get(name, 0.5), 0.5))
    if about.get("hat") == "headscarf":
        for name in [n for n in facts if n in GROUPS["hairstyle"]]:
            del facts[name], certain[name]  # nobody sees it
        say("Wearing_Headscarf", True, max(probabilities.get("Headscarf", 0.5), 0.5))
    elif about.get("hat") not in (None, "", "none"):
        say("Wearing_Hat", True, max(probabilities.get("Wearing_Hat", 0.5), 0.5))
    if about.get("facial_hair") in BEARDS:
        say(*BEARDS[about["facial_hair"]], 0.5)
    for name, value in _turns(about).items():
        say(name, value, 0.3)
    return facts, certain


def from_truth(params: Mapping[str, Any]) -> Facts:
    """Facts of a rendered person.

    Args:
        params: of the record: `attributes` and `details`, as `sfhq render` writes them.
    """
    facts: Facts = {n: v for n, v in params["attributes"].items() if isinstance(v, bool)}
    details = params.get("details", {})
    years = _number(details.get("years"))
    if years is not None:
        facts.pop("Young", None)
        facts["age"] = age_of(years)
    if facts.get("Eyeglasses") and "sun" in str(details.get("glasses", "")):
        facts["Eyeglasses"] = False
        facts["Sunglasses"] = True
    ita, hair = _number(details.get("ita")), _number(details.get("hair_length"))
    if ita is not None:
        tone = next((word for limit, word in TONES if ita > limit), "dark")
        if tone:
            facts["skin"] = tone
    style, hat = details.get("hair_style"), details.get("hat", "none")
    if hat == "headscarf":
        facts["Wearing_Headscarf"] = True
    if hair is not None and hair > 0 and style not in ("bald", "tied"):
        word = "long" if hair >= LONG else "medium" if hair >= SHORT else "short"
        word = "short" if style in ("swept-back", "afro") else word
        if word != "short" or hat == "none":  # a hat hides it
            facts["hair_length"] = word
    facts.update(_turns(details))
    return facts


def _turns(values: Mapping[str, Any]) -> Facts:
    """Where head and eyes turn, as the picture shows it: the subject's left is on the right."""
    yaw, pitch = _number(values.get("yaw")), _number(values.get("pitch"))
    found: Facts = {}
    if yaw is not None and abs(yaw) > TURNED:
        found["head"] = "right" if yaw > 0 else "left"
    elif pitch is not None and abs(pitch) > TILTED:
        found["head"] = "up" if pitch > 0 else "down"
    gaze = [_number(values.get(name)) for name in ("gaze_yaw", "gaze_pitch")]
    if None not in gaze and math.hypot(*(g for g in gaze if g is not None)) < AT_CAMERA:
        found["gaze"] = "camera"
    return found


def _names(text: object) -> Iterable[str]:
    return [name for name in str(text or "").split(", ") if name]


def _number(value: object) -> float | None:
    found = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if found else None  # type: ignore[arg-type]
