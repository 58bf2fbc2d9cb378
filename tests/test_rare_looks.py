"""Rare looks, read off the images of a generator."""

from __future__ import annotations

import torch
from tiny import tiny_generator

import annotate
from sfhq import stages
from sfhq.networks.looks import RARE_LOOKS, rare_looks
from sfhq.synthesis.candidates import render
from sfhq.weights.checkpoints import load_generator
from stylegan2_ops.generator import seed_to_z


def test_looks_are_those_that_the_labels_say() -> None:
    generator, _ = load_generator()
    reader, _ = stages.network("label reader")(None)
    with torch.inference_mode():
        w = generator.mapping(torch.cat([seed_to_z(seed, 512) for seed in range(18)]))
        photos = render(generator, generator.broadcast(w))
    told: list[int] = []
    found = rare_looks(generator, w, reader, told.append)
    assert told == [16, 18] and found.shape == (18, len(RARE_LOOKS))
    labeller = annotate.Labeller.load()
    for photo, told_of in zip(photos, found.bool().tolist(), strict=True):
        face = labeller(photo, aligned=True)[0]
        there = {name for name, p in face.attributes.items() if p > 0.5}
        wanted = [bool(there & set(names)) for names in RARE_LOOKS.values()]
        wanted[0] = face.looks["glasses"] != "none"
        wanted[-1] = face.looks["years"] >= 65
        assert told_of == wanted
    assert found.sum() > 0  # somebody wears something


def test_images_of_another_size_are_read_too() -> None:
    generator = tiny_generator()
    reader, _ = stages.network("label reader")(None)
    w = generator.mapping(torch.randn(2, 16))
    assert rare_looks(generator, w, reader).shape == (2, len(RARE_LOOKS))
