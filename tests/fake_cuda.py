"""A CUDA driver without a GPU: real C calls through ctypes, with host memory in the place of the device's."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_size_t, c_uint, c_uint64, c_void_p
from types import SimpleNamespace

DRIVER = "libcuda.so.1"
OUT_OF_MEMORY = 2


class FakeDriver:
    """The driver.

    Attributes:
        library: what ``ctypes.CDLL`` returns in its place.
        calls: names of the calls made, in order.
        device: sizes of the device's live allocations, by address.
        host: sizes of the live pinned ones.
        streams: handles of the live streams.
        contexts: how often the primary context is held.
        memory: bytes that the device has.
    """

    def __init__(self, *, gpus=1, name="NVIDIA H200", capability=(9, 0), memory=1 << 30) -> None:
        self.calls: list[str] = []
        self.device: dict[int, int] = {}
        self.host: dict[int, int] = {}
        self.streams: set[int] = set()
        self.contexts = 0
        self.memory = memory
        self._blocks: dict[int, object] = {}
        self._last_stream = 0x5000
        self._gpus, self._name, self._capability = gpus, name.encode(), capability
        self._names = {OUT_OF_MEMORY: ctypes.create_string_buffer(b"CUDA_ERROR_OUT_OF_MEMORY")}
        # The prototypes are written down again from cuda.h: those of the code under test are what is tested.
        prototypes = {
            "cuInit": (c_uint,),
            "cuDeviceGetCount": (c_void_p,),
            "cuDeviceGet": (c_void_p, c_int),
            "cuDeviceGetName": (c_void_p, c_int, c_int),
            "cuDeviceGetAttribute": (c_void_p, c_int, c_int),
            "cuDevicePrimaryCtxRetain": (c_void_p, c_int),
            "cuDevicePrimaryCtxRelease_v2": (c_int,),
            "cuCtxSetCurrent": (c_void_p,),
            "cuStreamCreate": (c_void_p, c_uint),
            "cuStreamSynchronize": (c_void_p,),
            "cuStreamDestroy_v2": (c_void_p,),
            "cuMemGetInfo_v2": (c_void_p, c_void_p),
            "cuMemAlloc_v2": (c_void_p, c_size_t),
            "cuMemFree_v2": (c_uint64,),
            "cuMemHostAlloc": (c_void_p, c_size_t, c_uint),
            "cuMemFreeHost": (c_void_p,),
            "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
            "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
            "cuGetErrorName": (c_int, c_void_p),
        }
        self.library = SimpleNamespace(
            **{name: ctypes.CFUNCTYPE(c_int, *types)(self._recorded(name)) for name, types in prototypes.items()}
        )

    def install(self, monkeypatch) -> None:
        """Let ``ctypes.CDLL`` find this driver."""
        real = ctypes.CDLL
        monkeypatch.setattr(
            ctypes, "CDLL", lambda name, *a, **k: self.library if name == DRIVER else real(name, *a, **k)
        )

    def is_clean(self) -> bool:
        """Whether everything was given back."""
        return not (self.device or self.host or self.streams or self.contexts)

    def _recorded(self, name):
        function = getattr(self, f"_{name}")

        def call(*arguments):
            self.calls.append(name)
            return function(*arguments) or 0

        return call

    def _allocate(self, table, out, size):
        block = ctypes.create_string_buffer(size)
        address = ctypes.addressof(block)
        self._blocks[address] = block
        table[address] = size
        c_uint64.from_address(out).value = address

    def _cuInit(self, flags):
        assert flags == 0

    def _cuDeviceGetCount(self, out):
        c_int.from_address(out).value = self._gpus

    def _cuDeviceGet(self, out, ordinal):
        c_int.from_address(out).value = ordinal

    def _cuDeviceGetName(self, out, size, device):
        ctypes.memmove(out, self._name + b"\0", min(size, len(self._name) + 1))

    def _cuDeviceGetAttribute(self, out, which, device):
        c_int.from_address(out).value = self._capability[which - 75]

    def _cuDevicePrimaryCtxRetain(self, out, device):
        self.contexts += 1
        c_uint64.from_address(out).value = 0xC0

    def _cuDevicePrimaryCtxRelease_v2(self, device):
        self.contexts -= 1

    def _cuCtxSetCurrent(self, context):
        assert context == 0xC0

    def _cuStreamCreate(self, out, flags):
        assert flags == 1, "a blocking stream"
        self._last_stream += 1
        self.streams.add(self._last_stream)
        c_uint64.from_address(out).value = self._last_stream

    def _cuStreamSynchronize(self, stream):
        assert stream in self.streams

    def _cuStreamDestroy_v2(self, stream):
        self.streams.remove(stream)

    def _cuMemGetInfo_v2(self, free, total):
        c_size_t.from_address(free).value = self.memory - sum(self.device.values())
        c_size_t.from_address(total).value = self.memory

    def _cuMemAlloc_v2(self, out, size):
        if sum(self.device.values()) + size > self.memory:
            return OUT_OF_MEMORY
        return self._allocate(self.device, out, size)

    def _cuMemFree_v2(self, address):
        del self.device[address]

    def _cuMemHostAlloc(self, out, size, flags):
        assert flags == 0
        self._allocate(self.host, out, size)

    def _cuMemFreeHost(self, address):
        del self.host[address]

    def _cuMemcpyHtoDAsync_v2(self, destination, source, size, stream):
        self._copy(destination, source, size, stream, self.device[destination], self.host[source])

    def _cuMemcpyDtoHAsync_v2(self, destination, source, size, stream):
        self._copy(destination, source, size, stream, self.host[destination], self.device[source])

    def _copy(self, destination, source, size, stream, room, there):
        assert stream in self.streams
        assert 0 < size <= min(room, there)
        ctypes.memmove(destination, source, size)

    def _cuGetErrorName(self, status, out):
        c_uint64.from_address(out).value = ctypes.addressof(self._names[status])
