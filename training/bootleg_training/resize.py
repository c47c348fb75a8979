"""A trained encoder at another input size: the same weights under a position table for another grid.

Segmentation probes call it, as may whoever serves an encoder at a larger input. Only the table changes;
nothing is trained, and the encoder given is left as it is.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal

from torch import nn

from bootleg_bundle.errors import ConfigError
from bootleg_training.config import EncoderConfig
from bootleg_training.vit import resize_positions, sincos_positions

if TYPE_CHECKING:
    from bootleg_training.vit import Encoder

Positions = Literal["interpolate", "extend"]


def at_size(encoder: Encoder, size: int, *, positions: Positions = "interpolate") -> Encoder:
    """Copy an encoder for square inputs of ``size`` pixels.

    Args:
        encoder: on any device, in any mode; the copy is on the same device and in the same mode.
        size: input side in pixels, a multiple of the patch side.
        positions: ``interpolate`` resamples the trained table, so that every position stays within the range the
            encoder was trained on; ``extend`` computes the sin-cos table of the larger grid, whose spacing is the
            trained one and whose far end the encoder has never seen; fixed positions only.

    Returns:
        The copy; at the trained size its table is the trained one, bit for bit.

    Raises:
        ConfigError: ``size`` is no positive multiple of the patch side, or learned positions are to be extended.
    """
    config, patch = encoder.config, encoder.config.patch_size
    if size < patch or size % patch:
        raise ConfigError(f"size {size} is no multiple of the encoder's patch side, {patch} pixels")
    learned = isinstance(encoder.positions_ND, nn.Parameter)
    if positions == "extend" and learned:
        raise ConfigError("positions = 'extend': these positions were learned, there are none beyond the trained grid")
    resized = copy.deepcopy(encoder)
    resized.config = EncoderConfig.model_validate({**config.model_dump(), "image_size": size})
    grid, trained_ND = resized.config.grid, encoder.positions_ND.detach()
    table_ND = (
        resize_positions(trained_ND, grid) if positions == "interpolate" else sincos_positions(config.width, grid)
    )
    table_ND = table_ND.to(trained_ND).clone()
    resized.positions_ND = nn.Parameter(table_ND, encoder.positions_ND.requires_grad) if learned else table_ND
    return resized
