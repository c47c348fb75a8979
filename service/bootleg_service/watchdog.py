"""Says so when a call of the model does not end. Liveness and admission read the same state from the batcher.

A hung driver raises nothing: without this the first sign would be that every request runs into its deadline.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bootleg_service.batching.batcher import Batcher
    from bootleg_service.metrics import Metrics

log = logging.getLogger("bootleg.watchdog")

LOOK_SECONDS: Final = 1.0


class Watchdog:
    """Watches one model's batcher.

    Args:
        batcher: whose calls are watched.
        metrics: where the state is published.
        model: in metrics and log lines.
    """

    def __init__(self, batcher: Batcher, metrics: Metrics, *, model: str) -> None:
        self._batcher = batcher
        self._metrics = metrics.of_model(model)
        self._model = model
        self._known = False
        self._metrics.stalled.set(0)

    async def watch(self) -> None:
        """Look for as long as the model is served."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Look now; a change is logged once."""
        stalled = self._batcher.stalled
        self._metrics.stalled.set(stalled)
        if stalled and not self._known:
            log.critical("%s: the model makes no progress; liveness is red, images are refused", self._model)
        elif self._known and not stalled:
            log.warning("%s: the model makes progress again", self._model)
        self._known = stalled
