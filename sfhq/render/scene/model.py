"""The posed person: surfaces and strands with their names and materials."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sfhq.render.hair import face_hair, groom
from sfhq.render.hair.groom import Strands
from sfhq.render.head import skin
from sfhq.render.head.assets import Floats, Ints
from sfhq.render.head.bust import (
    Bust,
    build,
    macro_weights,
    skin_normals,
    topology,
    vertex_normals,
)
from sfhq.render.head.eyes import Piece, build_eye, build_mouth
from sfhq.render.person import Person
from sfhq.render.scene.camera import Camera, frame, posed


@dataclass(frozen=True)
class Solid:
    """A posed surface.

    Attributes:
        name: such as "skin", "l-eye" or "frame-l"; the first word decides its class.
        material: a key of `sfhq.render.scene.picture.MATERIALS`, or "clear".
        points, normals, colour: (V, 3).
        triangles: (T, 3).
    """

    name: str
    material: str
    points: Floats
    normals: Floats
    colour: Floats
    triangles: Ints


@dataclass(frozen=True)
class Model:
    """A posed person.

    Attributes:
        person: the numbers of the person.
        bust: the shape in the rest pose.
        camera: the camera that frames the face.
        solids: posed surfaces.
        strands: hair in the rest pose.
        curves: posed points of `strands` in the same order, (S, K, 3) each.
        densities: (F,) densities of hair on the skin, under "scalp", "beard" and "brows".
        flipped: True if the bust's left is the person's right; see `mirror`.
    """

    person: Person
    bust: Bust
    camera: Camera
    solids: list[Solid]
    strands: list[Strands]
    curves: list[Floats]
    densities: dict[str, Floats] = field(default_factory=dict)
    flipped: bool = False


def weights_of(person: Person) -> dict[str, float]:
    """The strengths of all targets of shape and expression: target name -> strength."""
    weights = macro_weights(
        person.years, person.male, person.ancestry, person.muscle, person.weight
    )
    for name, strength in (*person.shape.items(), *person.expression.items()):
        weights[name] = weights.get(name, 0.0) + strength
    return weights


def make(person: Person) -> Model:
    """Build the geometry of a person.

    Raises:
        KeyError: the shape or the expression names an unknown target.
    """
    from sfhq.render.wear import items as wear

    bust = build(weights_of(person))
    shared = topology()
    densities = face_hair.fields(person)
    shade = {
        "scalp": densities["scalp"] * (0.0 if person.hair.style == "bald" else 1.0),
        "beard": densities["beard"] * (0.45 if person.beard.length < 0.04 else 0.8),
        "brows": densities["brows"] * person.brows.density,
    }
    surface = skin.paint(person, bust, shade)
    strands = groom.grow_hair(person, surface, wear.under_hat(person, densities["scalp"]))
    strands = wear.press(person, strands)
    strands.append(face_hair.grow_brows(person, surface, densities["brows"]))
    strands.append(face_hair.grow_lashes(person, bust.base))
    facial = face_hair.grow_beard(person, surface, densities["beard"])
    if facial is not None:
        strands.append(facial)
    pieces: list[tuple[str, str, Piece]] = [
        ("skin", "skin", Piece(surface.points, shared.triangles, surface.colour, shared.follows))
    ]
    pieces += [(f"{s}-eye", "eye", build_eye(person, bust, s)) for s in "lr"]
    names = ("upper-teeth", "lower-teeth", "tongue")
    pieces += [(n, "teeth", p) for n, p in zip(names, build_mouth(person, bust), strict=True)]
    pieces += wear.build(person, bust, surface, strands)
    solids = []
    for name, material, piece in pieces:
        points = posed(piece.points, piece.follows, person.view)
        normals = (
            skin_normals(points) if name == "skin" else vertex_normals(points, piece.triangles)
        )
        solids.append(Solid(name, material, points, normals, piece.colour, piece.triangles))
    curves = [posed(s.points, s.follows(), person.view) for s in strands]
    return Model(
        person=person,
        bust=bust,
        camera=frame(bust, person.view),
        solids=solids,
        strands=strands,
        curves=curves,
        densities=densities,
    )


def mirror(model: Model) -> Model:
    """The mirrored model: another person, whose left is where the first one's right was."""
    over = np.array([-1, 1, 1], np.float32)
    other = {"l": "r", "r": "l"}
    solids = [
        replace(
            s,
            name="-".join(other.get(word, word) for word in s.name.split("-")),
            points=s.points * over,
            normals=s.normals * over,
            triangles=s.triangles[:, ::-1].copy(),
        )
        for s in model.solids
    ]
    x, y, z = model.camera.at
    return replace(
        model,
        camera=replace(model.camera, at=(-x, y, z)),
        solids=solids,
        strands=[replace(s, points=s.points * over) for s in model.strands],
        curves=[c * over for c in model.curves],
        flipped=not model.flipped,
    )
