import numpy as np
import pytest
from hypothesis import given
from pycocotools import mask as coco

from bootleg_service.masks.rle import encode

from .maps import label_maps


def decoded(counts, shape):
    return coco.decode({"size": list(shape), "counts": counts.encode()}).astype(bool)


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools


@given(label_maps())
def test_every_label_is_coded_as_pycocotools_codes_it_and_decodes_to_itself(labels):
    wanted = np.arange(5)  # one of them in no map
    for label, counts in zip(wanted, encode(labels, wanted), strict=True):
        mask = labels == label
        assert counts.encode() == coco.encode(np.asfortranarray(mask, np.uint8))["counts"]
        np.testing.assert_array_equal(decoded(counts, labels.shape), mask)


@pytest.mark.parametrize("run", [1, 15, 16, 31, 32, 511, 512, 1023, 1024, 2**15 - 1, 2**15, 2**19, 2**20 - 1])
def test_runs_of_every_length_in_characters_are_as_pycocotools_has_them(run):
    labels = np.concatenate([np.full(n, n % 2, np.uint8) for n in (run, 1, 2 * run, 3, run, 7, 3 * run)])[:, None]
    for value in (0, 1):
        (counts,) = encode(labels, np.array([value]))
        assert counts.encode() == coco.encode(np.asfortranarray(labels == value, np.uint8))["counts"]
