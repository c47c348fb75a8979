"""The dozen calls of the CUDA driver that running an engine takes, through ctypes.

The session of an engine uses them for memory, copies and its stream. The driver's own library is
enough, so nothing needs installing. Not run on hardware yet.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bootleg_service.tensorrt.driver import DRIVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CAPABILITY_MAJOR: Final = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, and _MINOR
CAPABILITY_MINOR: Final = 76
NON_BLOCKING: Final = 1  # CU_STREAM_NON_BLOCKING: no waiting for the default stream
NAME_BYTES: Final = 256

_Pointer = ctypes.c_void_p
_Address = ctypes.c_uint64  # CUdeviceptr
_SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    "cuInit": (ctypes.c_uint,),
    "cuDeviceGetCount": (_Pointer,),
    "cuDeviceGet": (_Pointer, ctypes.c_int),
    "cuDeviceGetName": (_Pointer, ctypes.c_int, ctypes.c_int),
    "cuDeviceGetAttribute": (_Pointer, ctypes.c_int, ctypes.c_int),
    "cuDevicePrimaryCtxRetain": (_Pointer, ctypes.c_int),
    "cuDevicePrimaryCtxRelease_v2": (ctypes.c_int,),
    "cuCtxSetCurrent": (_Pointer,),
    "cuStreamCreate": (_Pointer, ctypes.c_uint),
    "cuStreamSynchronize": (_Pointer,),
    "cuStreamDestroy_v2": (_Pointer,),
    "cuMemGetInfo_v2": (_Pointer, _Pointer),
    "cuMemAlloc_v2": (_Pointer, ctypes.c_size_t),
    "cuMemFree_v2": (_Address,),
    "cuMemHostAlloc": (_Pointer, ctypes.c_size_t, ctypes.c_uint),
    "cuMemFreeHost": (_Pointer,),
    "cuMemcpyHtoDAsync_v2": (_Address, _Pointer, ctypes.c_size_t, _Pointer),
    "cuMemcpyDtoHAsync_v2": (_Pointer, _Address, ctypes.c_size_t, _Pointer),
    "cuGetErrorName": (ctypes.c_int, _Pointer),
}


class CudaError(RuntimeError):
    """A call of the driver failed."""


class Cuda:
    """One GPU and what was taken from it; :meth:`close` gives all of it back.

    Attributes:
        name: of the GPU.
        compute_capability: such as ``9.0``.
        stream: the one stream of this object, non-blocking.
    """

    def __init__(self, ordinal: int = 0, driver: Any = None) -> None:
        """Take a GPU's primary context, which TensorRT shares.

        Args:
            ordinal: among the GPUs that ``CUDA_VISIBLE_DEVICES`` shows.
            driver: the library; the machine's own when None.

        Raises:
            CudaError: no such GPU, or the driver refuses.
            OSError: there is no driver.
        """
        self._driver = ctypes.CDLL(DRIVER) if driver is None else driver
        for name, arguments in _SIGNATURES.items():
            getattr(self._driver, name).argtypes = arguments
        self._taken: list[Callable[[], None]] = []
        self._call("cuInit", 0)
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if ordinal >= count.value:
            raise CudaError(f"GPU {ordinal}: this machine shows {count.value}")
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), ordinal)
        text = ctypes.create_string_buffer(NAME_BYTES)
        self._call("cuDeviceGetName", text, NAME_BYTES, device)
        self.name = text.value.decode(errors="replace")
        self.compute_capability = ".".join(
            str(self._attribute(which, device)) for which in (CAPABILITY_MAJOR, CAPABILITY_MINOR)
        )
        self._context = _Pointer()
        self._take("cuDevicePrimaryCtxRetain", self._context, device, free=("cuDevicePrimaryCtxRelease_v2", device))
        self.use()
        handle = _Pointer()
        self._take("cuStreamCreate", handle, NON_BLOCKING, free=("cuStreamDestroy_v2", handle))
        self.stream = int(handle.value or 0)

    def use(self) -> None:
        """Make this GPU's context that of the calling thread. First thing in every thread that calls others here."""
        self._call("cuCtxSetCurrent", self._context)

    def memory(self) -> tuple[int, int]:
        """Bytes of the GPU's memory that are free, and all of it."""
        self.use()
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def device_bytes(self, size: int) -> int:
        """Allocate on the GPU; the address."""
        address = _Address()
        self._take("cuMemAlloc_v2", address, size, free=("cuMemFree_v2", address))
        return address.value

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Allocate page-locked host memory, which copies need to run beside the CPU; as an array."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = _Pointer()
        self._take("cuMemHostAlloc", address, size, 0, free=("cuMemFreeHost", address))
        assert address.value is not None
        memory = (ctypes.c_uint8 * size).from_address(address.value)
        return np.frombuffer(memory, dtype=dtype).reshape(shape)

    def upload(self, source: NDArray[Any], destination: int) -> None:
        """Begin copying a pinned array to the GPU, on the stream."""
        self._call("cuMemcpyHtoDAsync_v2", destination, source.ctypes.data, source.nbytes, self.stream)

    def download(self, source: int, destination: NDArray[Any]) -> None:
        """Begin copying from the GPU into a pinned array, on the stream."""
        self._call("cuMemcpyDtoHAsync_v2", destination.ctypes.data, source, destination.nbytes, self.stream)

    def synchronize(self) -> None:
        """Wait until everything begun on the stream is done."""
        self._call("cuStreamSynchronize", self.stream)

    def close(self) -> None:
        """Give back memory, stream and context, in reverse order. No array of :meth:`pinned` may be used after it."""
        if self._taken:
            self.use()
        while self._taken:
            self._taken.pop()()

    def _attribute(self, which: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), which, device)
        return value.value

    def _take(self, name: str, result: Any, *arguments: Any, free: tuple[Any, ...]) -> None:
        self._call(name, ctypes.byref(result), *arguments)
        self._taken.append(lambda: self._call(*free))

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorName(status, ctypes.byref(text))
            raise CudaError(f"{name}: {(text.value or b'error %d' % status).decode()}")
