"""Turn a noisy linear picture into a photograph: denoise, add background, exposure and camera.

Path tracing has few samples per pixel, so it is noisy. The label pass has colours, borders and
normals without noise. Light is divided by the colour of the surface, smoothed where colour and
normal are similar, and multiplied by the colour again. So edges and texture come from geometry, and
light comes from path tracing. Source: Dammertz et al. 2010, "Edge-avoiding a-trous wavelet
transform for fast global illumination filtering".
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sfhq.parts.records import Pixels
from sfhq.render.head.assets import Floats
from sfhq.render.labels.classes import Labels
from sfhq.render.person import Person
from sfhq.render.scene.backdrop import background

KERNEL = np.array([1, 2, 1], np.float32) / 4
LIGHT = 0.97  # median irradiance of the face after exposure
SOFT = 0.5  # pixels, standard deviation of the blur of every lens and sensor
COLOUR_SOFT = 0.5  # pixels, standard deviation of the additional blur of colour
LUMA = np.array([0.299, 0.587, 0.114])
CONTRAST = (0.15, 0.5)  # range of the tone curve's strength
BALANCE = ((0.02, 0.0, -0.08), (0.06, 0.02, 0.08))  # log gain of red, green, blue: mean, deviation
FACE = (1, 10, 12, 13)
MOUTH = 11
IN_MOUTH = 0.62  # least light in the mouth, as a share of the face's light


def irradiance(picture: Floats, labels: Labels, steady: Floats) -> tuple[Floats, Floats]:
    """Denoised light on surfaces and on strands, (H, W, 3) each.

    Args:
        picture: (H, W, 4) from `scene.picture.render`.
        labels: labels of the picture, of the same size.
        steady: (H, W); 0 smooths fully, 1 does not smooth.
    """
    soft = ndimage.gaussian_filter(labels.normals, (1.5, 1.5, 0))
    soft /= np.maximum(np.linalg.norm(soft, axis=-1, keepdims=True), 1e-6)
    seen = picture[..., :3] / np.maximum(picture[..., 3:], 0.05)
    out = []
    for share, albedo, normals, passes, sharp, most in (
        (labels.solid, labels.albedo[0], labels.normals, 4, 20.0, 2.5),
        (labels.hairy, labels.albedo[1], soft, 3, 6.0, 1.5),
    ):
        if not share.any():
            out.append(np.zeros_like(seen))
            continue
        # Where paths hit nothing there is no light to use, even if the labels have a surface.
        pure = (np.clip((share - 0.6) * 4, 0, 1) ** 2 + 1e-6 * share) * picture[..., 3]
        light = seen / np.maximum(albedo, 0.01)
        light = _tame(_calm(light, pure), pure, most)
        smooth = _smooth(light, pure, normals, albedo, passes, sharp)
        eyes = np.isin(labels.classes, (4, 5))
        keep = (steady * eyes * (pure > 0.4))[..., None]
        out.append((smooth * (1 - keep) + light * keep).astype(np.float32))
    return out[0], out[1]


def _calm(light: Floats, pure: Floats) -> Floats:
    """Limit single bright pixels to about twice the median of their neighbours."""
    tone = light.mean(-1)
    middle = ndimage.median_filter(tone, 3)
    top = 2.2 * middle + 0.05
    scale = np.where(tone > top, top / np.maximum(tone, 1e-6), 1.0)
    out: Floats = (light * scale[..., None]).astype(np.float32)
    return out


def _tame(light: Floats, pure: Floats, most: float) -> Floats:
    """Limit light to `most` times the mean light around it.

    This removes glints of single paths through fair hair, and light of hair on dark skin below it.
    """
    wide = light.shape[0] / 64
    around = ndimage.gaussian_filter(light * pure[..., None], (wide, wide, 0))
    around /= ndimage.gaussian_filter(pure, wide)[..., None] + 1e-8
    out: Floats = np.minimum(light, most * around + 0.02)
    return out


def _smooth(
    light: Floats, pure: Floats, normals: Floats, albedo: Floats, passes: int, sharp: float
) -> Floats:
    weight = pure + 1e-8
    colour = np.log(albedo.mean(-1) + 0.02)
    value = light
    for level in range(passes):
        step = 2**level
        total = np.zeros_like(light)
        count = np.zeros(light.shape[:2], np.float32)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near = _shift(normals, dy * step, dx * step)
                across = 1 - np.einsum("ijk,ijk->ij", near, normals)
                tone = _shift(colour, dy * step, dx * step) - colour
                alike = np.exp(-sharp * np.maximum(across, 0) - 4.0 * tone**2)
                w = KERNEL[dy + 1] * KERNEL[dx + 1] * alike * _shift(weight, dy * step, dx * step)
                total += w[..., None] * _shift(value, dy * step, dx * step)
                count += w
        known = np.maximum(count, 1e-9)
        value = total / known[..., None]
        weight = np.maximum(weight, np.clip(count, 0, 1))
    return value


def _shift(a: Floats, dy: int, dx: int) -> Floats:
    """The array shifted by whole pixels; its edge is repeated."""
    if dy:
        a = np.roll(a, dy, 0)
        if dy > 0:
            a[:dy] = a[dy]
        else:
            a[dy:] = a[dy - 1]
    if dx:
        a = np.roll(a, dx, 1)
        if dx > 0:
            a[:, :dx] = a[:, dx : dx + 1]
        else:
            a[:, dx:] = a[:, dx - 1 : dx]
    return a


def scatter(light: Floats, labels: Labels, size: int) -> Floats:
    """Light after scattering in the skin: red and green are blurred, red most; (H, W, 3).

    Args:
        light: (H, W, 3) light on surfaces.
        labels: labels of the picture.
        size: side of the picture in pixels.
    """
    skin = np.isin(labels.classes, (1, 7, 8, 10, 12, 13, 14)).astype(np.float32) * labels.solid
    out = light.copy()
    known = [ndimage.gaussian_filter(skin, s * size / 256) + 1e-4 for s in (1.6, 0.7)]
    for channel, sigma, weight in ((0, 1.6, known[0]), (1, 0.7, known[1])):
        blurred = ndimage.gaussian_filter(light[..., channel] * skin, sigma * size / 256) / weight
        out[..., channel] += 0.7 * skin * (blurred - light[..., channel])
    return out


def _through_lips(light: Floats, labels: Labels) -> Floats:
    """Light in the mouth is at least `IN_MOUTH` of the face's: lips and cheeks are translucent."""
    face = np.isin(labels.classes, FACE) & (labels.solid > 0.8)
    if not face.any():
        return light
    inside = ((labels.classes == MOUTH) * labels.solid)[..., None]
    out: Floats = np.maximum(light, IN_MOUTH * np.median(light[face], 0) * inside)
    return out


