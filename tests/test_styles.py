"""Art styles: what they give, what they promise of seeds and sizes, and how they differ."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sfhq.errors import UsageError
from sfhq.render.styles import STYLES, Guides, stylize

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sfhq" / "samples" / "oil_0000.jpg"
ART = STYLES[1:]
Bytes = npt.NDArray[np.uint8]


@lru_cache(maxsize=8)
def picture(height: int = 96, width: int = 96) -> Bytes:
    with Image.open(SAMPLE) as image:
        return np.asarray(image.convert("RGB").resize((width, height)))


@lru_cache(maxsize=2)
def egg(size: int = 96) -> Guides:
    """An egg with hair, eyes and a mouth, before nothing."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    u, v = x / 0.33, -y / 0.42
    inside = u**2 + v**2 < 1
    w = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
    normals = np.stack([u, v, w], -1)
    normals *= (inside / np.maximum(np.linalg.norm(normals, axis=-1), 1e-6))[..., None]
    labels = np.where(inside, np.where(v > 0.45, 17, 1), 0)
    labels[inside & (np.hypot(u + 0.35, (v - 0.05) * 1.5) < 0.16)] = 5
    labels[inside & (np.hypot(u - 0.35, (v - 0.05) * 1.5) < 0.16)] = 4
    labels[inside & (np.hypot(u, (v + 0.5) * 2) < 0.25)] = 12
    depth = np.where(inside, 10 - w, np.inf)
    return Guides(labels.astype(np.uint8), normals.astype(np.float32), depth.astype(np.float32))


def apart(a: Bytes, b: Bytes) -> float:
    """Mean difference in grey levels."""
    return float(np.abs(a.astype(np.float32) - b).mean())


def test_a_photo_stays_as_it_is() -> None:
    photo = picture()
    out = stylize(photo, "photo", seed=1)
    assert np.array_equal(out, photo) and not np.shares_memory(out, photo)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("shape", [(16, 16), (97, 64), (51, 120), (128, 128), (256, 256)])
def test_the_picture_keeps_its_shape(style: str, shape: tuple[int, int]) -> None:
    photo = picture(*shape)
    before = photo.copy()
    out = stylize(photo, style, seed=3)
    assert out.shape == (*shape, 3) and out.dtype == np.uint8
    assert np.array_equal(photo, before)


@pytest.mark.parametrize("guided", [False, True], ids=["bare", "guided"])
@pytest.mark.parametrize("style", ART)
def test_a_seed_decides_the_picture(style: str, guided: bool) -> None:
    guides = egg() if guided else None
    one = stylize(picture(), style, 5, guides)
    assert np.array_equal(one, stylize(picture(), style, 5, guides))
    assert max(apart(one, stylize(picture(), style, seed, guides)) for seed in (6, 7, 8)) > 4


