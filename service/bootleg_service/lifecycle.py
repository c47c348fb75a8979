"""The server's end, and its signals: uvicorn's server with a grace before it stops accepting.

SIGTERM and SIGINT: readiness turns red, requests are served for a grace, then nothing new is accepted, what is in
flight is answered within a bound, and the process ends with 0. A second one ends it at once. SIGHUP reloads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING, Any, Final

import uvicorn

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

    from bootleg_service.models import Models
    from bootleg_service.settings import LifecycleSettings

log = logging.getLogger("bootleg.lifecycle")

DEVICE_FAILED: Final = 86
"""Exit code after a fault of the device that only a new process recovers from."""
FORCED: Final = 128
"""Added to the number of the signal that came second: 143 for SIGTERM, 130 for SIGINT."""


class Server(uvicorn.Server):
    """uvicorn's server, ended in steps."""

    def __init__(self, app: FastAPI, settings: LifecycleSettings, **config: Any) -> None:
        """Prepare it.

        Args:
            app: with its models in its state.
            settings: of the end.
            config: uvicorn's.
        """
        super().__init__(uvicorn.Config(app, timeout_graceful_shutdown=settings.drain_seconds, **config))
        self._models: Models = app.state.models
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._signalled = False

    def serve_to_the_end(self) -> None:
        """Serve until a signal, and return; or end the process with 0 where a call of the model does not return."""
        self.run()
        if not self._models.ended:
            logging.shutdown()
            os._exit(0)  # everybody has been answered; the interpreter would wait for the thread for ever

    async def startup(self, *arguments: Any, **named: Any) -> None:
        """Listen, and take SIGHUP, whose default would be to end the process."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGHUP, self._models.begin_reload)
        await super().startup(*arguments, **named)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        """Begin the end; called by the interpreter between two instructions of the main thread."""
        if self._signalled:
            os.write(2, b"stopped at once by a second signal\n")
            os._exit(FORCED + sig)
        self._signalled = True
        if self._loop is None or not self._models.started:
            os._exit(0)  # there is nobody to answer, and loading a model cannot be interrupted
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        log.info("stopping: not ready any more; requests are still taken for %g s", self._settings.grace_seconds)
        self._models.drain()
        self._draining = asyncio.create_task(self._stop_accepting(), name="grace")

    async def _stop_accepting(self) -> None:
        await asyncio.sleep(self._settings.grace_seconds)
        log.info("stopping: no more requests are taken; those in flight have %g s", self._settings.drain_seconds)
        self.should_exit = True


def give_up(error: BaseException) -> None:
    """End now, without the clean-up that a dead device would hang in; whoever supervises starts a new process."""
    log.critical("the device failed for good: %s; exit code %d", error, DEVICE_FAILED)
    logging.shutdown()
    os._exit(DEVICE_FAILED)
