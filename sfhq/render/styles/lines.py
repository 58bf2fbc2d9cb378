"""Contours as a draughtsman sees them: dark lines of the image, and edges of the form."""

from __future__ import annotations

import numpy as np

from sfhq.render.styles.fields import Floats, blur, luma, smear, smoothstep, tangent, tensor
from sfhq.render.styles.guides import Guides


def contours(rgb: Floats, guides: Guides, width: float, gain: float = 1.0) -> Floats:
    """(H, W) in [0, 1], how strongly a line of `width` pixels wants to be at each pixel.

    A pixel darker than its surroundings is on a line; the response is averaged along the
    edge so that lines are long. Outlines of the guides are added, and do not depend on light.

    Source: Kang et al. 2007, "Coherent line drawing", with an isotropic difference.
    """
    grey = np.log(luma(rgb) + 0.15)  # a shadow hides no line
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
