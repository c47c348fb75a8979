import logging
import sys

import pytest

from bootleg_service.errors import StartupError
from bootleg_service.tensorrt.library import import_tensorrt, make_logger
from tests.fake_cuda import FakeDriver
from tests.fake_tensorrt import FakeTensorRt, Severity


@pytest.fixture
def driver(monkeypatch):
    FakeDriver().install(monkeypatch)


def test_the_driver_is_looked_for_before_tensorrt_is_imported(monkeypatch):
    class Explosive:
        def find_spec(self, name, path=None, target=None):
            assert name != "tensorrt", "imported without a driver"

    monkeypatch.setattr("bootleg_service.tensorrt.driver.driver_loads", lambda: False)
    monkeypatch.setattr(sys, "meta_path", [Explosive(), *sys.meta_path])
    with pytest.raises(StartupError, match="no CUDA driver"):
        import_tensorrt("it")


def test_tensorrt_that_is_not_installed_is_one_line_with_the_remedy(driver, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(
        StartupError, match=r"it: TensorRT cannot be imported .*pip install 'bootleg-vision\[tensorrt\]'"
    ):
        import_tensorrt("it")


@pytest.mark.parametrize("version", ["10.0.1", "10.16.1.11", "11.4.0.106"])
def test_versions_that_were_considered_are_taken(driver, monkeypatch, version):
    FakeTensorRt(dict, version).install(monkeypatch)
    assert import_tensorrt("it").__version__ == version


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0", "12.0.0", "100.1"])
def test_a_version_that_was_not_considered_is_refused(driver, monkeypatch, version):
    FakeTensorRt(dict, version).install(monkeypatch)
    with pytest.raises(StartupError, match=rf"TensorRT {version} is installed; this code knows versions 10 and 11"):
        import_tensorrt("it")


def test_what_tensorrt_says_goes_to_the_log_and_errors_are_kept(caplog):
    logger = make_logger(FakeTensorRt(dict))
    with caplog.at_level(logging.DEBUG, "bootleg.tensorrt"):
        logger.log(Severity.INFO, "reading")
        logger.log(Severity.WARNING, "slow")
        logger.log(Severity.ERROR, "broken")
    assert [record.levelname for record in caplog.records] == ["DEBUG", "WARNING", "ERROR"]
    assert logger.errors == ["broken"]
