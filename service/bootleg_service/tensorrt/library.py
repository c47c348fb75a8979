"""Importing TensorRT: the driver first, then the library, then its version.

The builder and the session of an engine begin here. A version whose interface was not considered is
refused rather than tried.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any, Final

from bootleg_service.errors import StartupError
from bootleg_service.tensorrt.driver import check_driver

log = logging.getLogger("bootleg.tensorrt")

CONSIDERED: Final = (10, 11)
"""Major versions whose Python interface this code was written to: strongly typed networks, tensors by name."""

INSTALL: Final = "install it with: pip install 'bootleg-vision[tensorrt]'"


def import_tensorrt(what: str) -> Any:
    """Import ``tensorrt``.

    Args:
        what: needs it; begins the messages.

    Raises:
        StartupError: no driver, no TensorRT, or a version that was not considered.
    """
    check_driver(what)
    try:
        trt = importlib.import_module("tensorrt")
    except ImportError as error:  # absent, or its libraries are
        raise StartupError(f"{what}: TensorRT cannot be imported ({error}); {INSTALL}") from error
    version = str(trt.__version__)
    if version.partition(".")[0] not in map(str, CONSIDERED):
        known = " and ".join(map(str, CONSIDERED))
        raise StartupError(f"{what}: TensorRT {version} is installed; this code knows versions {known}; {INSTALL}")
    return trt


def make_logger(trt: Any) -> Any:
    """A TensorRT logger that writes to ours; its ``errors`` keeps the errors, for messages of one line."""
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,
        severity.VERBOSE: logging.DEBUG,
    }

    class _ToLog(trt.ILogger):  # type: ignore[misc]  # its base is only known here
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level == logging.ERROR:
                self.errors.append(msg)
            log.log(level, "%s", msg)

    return _ToLog()
