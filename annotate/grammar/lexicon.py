"""The words for each statement: how it can be said, and how often.

Forms of words:
    "of": an adjective of a thing that a face has, such as "wavy" of hair; see `THINGS`
    "adj": an adjective of the person, before the noun or after "is"
    "be": words after "is"
    "have": words after "has", with their article
    "wear": words after "wears", with their article
    "verb": a verb with its form for "they", such as ("smiles", "smile")
    "photo": an adjective of the picture
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from annotate.grammar.facts import Statement

Form = Literal["of", "adj", "be", "have", "wear", "verb", "photo"]


@dataclass(frozen=True)
class Way:
    """One way to say a statement.

    Attributes:
        form: the place in a sentence that its words need.
        words: the words.
        weight: how often it is chosen, relative to the others of its statement.
        thing: of the form "of": the key of `THINGS`.
        plural: of the form "verb": the words after "they".
    """

    form: Form
    words: str
    weight: float = 1.0
    thing: str = ""
    plural: str = ""


@dataclass(frozen=True)
class Thing:
    """Something that a face has, described by adjectives.

    Attributes:
        names: nouns with weights, and whether they take "a" or "an".
        plural: whether they take "are".
    """

    names: tuple[tuple[str, float, bool], ...]
    plural: bool = False


THINGS: dict[str, Thing] = {
    "hair": Thing((("hair", 1.0, False),)),
    "eyebrows": Thing((("eyebrows", 0.7, False), ("brows", 0.3, False)), plural=True),
    "nose": Thing((("nose", 1.0, True),)),
    "lips": Thing((("lips", 1.0, False),), plural=True),
    "eyes": Thing((("eyes", 1.0, False),), plural=True),
    "cheekbones": Thing((("cheekbones", 1.0, False),), plural=True),
    "cheeks": Thing((("cheeks", 1.0, False),), plural=True),
    "face": Thing((("face", 1.0, True),)),
    "skin": Thing((("skin", 0.7, False), ("complexion", 0.3, True))),
}


def _of(thing: str, *words: str) -> tuple[Way, ...]:
    return tuple(Way("of", w, 1.0 if i == 0 else 0.5, thing) for i, w in enumerate(words))


def _no(form: Form, *words: str) -> tuple[Way, ...]:
    return tuple(Way(form, w, 1.0 if i == 0 else 0.5) for i, w in enumerate(words))


# The order of adjectives before a noun: opinion, size, shape, age, look, colour.
ORDER = (
    *("attractive", "good-looking"),
    *("big", "large", "full", "long", "shoulder-length", "medium-length", "short", "high"),
    *("narrow", "arched", "bushy", "thick", "pointy", "pointed", "prominent", "oval", "chubby"),
    *("plump", "straight", "wavy", "curly", "closed", "young", "youthful", "mature"),
    *("middle-aged", "older", "elderly", "bald", "clean-shaven", "smiling", "happy", "sad"),
    *("angry", "surprised", "pale", "fair", "light", "olive", "tanned", "brown", "dark", "rosy"),
    *("flushed", "black", "blond", "blonde", "gray", "grey", "red"),
)
RANK = {word: place for place, word in enumerate(ORDER)}

WAYS: dict[Statement, tuple[Way, ...]] = {
    ("Attractive", True): (Way("adj", "attractive"), Way("adj", "good-looking", 0.5)),
    ("Attractive", False): (Way("be", "not attractive"),),
    ("Young", True): (Way("adj", "young"), Way("adj", "youthful", 0.2)),
    ("Young", False): (Way("adj", "mature"),),
    ("age", "middle-aged"): (Way("adj", "middle-aged"),),
    ("age", "older"): (Way("adj", "older"),),
    ("age", "elderly"): (Way("adj", "elderly"),),
    ("Chubby", True): (Way("adj", "chubby"), Way("adj", "plump", 0.4)),
    ("Chubby", False): (Way("be", "not chubby"),),
    ("Pale_Skin", True): _of("skin", "pale", "fair"),
    ("Pale_Skin", False): (Way("have", "no pale skin"),),
    ("skin", "light"): _of("skin", "light"),
    ("skin", "olive"): _of("skin", "olive"),
    ("skin", "tan"): _of("skin", "tanned"),
    ("skin", "brown"): _of("skin", "brown"),
    ("skin", "dark"): _of("skin", "dark"),
    ("Smiling", True): (
        Way("adj", "smiling"),
        Way("verb", "smiles", 0.6, plural="smile"),
        Way("have", "a smile", 0.4),
    ),
    ("Smiling", False): (Way("be", "not smiling"), Way("have", "no smile", 0.3)),
    ("expression", "happy"): (Way("adj", "happy"), Way("verb", "looks happy", plural="look happy")),
    ("expression", "neutral"): (Way("have", "a neutral expression"),),
    ("expression", "sad"): (Way("verb", "looks sad", plural="look sad"),),
    ("expression", "angry"): (Way("verb", "looks angry", plural="look angry"),),
    ("expression", "surprised"): (
        Way("verb", "looks surprised", plural="look surprised"),
        Way("have", "a surprised expression", 0.5),
    ),
    ("gaze", "camera"): (
        Way("verb", "looks at the camera", plural="look at the camera"),
        Way("be", "looking at the camera", 0.7),
        Way("verb", "looks into the camera", 0.3, plural="look into the camera"),
    ),
    ("Blurry", True): (Way("photo", "blurry"), Way("photo", "blurred", 0.4)),
    ("Blurry", False): (Way("photo", "sharp"),),
    ("Arched_Eyebrows", True): _of("eyebrows", "arched"),
    ("Arched_Eyebrows", False): _no("have", "no arched eyebrows"),
    ("Bushy_Eyebrows", True): _of("eyebrows", "bushy", "thick"),
    ("Bushy_Eyebrows", False): _no("have", "no bushy eyebrows"),
    ("Bags_Under_Eyes", True): (
        Way("have", "bags under the eyes"),
        Way("have", "eye bags", 0.3),
    ),
    ("Bags_Under_Eyes", False): _no("have", "no bags under the eyes"),
    ("Narrow_Eyes", True): _of("eyes", "narrow"),
    ("Narrow_Eyes", False): _no("have", "no narrow eyes"),
    ("Eyes_Closed", True): _of("eyes", "closed"),
    ("Eyes_Closed", False): _no("have", "no closed eyes"),
    ("Big_Nose", True): _of("nose", "big", "large"),
    ("Big_Nose", False): _no("have", "no big nose"),
    ("Pointy_Nose", True): _of("nose", "pointy", "pointed"),
    ("Pointy_Nose", False): _no("have", "no pointy nose"),
    ("Big_Lips", True): _of("lips", "full", "big"),
    ("Big_Lips", False): _no("have", "no full lips"),
    ("Mouth_Slightly_Open", True): (
        Way("have", "a slightly open mouth"),
        Way("have", "slightly parted lips", 0.4),
    ),
    ("Mouth_Slightly_Open", False): _no("have", "a closed mouth", "closed lips"),
    ("High_Cheekbones", True): _of("cheekbones", "high", "prominent"),
    ("High_Cheekbones", False): _no("have", "no high cheekbones"),
    ("Rosy_Cheeks", True): _of("cheeks", "rosy", "flushed"),
    ("Rosy_Cheeks", False): _no("have", "no rosy cheeks"),
    ("Oval_Face", True): _of("face", "oval"),
    ("Oval_Face", False): _no("have", "no oval face"),
    ("Double_Chin", True): _no("have", "a double chin"),
    ("Double_Chin", False): _no("have", "no double chin"),
    ("5_o_Clock_Shadow", True): (Way("have", "a five o'clock shadow"), Way("have", "stubble", 0.7)),
    ("5_o_Clock_Shadow", False): _no("have", "no stubble", "no five o'clock shadow"),
    ("Goatee", True): _no("have", "a goatee"),
    ("Goatee", False): _no("have", "no goatee"),
    ("Mustache", True): _no("have", "a mustache", "a moustache"),
    ("Mustache", False): _no("have", "no mustache", "no moustache"),
    ("Sideburns", True): _no("have", "sideburns"),
    ("Sideburns", False): _no("have", "no sideburns"),
    ("No_Beard", True): (Way("adj", "clean-shaven"), Way("have", "no beard", 0.7)),
    ("No_Beard", False): _no("have", "a beard"),
    ("Bald", True): (Way("adj", "bald"),),
    ("Bald", False): (Way("be", "not bald"),),
    ("Bangs", True): _no("have", "bangs", "a fringe"),
    ("Bangs", False): _no("have", "no bangs", "no fringe"),
    ("Black_Hair", True): _of("hair", "black"),
    ("Black_Hair", False): _no("have", "no black hair"),
    ("Blond_Hair", True): _of("hair", "blond", "blonde"),
    ("Blond_Hair", False): _no("have", "no blond hair"),
    ("Brown_Hair", True): _of("hair", "brown"),
    ("Brown_Hair", False): _no("have", "no brown hair"),
    ("Gray_Hair", True): _of("hair", "gray", "grey"),
    ("Gray_Hair", False): _no("have", "no gray hair"),
    ("Red_Hair", True): _of("hair", "red"),
    ("Red_Hair", False): _no("have", "no red hair"),
    ("Receding_Hairline", True): _no("have", "a receding hairline"),
    ("Receding_Hairline", False): _no("have", "no receding hairline"),
    ("Straight_Hair", True): _of("hair", "straight"),
    ("Straight_Hair", False): _no("have", "no straight hair"),
    ("Wavy_Hair", True): _of("hair", "wavy"),
    ("Wavy_Hair", False): _no("have", "no wavy hair"),
    ("Curly_Hair", True): _of("hair", "curly"),
    ("Curly_Hair", False): _no("have", "no curly hair"),
    ("hair_length", "short"): _of("hair", "short"),
    ("hair_length", "medium"): _of("hair", "shoulder-length", "medium-length"),
    ("hair_length", "long"): _of("hair", "long"),
    ("Eyeglasses", True): _no("wear", "eyeglasses", "glasses"),
    ("Eyeglasses", False): _no("wear", "no eyeglasses", "no glasses"),
    ("Sunglasses", True): _no("wear", "sunglasses"),
    ("Sunglasses", False): _no("wear", "no sunglasses"),
    ("Heavy_Makeup", True): _no("wear", "heavy makeup"),
    ("Heavy_Makeup", False): _no("wear", "no heavy makeup"),
    ("Wearing_Earrings", True): _no("wear", "earrings"),
    ("Wearing_Earrings", False): _no("wear", "no earrings"),
    ("Wearing_Hat", True): _no("wear", "a hat"),
    ("Wearing_Hat", False): _no("wear", "no hat"),
    ("Wearing_Headscarf", True): _no("wear", "a headscarf"),
    ("Wearing_Headscarf", False): _no("wear", "no headscarf"),
    ("Wearing_Lipstick", True): _no("wear", "lipstick"),
    ("Wearing_Lipstick", False): _no("wear", "no lipstick"),
    ("Wearing_Necklace", True): _no("wear", "a necklace"),
    ("Wearing_Necklace", False): _no("wear", "no necklace"),
    ("Wearing_Necktie", True): _no("wear", "a necktie", "a tie"),
    ("Wearing_Necktie", False): _no("wear", "no necktie", "no tie"),
}
for _side in ("left", "right", "up", "down"):
    _to = f"to the {_side}" if _side in ("left", "right") else _side
    WAYS["gaze", _side] = (
        Way("verb", f"looks {_to}", plural=f"look {_to}"),
        Way("be", f"looking {_to}", 0.7),
    )
    WAYS["head", _side] = (
        Way("have", f"a head turned {_to}" if "to" in _to else f"a head tilted {_to}"),
    )

# Nouns of the person by (Male, age); what is missing there takes the row of no age, where the age
# is said by an adjective.
NOUNS: dict[tuple[bool | None, str], tuple[tuple[str, float], ...]] = {
    (True, ""): (("man", 1.0),),
    (False, ""): (("woman", 1.0),),
    (None, ""): (("person", 1.0),),
    (True, "baby"): (("baby boy", 1.0),),
    (False, "baby"): (("baby girl", 1.0),),
    (None, "baby"): (("baby", 1.0),),
    (True, "child"): (("boy", 1.0),),
    (False, "child"): (("girl", 1.0),),
    (None, "child"): (("child", 0.8), ("kid", 0.2)),
    (True, "teenager"): (("teenage boy", 1.0),),
    (False, "teenager"): (("teenage girl", 1.0),),
    (None, "teenager"): (("teenager", 1.0),),
}
PRONOUNS: dict[bool | None, tuple[str, str]] = {
    True: ("he", "his"),
    False: ("she", "her"),
    None: ("they", "their"),
}
PICTURES = (("photo", 0.5), ("portrait", 0.3), ("picture", 0.2))
