"""The model on its device: opening it, proving it is what was asked for, and running batches.

One thread owns an engine (the batcher's); nothing else calls :meth:`Engine.run`. What computes is a
session: ONNX Runtime's or a TensorRT engine's. A device asked for by name is had, or the start fails.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from bootleg_bundle.manifest import GOLDEN_TOLERANCE, GRAPH_INPUT
from bootleg_service.batching.faults import Fault, classify
from bootleg_service.errors import StartupError
from bootleg_service.masks.heads import row_shapes, with_heads
from bootleg_service.onnx_session import OnnxSession, check_one_runtime
from bootleg_service.tensorrt.driver import check_driver, driver_loads
from bootleg_service.tensorrt.opening import open_tensorrt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from bootleg_bundle import Bundle
    from bootleg_service.settings import EngineSettings

log = logging.getLogger("bootleg.engine")

PREFERRED: Final = {"cpu": ("fp32",), "cuda": ("fp16", "fp32"), "tensorrt": ("fp16", "fp32")}
"""By device: what ``precision = auto`` takes, the first that the bundle has. int8 is only had by name."""


class Session(Protocol):
    """What computes a graph's outputs."""

    providers: list[str]

    def run(self, feeds: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Outputs by name; first axis of all arrays: the batch."""

    def close(self) -> None:
        """Free the device's memory; nothing runs after it."""


class Engine:
    """One loaded encoder graph.

    Attributes:
        device: where it runs: ``cpu``, ``cuda`` or ``tensorrt``.
        precision: of its graph.
        providers: what the session says it runs on.
    """

    def __init__(self, bundle: Bundle, device: str, precision: str, session: Session) -> None:
        self.device = device
        self.precision = precision
        self.providers = session.providers
        self._bundle = bundle
        self._session = session

    def run(self, pixels: NDArray[np.uint8], outputs: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Encode a batch.

        Args:
            pixels: uint8 ``[n, H, W, 3]``.
            outputs: names among ``GRAPH_OUTPUTS``, and each head's logits, as ``golden_key`` names them.

        Returns:
            float32 arrays by name, first axis ``n``.
        """
        return self._session.run({GRAPH_INPUT: pixels}, sorted(outputs))

    @cached_property
    def _golden(self) -> dict[str, NDArray[Any]]:
        # Read once: a folder that is being replaced says nothing about the model that runs.
        return self._bundle.golden()

    def warm_up(self, batches: Iterable[int]) -> None:
        """Run each batch size twice: allocators and kernels settle on the second run.

        Raises:
            StartupError: the model fails, or returns other shapes than its manifest says.
        """
        spec = self._bundle.manifest.preprocess
        expected = row_shapes(self._bundle.manifest)
        for batch in batches:
            for _ in range(2):
                try:
                    results = self.run(np.zeros((batch, spec.height, spec.width, 3), np.uint8), expected)
                except Exception as error:
                    memory = classify(error) is Fault.OUT_OF_MEMORY
                    says = "the device has too little memory; lower --max-batch" if memory else type(error).__name__
                    raise StartupError(f"the model cannot run a batch of {batch}: {says}") from error
                shapes = {name: result.shape[1:] for name, result in results.items()}
                if shapes != expected:
                    raise StartupError(f"the model's outputs are {shapes}, not what its manifest says")

    def close(self) -> None:
        """Free the model's memory on its device; nothing runs after it."""
        self._session.close()

    def check_golden(self, batch: int | None = None) -> float:
        """Run the bundle's golden images and compare.

        Args:
            batch: repeat or cut them to so many, for what computes each batch size in its own way.

        Returns:
            The largest relative error over the outputs.

        Raises:
            StartupError: it exceeds what the precision allows.
        """
        golden = self._golden
        if batch is not None:
            golden = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in golden.items()}
        actual = self.run(golden[GRAPH_INPUT], self._bundle.manifest.golden_rows)
        errors = [
            float(np.linalg.norm(given - golden[name]) / np.linalg.norm(golden[name])) for name, given in actual.items()
        ]
        worst = float(np.max(errors))  # unlike max(), never hides a NaN
        allowed = GOLDEN_TOLERANCE[self.precision]
        if not worst <= allowed:
            raise StartupError(
                f"the model's golden check failed on {self.device}: relative error {worst:.1e}, allowed {allowed:.0e}"
            )
        return worst


def open_engine(bundle: Bundle, settings: EngineSettings) -> Engine:
    """Load a bundle's graph on the device asked for.

    ``auto`` tries an engine that ``bootleg engine`` built, then CUDA, then the CPU, with one warning for
    each that cannot be had. A device asked for by name is had, or the start fails.

    Raises:
        StartupError: the device or the precision cannot be had, or two runtimes are installed over each other.
    """
    check_one_runtime()
    if settings.device != "auto":
        return _open(bundle, settings.device, settings)
    if not driver_loads():
        log.info("device auto: no CUDA driver; taking the CPU")
        return _open(bundle, "cpu", settings)
    for device, after in (("tensorrt", "trying CUDA"), ("cuda", "falling back to the CPU")):
        try:
            return _open(bundle, device, settings)
        except StartupError as error:
            log.warning("device auto: %s cannot be used (%s); %s", device, error.message, after)
    return _open(bundle, "cpu", settings)


def _open(bundle: Bundle, device: str, settings: EngineSettings) -> Engine:
    precision = choose_precision(bundle, device, settings.precision)
    memory = settings.gpu_memory_bytes
    if device == "tensorrt":
        # Only who asked for TensorRT by name waits for ONNX Runtime to build an engine at the start.
        session: Session = open_tensorrt(bundle, precision, settings, build=settings.device == "tensorrt")
        return Engine(bundle, device, precision, with_heads(session, bundle, settings.threads, gpu_memory_bytes=memory))
    if device != "cpu":
        check_driver(f"device = {device!r}")
    session = OnnxSession(bundle.graph(precision), device, settings.threads, gpu_memory_bytes=memory)
    return Engine(bundle, device, precision, with_heads(session, bundle, settings.threads, gpu_memory_bytes=memory))


def choose_precision(bundle: Bundle, device: str, asked: str) -> str:
    """The precision to serve.

    Raises:
        StartupError: it was asked for by name, and the bundle does not have it or the device cannot read it.
    """
    have = bundle.manifest.graphs
    if device == "tensorrt" and asked == "int8":  # its 32-bit biases and zero points
        raise StartupError("precision = 'int8': TensorRT does not read it, it is for processors; take fp16 or fp32")
    if asked == "auto":
        return next(precision for precision in PREFERRED[device] if precision in have)
    if asked not in have:
        raise StartupError(
            f"precision = {asked!r}: the bundle {bundle.manifest.name} has {', '.join(sorted(have))}; or auto"
        )
    return asked
