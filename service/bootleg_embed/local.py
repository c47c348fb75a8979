"""The service's engine in this process: decode in threads, one batch after another on the device.

A batch is always the same images, whatever the threads do, so that a run that was killed and resumed gives the same
bytes as one that was not.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from bootleg_bundle import default_bundle_path, open_bundle
from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import apply
from bootleg_bundle.sources.base import LIMITS
from bootleg_embed.backend import GRAPH_OUTPUT, Failure, Output, Served
from bootleg_service.engine import open_engine
from bootleg_service.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bootleg_bundle.bundle import Bundle

log = logging.getLogger("bootleg.embed")


def served_by(bundle: Bundle, output: Output) -> Served:
    """What a bundle's encoder computes, without opening it."""
    manifest = bundle.manifest
    row = manifest.outputs.row_shapes[GRAPH_OUTPUT[output]]
    return Served(manifest.name, bundle.sha256, manifest.embedding_space, row)


class LocalBackend:
    """A bundle's encoder on a device of this machine.

    Args:
        bundle: its directory; the shipped one when None.
        engine: fields of the service's ``EngineSettings``.
        output: what to compute.
        batch: images of one forward pass.

    Raises:
        BundleError: the bundle cannot be read.
        StartupError: the device cannot be had, or the model's golden check fails.
    """

    def __init__(self, bundle: Path | None, engine: dict[str, Any], output: Output, batch: int) -> None:
        opened = open_bundle(bundle or default_bundle_path())
        manifest = opened.manifest
        self._engine = open_engine(opened, EngineSettings.model_validate(engine))
        self._engine.warm_up([batch])
        self._engine.check_golden()
        self._spec = manifest.preprocess
        self._output = GRAPH_OUTPUT[output]
        self.group = batch
        self.served = served_by(opened, output)

    def prepare(self, data: bytes) -> NDArray[np.uint8]:
        """Pixels ``[H, W, 3]``, under the limits of a user's own files."""
        return apply(self._spec, decode(data, LIMITS))

    def rows(self, prepared: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any] | Failure]:
        """One forward pass; a batch that fails is halved until the guilty image is alone."""
        if not prepared:
            return []
        try:
            found = self._engine.run(np.stack(prepared), [self._output])[self._output]
        except Exception:  # a runtime raises types of its own; all mean that this batch has no answer
            if len(prepared) > 1:
                middle = len(prepared) // 2
                return self.rows(prepared[:middle]) + self.rows(prepared[middle:])
            log.exception("the model failed on an image")
            return [Failure("engine_error", "the model failed on this image")]
        return list(found)

    def close(self) -> None:
        """Nothing to let go of: the session goes with the process."""
