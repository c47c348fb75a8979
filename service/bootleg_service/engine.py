"""The model on its device: opening it, proving it is what was asked for, and running batches.

One thread owns an engine (the batcher's); nothing else calls :meth:`Engine.run`. ONNX Runtime falls
back to the CPU with no more than a log line, so what it reports after loading is compared with what
was asked.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import logging
from typing import TYPE_CHECKING, Final

import numpy as np
import onnxruntime as ort

from bootleg_bundle.cores import usable_cores
from bootleg_bundle.manifest import GOLDEN_OUTPUTS, GOLDEN_TOLERANCE, GRAPH_INPUT, GRAPH_OUTPUTS
from bootleg_service.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from bootleg_bundle import Bundle
    from bootleg_service.settings import EngineSettings

log = logging.getLogger("bootleg.engine")

PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")


class Engine:
    """One loaded encoder graph.

    Attributes:
        device: where it runs: ``cpu`` or ``cuda``.
        precision: of its graph.
    """

    def __init__(self, bundle: Bundle, device: str, precision: str, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would take the cores that decode needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.device = device
        self.precision = precision
        self._bundle = bundle
        graph = bundle.graph(precision)
        try:
            self._session = ort.InferenceSession(graph.read_bytes(), options, providers=_provider_list(device))
        except Exception as error:  # ONNX Runtime raises its own types, one for each status
            raise StartupError(f"ONNX Runtime cannot load {graph.name}: {type(error).__name__}") from error
        self.providers: list[str] = self._session.get_providers()

    def run(self, pixels: NDArray[np.uint8], outputs: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Encode a batch.

        Args:
            pixels: uint8 ``[n, H, W, 3]``.
            outputs: names among ``GRAPH_OUTPUTS``.

        Returns:
            float32 arrays by name, first axis ``n``.
        """
        names = sorted(outputs)
        return dict(zip(names, self._session.run(names, {GRAPH_INPUT: pixels}), strict=True))

    def warm_up(self, batches: Iterable[int]) -> None:
        """Run each batch size twice: allocators and kernels settle on the second run.

        Raises:
            StartupError: the model fails, or returns other shapes than its manifest says.
        """
        spec = self._bundle.manifest.preprocess
        for batch in batches:
            for _ in range(2):
                try:
                    results = self.run(np.zeros((batch, spec.height, spec.width, 3), np.uint8), GRAPH_OUTPUTS)
                except Exception as error:
                    raise StartupError(f"the model cannot run a batch of {batch}: {type(error).__name__}") from error
                shapes = {name: result.shape[1:] for name, result in results.items()}
                if shapes != self._bundle.manifest.outputs.row_shapes:
                    raise StartupError(f"the model's outputs are {shapes}, not what its manifest says")

    def check_golden(self) -> float:
        """Run the bundle's golden images and compare.

        Returns:
            The largest relative error over the outputs.

        Raises:
            StartupError: it exceeds what the precision allows.
        """
        golden = self._bundle.golden()
        actual = self.run(golden[GRAPH_INPUT], GOLDEN_OUTPUTS)
        errors = [
            float(np.linalg.norm(actual[name] - golden[name]) / np.linalg.norm(golden[name])) for name in GOLDEN_OUTPUTS
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

    ``auto`` tries CUDA, then the CPU, and says which it took. A device asked for by name is had, or
    the start fails.

    Raises:
        StartupError: the device or the precision cannot be had, or two runtimes are installed over each other.
    """
    _one_runtime()
    ort.disable_telemetry_events()
    if settings.precision not in bundle.manifest.graphs:
        have = ", ".join(sorted(bundle.manifest.graphs))
        raise StartupError(f"precision = {settings.precision!r}: the bundle {bundle.manifest.name} has {have}")
    if settings.device != "auto":
        return _open_exactly(bundle, settings.device, settings)
    if _cuda_driver_loads():
        try:
            return _open_exactly(bundle, "cuda", settings)
        except StartupError as error:
            log.warning("device auto: CUDA cannot be used (%s); falling back to the CPU", error.message)
    return _open_exactly(bundle, "cpu", settings)


def _open_exactly(bundle: Bundle, device: str, settings: EngineSettings) -> Engine:
    wanted = PROVIDERS[device]
    if wanted not in ort.get_available_providers():
        raise StartupError(
            f"device = {device!r}: the installed ONNX Runtime has no {wanted}; "
            "install it with: pip install 'bootleg-vision[gpu]'"
        )
    if device != "cpu":
        if not _cuda_driver_loads():
            raise StartupError(f"device = {device!r}: no CUDA driver (libcuda.so.1) can be loaded on this machine")
        ort.preload_dlls()  # CUDA and cuDNN from their wheels, where nothing else provides them
    engine = Engine(bundle, device, settings.precision, settings.threads)
    if engine.providers[0] != wanted:
        raise StartupError(f"device = {device!r}: ONNX Runtime loaded {engine.providers[0]} instead of {wanted}")
    return engine


def _provider_list(device: str) -> list[str | tuple[str, dict[str, str]]]:
    if device == "cpu":
        return [PROVIDERS["cpu"]]
    return [(PROVIDERS["cuda"], {"arena_extend_strategy": "kSameAsRequested"}), PROVIDERS["cpu"]]


def _cuda_driver_loads() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _one_runtime() -> None:
    installed = {distribution.name.lower() for distribution in importlib.metadata.distributions()}
    present = [name for name in RUNTIMES if name in installed]
    if len(present) > 1:
        raise StartupError(
            f"{' and '.join(present)} are both installed and overwrite each other; uninstall both, then install one "
            "with: pip install 'bootleg-vision[cpu]' or 'bootleg-vision[gpu]'"
        )
