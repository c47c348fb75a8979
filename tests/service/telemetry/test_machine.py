import math

import pytest

from bootleg_service.metrics import Metrics
from bootleg_service.telemetry.machine import publish_build, publish_memory
from bootleg_service.tensorrt.cuda import Cuda, CudaError
from tests.fake_cuda import FakeDriver
from tests.service.serving import sample


def test_the_versions_that_run_are_published():
    metrics = Metrics()
    publish_build(metrics)
    (family,) = (each for each in metrics.registry.collect() if each.name == "bootleg_build_info")
    (found,) = family.samples
    assert found.value == 1
    assert all(found.labels[name] not in {"", "none"} for name in ("version", "python", "onnxruntime"))


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_the_memory_of_a_gpu_is_read_at_each_scrape_and_given_back(device):
    metrics, driver = Metrics(), FakeDriver(memory=1000)
    gpu = publish_memory(metrics, device, lambda: Cuda(driver=driver.library))
    assert sample(metrics, "bootleg_device_memory_bytes", state="used") == 0
    gpu.device_bytes(300)
    assert sample(metrics, "bootleg_device_memory_bytes", state="used") == 300
    assert sample(metrics, "bootleg_device_memory_bytes", state="free") == 700
    gpu.close()
    assert driver.is_clean()


def test_a_cpu_has_none():
    metrics = Metrics()
    assert publish_memory(metrics, "cpu", lambda: pytest.fail("a GPU was opened")) is None
    assert b"bootleg_device_memory_bytes{" not in metrics.render()


def test_a_driver_that_cannot_be_had_is_a_warning(caplog):
    def open_gpu():
        raise OSError("libcuda.so.1: no such file")

    assert publish_memory(Metrics(), "cuda", open_gpu) is None
    assert "libcuda" in caplog.text


def test_a_device_that_is_gone_does_not_take_the_other_metrics_along():
    class Gone:
        def memory(self):
            raise CudaError("CUDA_ERROR_ECC_UNCORRECTABLE")

    metrics = Metrics()
    publish_memory(metrics, "cuda", Gone)
    assert math.isnan(sample(metrics, "bootleg_device_memory_bytes", state="used"))
