"""A session that runs a TensorRT engine: one execution context for each batch bucket, one stream, pinned buffers.

The service's engine and the golden check of ``bootleg engine`` use it; one thread at a time. It runs
only engines of the local cache, whose hash was checked. Not run on hardware yet: written to TensorRT's
documentation and tested against a stand-in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bootleg_bundle.manifest import GRAPH_INPUT
from bootleg_service.errors import StartupError
from bootleg_service.tensorrt.library import make_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from bootleg_bundle import Manifest
    from bootleg_service.tensorrt.cuda import Cuda


class TensorRtSession:
    """An engine, deserialised, with its buffers on one GPU.

    Attributes:
        providers: the library and its version.
        largest: images of its largest bucket; more are computed in pieces.
    """

    def __init__(
        self, trt: Any, cuda: Cuda, plan: bytes, manifest: Manifest, *, release: Callable[[], None] = lambda: None
    ) -> None:
        """Load an engine.

        Args:
            trt: from :func:`import_tensorrt`.
            cuda: the GPU it was built for.
            plan: the serialised engine.
            manifest: of its bundle; says what goes in and comes out.
            release: called last by :meth:`close`; of a GPU that nothing else uses, its own ``close``.

        Raises:
            StartupError: TensorRT refuses the engine, or it is not of this bundle's encoder.
            CudaError: not enough memory, for one.
        """
        self.providers = [f"TensorRT {trt.__version__}"]
        self._release = release
        self._trt, self._cuda, self._logger = trt, cuda, make_logger(trt)
        spec = manifest.preprocess
        self._input_row: tuple[int, ...] = (spec.height, spec.width, 3)
        self._rows = manifest.outputs.row_shapes
        cuda.use()
        self._runtime = trt.Runtime(self._logger)  # must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise StartupError(f"TensorRT {trt.__version__} refuses the engine: {self._said()}")
        self._check_contract()
        self._buckets = [
            int(self._engine.get_tensor_profile_shape(GRAPH_INPUT, index)[2][0])
            for index in range(self._engine.num_optimization_profiles)
        ]
        self.largest = self._buckets[-1]
        self._pixels = cuda.pinned((self.largest, *self._input_row), np.uint8)
        self._addresses = {GRAPH_INPUT: cuda.device_bytes(self._pixels.nbytes)}
        for name, row in self._rows.items():
            self._addresses[name] = cuda.device_bytes(4 * self.largest * int(np.prod(row)))
        self._answers: dict[str, NDArray[np.float32]] = {}
        self._contexts = [self._context(index) for index in range(len(self._buckets))]

    def run(self, feeds: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Compute the outputs ``names`` for ``pixels`` uint8 ``[n, H, W, 3]``; float32, first axis ``n``.

        Raises:
            RuntimeError: TensorRT or CUDA fails.
        """
        pixels = feeds[GRAPH_INPUT]
        self._cuda.use()
        starts = range(0, len(pixels), self.largest)
        pieces = [self._run(pixels[start : start + self.largest], names) for start in starts]
        if len(pieces) == 1:
            return pieces[0]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}

    def close(self) -> None:
        """Let the engine go, before the memory that it uses is given back."""
        self._cuda.use()
        del self._contexts, self._engine, self._runtime
        self._answers.clear()
        self._release()

    def _run(self, pixels: NDArray[np.uint8], names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        count, cuda = len(pixels), self._cuda
        bucket = next(index for index, largest in enumerate(self._buckets) if count <= largest)
        context = self._contexts[bucket]
        np.copyto(self._pixels[:count], pixels, casting="no")
        cuda.upload(self._pixels[:count], self._addresses[GRAPH_INPUT])
        if not context.set_input_shape(GRAPH_INPUT, (count, *self._input_row)):
            raise RuntimeError(f"TensorRT refuses a batch of {count}: {self._said()}")
        if not context.execute_async_v3(cuda.stream):
            raise RuntimeError(f"TensorRT failed on a batch of {count}: {self._said()}")
        answers = {name: self._answer(name)[:count] for name in names}
        for name, answer in answers.items():
            cuda.download(self._addresses[name], answer)
        cuda.synchronize()
        return {name: answer.copy() for name, answer in answers.items()}

    def _answer(self, name: str) -> NDArray[np.float32]:
        """The pinned buffer of an output, made when it is first asked for: `layer_tokens` is large and rare."""
        if name not in self._answers:
            self._answers[name] = self._cuda.pinned((self.largest, *self._rows[name]), np.float32)
        return self._answers[name]

    def _context(self, index: int) -> Any:
        """A context bound to one profile; a profile belongs to one context at a time."""
        # Memory for this profile alone; the default would take the largest profile's for each context.
        strategy = self._trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        context = self._engine.create_execution_context(strategy)
        if context is None or not context.set_optimization_profile_async(index, self._cuda.stream):
            raise StartupError(f"TensorRT cannot prepare batches up to {self._buckets[index]}: {self._said()}")
        for name, address in self._addresses.items():
            if not context.set_tensor_address(name, address):
                raise StartupError(f"TensorRT refuses a buffer for {name}: {self._said()}")
        self._cuda.synchronize()
        return context

    def _check_contract(self) -> None:
        """Compare the engine's tensors with the manifest: a wrong size here would be a wild write on the GPU."""
        trt, engine = self._trt, self._engine
        tensors = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        wanted = {GRAPH_INPUT: (self._input_row, trt.DataType.UINT8)}
        wanted |= {name: (row, trt.DataType.FLOAT) for name, row in self._rows.items()}
        if tensors != set(wanted):
            raise StartupError(f"the engine has the tensors {sorted(tensors)}; the bundle's encoder {sorted(wanted)}")
        for name, (row, dtype) in wanted.items():
            shape = tuple(engine.get_tensor_shape(name))[1:]
            if shape != row or engine.get_tensor_dtype(name) != dtype:
                raise StartupError(f"the engine's {name} is {shape}, {engine.get_tensor_dtype(name)}; wanted {row}")

    def _said(self) -> str:
        return self._logger.errors[-1] if self._logger.errors else "it gave no reason"
