import numpy as np
import pytest

from bootleg_service.errors import StartupError
from bootleg_service.tensorrt.cuda import Cuda, CudaError
from bootleg_service.tensorrt.driver import check_driver, driver_loads
from tests.fake_cuda import FakeDriver


def test_a_gpu_says_its_name_and_capability():
    cuda = Cuda(0, FakeDriver(name="NVIDIA L4", capability=(8, 9)).library)
    assert (cuda.name, cuda.compute_capability) == ("NVIDIA L4", "8.9")
    assert cuda.stream


def test_bytes_go_to_the_gpu_and_come_back():
    cuda = Cuda(0, FakeDriver().library)
    there, back = cuda.pinned((3, 5), np.float32), cuda.pinned((3, 5), np.float32)
    there[:] = np.arange(15, dtype=np.float32).reshape(3, 5)
    address = cuda.device_bytes(there.nbytes)
    cuda.upload(there, address)
    cuda.download(address, back)
    cuda.synchronize()
    np.testing.assert_array_equal(back, there)


def test_close_gives_back_everything_and_twice_is_no_fault():
    driver = FakeDriver()
    cuda = Cuda(0, driver.library)
    cuda.pinned((8,), np.uint8)
    cuda.device_bytes(8)
    assert not driver.is_clean()
    cuda.close()
    cuda.close()
    assert driver.is_clean()
    assert driver.calls[-1] == "cuDevicePrimaryCtxRelease_v2"


def test_a_call_that_fails_is_named_with_the_drivers_reason():
    cuda = Cuda(0, FakeDriver(memory=100).library)
    with pytest.raises(CudaError, match="cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY"):
        cuda.device_bytes(101)


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(CudaError, match="GPU 1: this machine shows 1"):
        Cuda(1, FakeDriver().library)


def test_a_machine_without_a_driver_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    assert not driver_loads()
    with pytest.raises(StartupError, match=r"^it: no CUDA driver \(libcuda\.so\.1\) can be loaded on this machine$"):
        check_driver("it")
