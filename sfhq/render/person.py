"""The description of a rendered person: all numbers that decide the picture and its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Colour = tuple[float, float, float]  # linear RGB, 0 to 1

HAIR_STYLES = (
    *("bald", "buzz", "short", "crop", "side-part", "swept-back", "bob", "long", "wavy"),
    *("curly", "afro", "tied"),
)
BEARDS = ("none", "stubble", "goatee", "moustache", "full", "sideburns")
GLASSES = ("none", "round", "square", "sunglasses")
HATS = ("none", "beanie", "cap", "brim", "headscarf")
CLOTHES = ("bare", "tee", "v-neck", "turtleneck", "shirt", "suit", "hoodie")


@dataclass(frozen=True)
class Skin:
    """Skin.

    Attributes:
        melanin: optical density, 0.05 (very light) to 1.7 (very dark).
        haemoglobin: optical density, 0.1 to 0.5.
        rosy, bags, wrinkles, freckles: strengths of 0 to 1.
        oil: 0 (matte) to 1 (shiny).
    """

    melanin: float = 0.2
    haemoglobin: float = 0.28
    rosy: float = 0.2
    bags: float = 0.2
    wrinkles: float = 0.0
    freckles: float = 0.0
    oil: float = 0.4


@dataclass(frozen=True)
class MakeUp:
    """Make-up: strengths of 0 to 1, and colours in linear RGB."""

    lipstick: float = 0.0
    lip_colour: Colour = (0.45, 0.03, 0.06)
    shadow: float = 0.0
    shadow_colour: Colour = (0.15, 0.08, 0.1)
    liner: float = 0.0
    blush: float = 0.0


@dataclass(frozen=True)
class Hair:
    """Scalp hair.

    Attributes:
        style: one of `HAIR_STYLES`.
        length: length of the longest strands in decimetres.
        eumelanin, pheomelanin: concentrations of pigment as in Mitsuba's hair material. Black is
            6 and 0, brown 1.5 and 0.3, blond 0.25 and 0.2, red 0.3 and 1.2.
        grey: share of strands without pigment.
        dye: linear RGB of dyed hair, or None for the colour of the pigments.
        receding: 0 (a full hairline) to 1 (bald to the crown).
        bangs: True if hair covers the forehead.
        part: place of the part, -1 (subject's right) to 1 (left).
        wave, curl, frizz: 0 to 1.
        volume: 0.5 to 1.6.
        behind: True if falling hair is tucked behind the ears and shoulders.
    """

    style: str = "short"
    length: float = 0.5
    eumelanin: float = 1.5
    pheomelanin: float = 0.3
    grey: float = 0.0
    dye: Colour | None = None
    receding: float = 0.0
    bangs: bool = False
    part: float = 0.4
    wave: float = 0.2
    curl: float = 0.0
    frizz: float = 0.2
    volume: float = 1.0
    behind: bool = False


@dataclass(frozen=True)
class Brows:
    """Eyebrows; each value is 0 to 1, and 0.5 is about the average."""

    thickness: float = 0.5
    arch: float = 0.5
    density: float = 0.6


@dataclass(frozen=True)
class Beard:
    """Facial hair.

    Attributes:
        kind: one of `BEARDS`.
        length: length of the longest strands in decimetres.
        density: 0 to 1.
        grey: share of strands without pigment.
    """

    kind: str = "none"
    length: float = 0.05
    density: float = 0.8
    grey: float = 0.0


@dataclass(frozen=True)
class Wear:
    """Clothes and accessories: kinds by name, colours in linear RGB."""

    glasses: str = "none"
    frame_colour: Colour = (0.02, 0.02, 0.02)
    hat: str = "none"
    hat_colour: Colour = (0.1, 0.12, 0.2)
    earrings: bool = False
    necklace: bool = False
    necktie: bool = False
    metal: Colour = (0.9, 0.7, 0.3)
    clothes: str = "tee"
    cloth_colour: Colour = (0.2, 0.25, 0.35)
    tie_colour: Colour = (0.3, 0.02, 0.03)


@dataclass(frozen=True)
class View:
    """Pose of the head, gaze and framing.

    Attributes:
        yaw, pitch, roll: rotation of the head in degrees. Positive is towards the subject's left,
            up, and towards the subject's right shoulder.
        body_yaw: yaw of the shoulders in degrees.
        gaze_yaw, gaze_pitch: rotation of the eyes relative to the head, degrees.
        fov: vertical field of view in degrees.
        zoom: 1 is FFHQ's framing; a smaller value shows more around the face.
        shift: offset of the face in the frame, (x right, y down), as shares of the frame's side.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    body_yaw: float = 0.0
    gaze_yaw: float = 0.0
    gaze_pitch: float = 0.0
    fov: float = 16.0
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Setting:
    """Light and surroundings.

    Attributes:
        light: "studio", "window", "overcast", "sun", "indoor" or "flat".
        azimuth: direction of the main light, degrees towards the subject's left.
        elevation: height of the main light, degrees.
        hardness: 0 (a wide soft light) to 1 (a small lamp).
        warmth: -1 (blue) to 1 (orange).
        background: "plain", "gradient", "wall", "leaves", "blurred" or "bokeh".
        exposure: change of exposure in stops.
        blur: standard deviation of the picture's blur, in thousandths of its side.
    """

    light: str = "studio"
    azimuth: float = 35.0
    elevation: float = 35.0
    hardness: float = 0.4
    warmth: float = 0.0
    background: str = "gradient"
    exposure: float = 0.0
    blur: float = 1.5


@dataclass(frozen=True)
class Person:
    """A complete description of one rendered person.

    Attributes:
        seed: decides everything without a number of its own: places of freckles, strands, folds.
        years: age, 5 to 85.
        male: 0 (female) to 1 (male).
        ancestry: shares of "african", "asian", "caucasian".
        muscle, weight: 0 to 1.
        shape: name of a target for details of the face -> strength.
        expression: name of a face unit -> strength.
        iris: linear RGB.
    """

    seed: int = 0
    years: float = 30.0
    male: float = 1.0
    ancestry: Mapping[str, float] = field(default_factory=lambda: {"caucasian": 1.0})
    muscle: float = 0.5
    weight: float = 0.5
    shape: Mapping[str, float] = field(default_factory=dict)
    expression: Mapping[str, float] = field(default_factory=dict)
    iris: Colour = (0.08, 0.04, 0.02)
    skin: Skin = field(default_factory=Skin)
    make_up: MakeUp = field(default_factory=MakeUp)
    hair: Hair = field(default_factory=Hair)
    brows: Brows = field(default_factory=Brows)
    beard: Beard = field(default_factory=Beard)
    wear: Wear = field(default_factory=Wear)
    view: View = field(default_factory=View)
    setting: Setting = field(default_factory=Setting)
