"""Find the contours of a drawing: dark lines of the image, and outlines from the guides."""

from __future__ import annotations

import numpy as np

from sfhq.render.styles.fields import Floats, blur, luma, smear, smoothstep, tangent, tensor
from sfhq.render.styles.guides import Guides


def contours(rgb: Floats, guides: Guides, width: float, gain: float = 1.0) -> Floats:
    """(H, W) in [0, 1], strength of a line of `width` pixels at each pixel.

    A pixel that is darker than its surroundings is on a line. The response is averaged along the
    edge, so lines are long. Outlines of the guides are added; they do not depend on light.

    Args:
        rgb: (H, W, 3).
        guides: data about each pixel.
        width: width of a line in pixels.
        gain: above 1 finds weaker lines.

    Source: Kang et al. 2007, "Coherent line drawing", with an isotropic difference.
    """
    grey = np.log(luma(rgb) + 0.15)  # the logarithm keeps lines in shadows
    fine = blur(grey, 0.5 * width)
    angle, _ = tangent(tensor(fine, 1.5 * width))
    dark = blur(grey, 1.3 * width) - fine
    dark = smear(dark.astype(np.float32), angle, 3.0 * width)
    drawn = smoothstep(0.008 / gain, 0.075 / gain, dark)
    outlines = guides.outlines()
    if outlines is not None:
        form = blur(outlines, 0.75 * width) * np.float32(2.0)  # smooth the steps of the pixels
        drawn = np.maximum(drawn, smoothstep(0.4, 1.05, form))
    return drawn