def test_another_process_paints_the_same() -> None:
    code = (
        "import sys, hashlib, numpy as np\nfrom PIL import Image\n"
        "from sfhq.render.styles import STYLES, stylize\n"
        "photo = np.asarray(Image.open(sys.argv[1]).convert('RGB').resize((96, 96)))\n"
        "for s in STYLES: print(hashlib.sha256(stylize(photo, s, 11).tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(SAMPLE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    here = [hashlib.sha256(stylize(picture(), s, 11).tobytes()).hexdigest() for s in STYLES]
    assert done.stdout.split() == here


def test_every_style_is_itself() -> None:
    made = {style: stylize(picture(), style, seed=2, guides=egg()) for style in STYLES}
    for a in STYLES:
        for b in STYLES:
            if a != b:
                assert apart(made[a], made[b]) > 5, f"{a} looks like {b}"


@pytest.mark.parametrize("style", ART)
def test_the_same_seed_is_the_same_picture_at_another_size(style: str) -> None:
    small, large = (stylize(picture(n, n), style, seed=4) for n in (96, 192))
    other = stylize(picture(192, 192), style, seed=9)

    def coarse(x: Bytes) -> Bytes:
        return np.asarray(Image.fromarray(x).resize((12, 12), Image.Resampling.BOX))

    assert apart(coarse(small), coarse(large)) < apart(coarse(large), coarse(other)) + 12


@pytest.mark.parametrize("style", ART)
@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_photo_is_painted(style: str, value: int) -> None:
    photo = np.full((64, 64, 3), value, np.uint8)
    nothing = Guides(
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.full((64, 64), np.inf, np.float32),
    )
    for guides in (None, nothing):
        assert stylize(photo, style, 1, guides).shape == photo.shape


@pytest.mark.parametrize("style", ART)
def test_each_guide_may_come_alone(style: str) -> None:
    full = egg()
    bare = stylize(picture(), style, 1)
    alone = (Guides(labels=full.labels), Guides(normals=full.normals), Guides(depth=full.depth))
    made = [stylize(picture(), style, 1, guides) for guides in alone]
    assert np.array_equal(stylize(picture(), style, 1, Guides()), bare)
    if style in ("cel", "clay", "low-poly", "pencil"):
        assert apart(made[0], bare) > 0.5 and apart(made[1], bare) > 0.5


def test_clay_takes_the_form_and_leaves_the_background() -> None:
    made = stylize(picture(), "clay", 2, egg()).astype(np.float32).mean(-1)
    labels = egg().labels
    assert labels is not None
    assert made[labels == 0].std() < 0.6 * made[labels == 1].std()


def test_pixelated_has_square_pixels_of_few_colours() -> None:
    for seed in range(6):
        out = stylize(picture(128, 128), "pixelated", seed)
        assert np.array_equal(out, out[::2, ::2].repeat(2, 0).repeat(2, 1))
        assert 8 <= len(np.unique(out.reshape(-1, 3), axis=0)) <= 40


def test_low_poly_is_flat_between_edges() -> None:
    out = stylize(picture(192, 192), "low-poly", 1).astype(int)
    flat = (np.abs(np.diff(out, axis=1)).max(-1) == 0).mean()
    assert flat > 0.4


def test_pencil_has_media_of_more_than_one_kind() -> None:
    chroma = [np.ptp(stylize(picture(), "pencil", s), axis=-1).mean() for s in range(8)]
    assert min(chroma) < 12 < max(chroma)


@pytest.mark.parametrize(
    ("style", "line"),
    [
        ("oils", "unknown style 'oils'; did you mean oil? wanted one of: " + ", ".join(STYLES)),
        ("xyz", "unknown style 'xyz'; wanted one of: " + ", ".join(STYLES)),
    ],
)
def test_an_unknown_style_is_one_line(style: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        stylize(picture(), style, 1)
    assert str(caught.value) == line


def test_what_cannot_be_painted_is_named() -> None:
    with pytest.raises(ValueError, match="wanted uint8"):
        stylize(picture()[..., 0], "oil", 1)
    with pytest.raises(ValueError, match="at least 16 pixels"):
        stylize(picture()[:8], "oil", 1)
    with pytest.raises(ValueError, match=r"guides.labels has shape \(64, 64\)"):
        stylize(picture(), "oil", 1, egg(64))
    with pytest.raises(ValueError, match="wanted uint8 class ids"):
        stylize(picture(), "oil", 1, Guides(labels=np.zeros((96, 96), np.int64)))


@pytest.mark.parametrize("style", ART)
def test_a_face_is_found_in_every_style(style: str, shared_data: Path) -> None:
    dlib = pytest.importorskip("dlib")
    detector = dlib.get_frontal_face_detector()
    with Image.open(shared_data / "photos" / "sfhq_0040.jpg") as image:
        photo = np.asarray(image.convert("RGB").resize((256, 256)))
    for seed in (1, 2):
        assert len(detector(stylize(photo, style, seed), 1)) == 1