def _pores(labels: Labels, size: int, rng: np.random.Generator) -> Floats:
    """(H, W) factors on the light that make skin uneven."""
    skin = np.isin(labels.classes, (1, 7, 8, 10, 14))
    grain = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), max(size / 420, 0.45))
    grain /= max(float(grain.std()), 1e-6)
    out: Floats = 1 + 0.022 * min(size / 512, 1.0) * skin * grain
    return out


def develop(person: Person, picture: Floats, labels: Labels, steady: Floats) -> Pixels:
    """The photograph, (H, W, 3) uint8 RGB.

    Args:
        person: its seed and setting decide background and camera.
        picture: (H, W, 4) from `scene.picture.render`.
        labels: labels of the picture, of the same size.
        steady: as in `irradiance`.
    """
    size = picture.shape[0]
    rng = np.random.default_rng([person.seed, 40])
    solid, hairy = irradiance(picture, labels, steady)
    solid = scatter(solid, labels, size)
    solid = _through_lips(solid, labels)
    solid = solid * _pores(labels, size, rng)[..., None]
    face = np.isin(labels.classes, FACE) & (labels.solid > 0.8)
    middle = float(np.median(solid[face].mean(-1))) if face.any() else 1.0
    gain = LIGHT / max(middle, 0.05) * 2.0**person.setting.exposure
    behind = np.clip(1 - labels.solid - labels.hairy, 0, 1)[..., None]
    scene = background(person, size, rng)
    image = (
        gain * labels.solid[..., None] * labels.albedo[0] * solid
        + gain * labels.hairy[..., None] * labels.albedo[1] * hairy
        + behind * scene
    )
    return camera(image.astype(np.float32), person.setting.blur, rng)


def camera(image: Floats, blur: float, rng: np.random.Generator) -> Pixels:
    """Simulate lens, sensor and tone curve: linear light to 8-bit sRGB, (H, W, 3).

    Args:
        image: (H, W, 3) linear light.
        blur: standard deviation of the blur, in thousandths of the picture's side.
        rng: draws vignette, grain and contrast.
    """
    size = image.shape[0]
    sigma = np.hypot(blur * size / 1000, SOFT)
    image = ndimage.gaussian_filter(image, (sigma, sigma, 0))
    image = image * np.exp(rng.normal(*BALANCE))
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = image * (1 - rng.uniform(0, 0.14) * (x**2 + y**2) / 2)[..., None]
    # The shoulder of the tone curve: values above 0.7 are compressed towards 1.
    over = np.maximum(image - 0.7, 0)
    image = np.minimum(image, 0.7) + 0.3 * (1 - np.exp(-over / 0.3))
    # A picture that was reduced in size has less of the sensor's grain.
    grain = 0.006 * min(size / 512, 1.0)
    image = image + rng.normal(0, grain, image.shape) * np.sqrt(np.clip(image, 0.02, 1))
    image = np.clip(image, 0, 1)
    curve = np.where(image <= 0.0031308, 12.92 * image, 1.055 * image ** (1 / 2.4) - 0.055)
    curve = curve + rng.uniform(*CONTRAST) * (curve - 0.45) * curve * (1 - curve) * 4
    # Sensors record one colour per pixel and JPEG subsamples colour, so colour is blurred more.
    grey = (curve @ LUMA)[..., None]
    curve = grey + ndimage.gaussian_filter(curve - grey, (COLOUR_SOFT, COLOUR_SOFT, 0))
    done: Pixels = np.clip(curve * 255 + 0.5, 0, 255).astype(np.uint8)
    return done
