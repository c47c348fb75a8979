import pytest

from bootleg_training.method import method_of
from tests.training.tiny import tiny_config


@pytest.mark.parametrize(
    ("target", "method"),
    [
        ({}, "Bootleg"),
        ({"layers": (1, 2, 3)}, "Bootleg"),
        ({"layers": (3,), "final_norm": True}, "I-JEPA"),
        ({"layers": (3,)}, "layers 3"),
        ({"layers": (1, 3)}, "layers 1,3"),
        ({"source": "pixels"}, "pixels"),
        ({"source": "average"}, "data2vec-like"),
        ({"normalise": "instance"}, "Bootleg, per-channel targets"),
        ({"layers": (3,), "final_norm": True, "normalise": "instance"}, "I-JEPA, per-channel targets"),
        ({"layers": (1, 3), "normalise": "none"}, "layers 1,3, plain targets"),
    ],
)
def test_a_method_is_named_by_its_targets(target, method):
    assert method_of(tiny_config(target=target)) == method
