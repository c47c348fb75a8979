import pytest
import torch

from bootleg_bundle.errors import ConfigError
from bootleg_training.device import choose_device


def test_auto_takes_what_there_is():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["tpu", "CPU", "", "cuda:0"])
def test_an_unknown_device_is_refused_by_name(name):
    with pytest.raises(ConfigError, match=f"device = '{name}'"):
        choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="no CUDA device"):
        choose_device("cuda")
