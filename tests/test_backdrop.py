"""What stands behind a person."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from sfhq.parts.records import Array
from sfhq.render.people.recipe import KNOWN
from sfhq.render.person import Person
from sfhq.render.scene.backdrop import GRID, background

KINDS = KNOWN["background"]


def drawn(kind: str, size: int, seed: int) -> Array:
    one = Person()
    one = replace(one, setting=replace(one.setting, background=kind))
    return background(one, size, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [96, GRID, 300])
def test_light_of_any_size(kind: str, size: int) -> None:
    for seed in range(4):
        light = drawn(kind, size, seed)
        assert light.shape == (size, size, 3) and light.dtype == np.float32
        assert light.min() >= 0.002 and light.max() <= 1.6
        assert np.array_equal(light, drawn(kind, size, seed))


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_has_one_backdrop_at_every_size(kind: str) -> None:
    for seed in range(3):
        large, small = drawn(kind, 2 * GRID, seed), drawn(kind, 64, seed)
        reduced = large.reshape(64, 2 * GRID // 64, 64, 2 * GRID // 64, 3).mean((1, 3))
        assert np.abs(reduced - small).mean() < 0.05 * small.mean() + 0.1 * small.std()


def test_walls_and_leaves_have_texture_and_paint_has_none() -> None:
    def detail(kind: str) -> float:
        values = []
        for seed in range(12):
            grey = drawn(kind, 128, seed).mean(-1)
            values.append(float((grey - ndimage.gaussian_filter(grey, 2)).std() / grey.mean()))
        return float(np.median(values))

    plain = detail("plain")
    assert plain < 0.02 and detail("wall") > 3 * plain and detail("leaves") > 3 * plain


def test_most_backdrops_are_nearly_grey() -> None:
    colours = np.stack([drawn("plain", 64, seed).mean((0, 1)) for seed in range(200)])
    chroma = np.ptp(colours, axis=1) / colours.max(1)
    assert 0.1 < np.median(chroma) < 0.4 and np.mean(chroma > 0.6) < 0.15
    assert np.mean(colours[:, 0] > colours[:, 2]) > 0.55
