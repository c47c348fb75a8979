"""Images for parity and golden checks, generated so that a bundle carries nobody's photographs.

Noise with the 1/f amplitude spectrum of natural images, coloured and stretched to the full 8-bit
range: closer to a photograph, in what a vision transformer computes, than white noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def natural_noise(count: int, height: int, width: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Deterministic images ``[count, height, width, 3]``, uint8."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    white = rng.standard_normal((count, 3, height, width))
    pink = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=(height, width))
    mix = np.array([[1.0, 0.5, 0.2], [1.0, 0.0, -0.4], [1.0, -0.5, 0.2]])  # channels of photographs correlate
    colour = np.einsum("rc,nchw->nhwr", mix, pink)
    low, high = np.quantile(colour, [0.01, 0.99], axis=(1, 2, 3), keepdims=True)
    stretched: NDArray[np.uint8] = ((colour - low) / (high - low) * 255).clip(0, 255).round().astype(np.uint8)
    return stretched
