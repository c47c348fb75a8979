"""ONNX Runtime's session of one graph, on the provider asked for and no other.

The engine opens one for the encoder. ONNX Runtime falls back to the CPU with no more than a log
line, so what it reports after loading is compared with what was asked.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any, Final

import onnxruntime as ort

from bootleg_bundle.cores import usable_cores
from bootleg_service.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PROVIDERS: Final = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")

CUDA_OPTIONS: Final = {
    "arena_extend_strategy": "kSameAsRequested",  # doubling would take, at the worst, twice what is needed
    "use_tf32": "0",  # rounds float32 products to 10 bits: more than the golden check of fp32 allows
}


class OnnxSession:
    """One loaded graph.

    Attributes:
        providers: what ONNX Runtime says it runs on, the first one first.
    """

    def __init__(
        self,
        graph: Path,
        device: str,
        threads: int,
        tensorrt_options: Mapping[str, str] | None = None,
        *,
        gpu_memory_bytes: int = 0,
    ) -> None:
        """Load a graph.

        Args:
            graph: an ONNX file; its external data, if any, lies beside it.
            device: ``cpu``, ``cuda`` or ``tensorrt``.
            threads: ONNX Runtime's own; 0: one per core.
            tensorrt_options: of its TensorRT provider.
            gpu_memory_bytes: most that this graph's arena takes on the GPU; 0: all there is.

        Raises:
            StartupError: the provider is not installed or was not loaded, or the graph is none.
        """
        wanted = PROVIDERS[device]
        if wanted not in ort.get_available_providers():
            raise StartupError(
                f"device = {device!r}: the installed ONNX Runtime has no {wanted}; "
                "install it with: pip install 'bootleg-vision[gpu]'"
            )
        options = ort.SessionOptions()
        if device != "cpu":
            options.enable_mem_pattern = False  # plans one block for each batch size: memory that others could use
            ort.preload_dlls()  # CUDA and cuDNN from their wheels, where nothing else provides them
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would take the cores that decode needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = provider_list(device, tensorrt_options or {}, gpu_memory_bytes)
        try:
            self._session: Any = ort.InferenceSession(str(graph), options, providers=providers)
        except Exception as error:  # ONNX Runtime raises its own types, one for each status
            raise StartupError(f"ONNX Runtime cannot load {graph.name}: {type(error).__name__}") from error
        self.providers: list[str] = self._session.get_providers()
        if self.providers[0] != wanted:
            raise StartupError(f"device = {device!r}: ONNX Runtime loaded {self.providers[0]} instead of {wanted}")

    def run(self, feeds: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Compute the outputs ``names`` for the inputs ``feeds``; first axis of all: the batch."""
        return dict(zip(names, self._session.run(list(names), dict(feeds)), strict=True))

    def close(self) -> None:
        """Free what it holds; ONNX Runtime does so when its session is let go."""
        self._session = None


def provider_list(
    device: str, tensorrt_options: Mapping[str, str], gpu_memory_bytes: int = 0
) -> list[str | tuple[str, dict[str, str]]]:
    """Providers in order of preference; each takes the operators that those before it do not have."""
    limit = {"gpu_mem_limit": str(gpu_memory_bytes)} if gpu_memory_bytes else {}
    cuda, cpu = (PROVIDERS["cuda"], CUDA_OPTIONS | limit), PROVIDERS["cpu"]
    if device == "tensorrt":
        return [(PROVIDERS["tensorrt"], dict(tensorrt_options)), cuda, cpu]
    return [cuda, cpu] if device == "cuda" else [cpu]


def check_one_runtime() -> None:
    """Refuse two ONNX Runtimes in one environment, and turn off what it would report to its makers.

    Raises:
        StartupError: both are installed; whichever came last has overwritten the other.
    """
    installed = {distribution.name.lower() for distribution in importlib.metadata.distributions()}
    present = [name for name in RUNTIMES if name in installed]
    if len(present) > 1:
        raise StartupError(
            f"{' and '.join(present)} are both installed and overwrite each other; uninstall both, then install one "
            "with: pip install 'bootleg-vision[cpu]' or 'bootleg-vision[gpu]'"
        )
    ort.disable_telemetry_events()
