"""One model's way into the decode pool, which the models of a process share: its preprocessing, and its own count.

The pipeline asks it for pixels. A model that takes no images refuses them here, before they cost a decode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootleg_service.batching.ticket import ANYBODY
from bootleg_service.errors import OverloadedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bootleg_bundle import PreprocessSpec
    from bootleg_service.batching.batcher import Batcher
    from bootleg_service.batching.ticket import Claim
    from bootleg_service.decode_pool import DecodePool


class ModelDecode:
    """Decodes for one model.

    Attributes:
        arriving: this model's images in or before decode: what its batcher may wait for.
    """

    def __init__(self, pool: DecodePool, spec: PreprocessSpec) -> None:
        self._pool = pool
        self._spec = spec
        self._batcher: Batcher | None = None
        self.arriving = 0

    def feed(self, batcher: Batcher) -> None:
        """Say whose images these are; once, before the first."""
        self._batcher = batcher

    async def decode(self, data: bytes, ticket: Claim = ANYBODY) -> NDArray[np.uint8]:
        """Decode one image to ``[H, W, 3]``.

        Raises:
            UnavailableError: the model takes no images now.
            ImageError: it is no image we accept.
            DecodeError: decoding it took too long or ended its process, with processes.
            OverloadedError: too many images wait, or it would be decoded after the ticket's deadline.
            DeadlineError: the deadline passed while it waited.
        """
        assert self._batcher is not None
        self._batcher.check()
        self.arriving += 1
        try:
            return await self._pool.decode(data, self._spec, ticket)
        except OverloadedError:
            self._batcher.saturation.refused()
            raise
        finally:
            self.arriving -= 1
            if not self.arriving:
                self._batcher.wake()
