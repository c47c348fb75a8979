import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootleg_bundle.errors import ImageLimitError
from bootleg_bundle.sources.base import (
    LIMITS,
    Sample,
    Source,
    check_size,
    listing_fingerprint,
    natural_order,
    numbered_labels,
)


class Memory(Source):
    """A source in memory: (file, data, label) each; a file without data is missing."""

    name = "memory"

    def __init__(self, *samples, classes=None):
        self._samples, self.classes = samples, classes

    def __len__(self):
        return len(self._samples)

    def file(self, number):
        return self._samples[number][0]

    def label(self, number):
        return self._samples[number][2]

    def size(self, number):
        return len(self.read(number))

    def read(self, number):
        data = self._samples[number][1]
        if data is None:
            raise FileNotFoundError(2, "No such file or directory")
        return data


def labelled(*labels, classes=None):
    return Memory(*((str(n), b"", label) for n, label in enumerate(labels)), classes=classes)


def test_a_source_is_a_sequence_of_samples():
    source = Memory(("a", b"1", None), ("b", b"2", "cat"))
    assert list(source) == [Sample("a", b"1", None), Sample("b", b"2", "cat")]
    with pytest.raises(IndexError, match="image 2 of 2"):
        source[2]
    with pytest.raises(IndexError):
        source[-1]


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30))
def test_labels_are_indices_into_the_sorted_classes(labels):
    numbers, classes = numbered_labels(labelled(*labels), range(len(labels)))
    if len(set(labels)) < 2:
        assert (numbers, classes) == (None, ())
    else:
        assert numbers.dtype == np.int64
        assert [classes[number] for number in numbers] == labels
        assert list(classes) == sorted(set(labels))


def test_one_image_without_a_label_takes_all_labels_away_unless_it_is_not_chosen():
    source = labelled("a", None, "b")
    assert numbered_labels(source, [0, 1, 2]) == (None, ())
    numbers, classes = numbered_labels(source, [2, 0])
    assert (numbers.tolist(), classes) == ([1, 0], ("a", "b"))


def test_a_source_may_fix_the_order_of_its_classes():
    numbers, classes = numbered_labels(labelled("b", "b", classes=("b", "a")), [0, 1])
    assert (numbers.tolist(), classes) == ([0, 0], ("b", "a"))


def test_classes_that_are_numbers_are_in_the_order_of_their_values():
    assert natural_order(["10", "9", "0", "9"]) == ("0", "9", "10")
    assert natural_order(["10", "9", "b"]) == ("10", "9", "b")
    assert natural_order([]) == ()


def test_the_fingerprint_is_that_of_names_and_sizes():
    first = listing_fingerprint(Memory(("a", b"12", None), ("b", None, None)))
    assert listing_fingerprint(Memory(("a", b"34", "cat"), ("b", None, None))) == first
    for other in (
        [("a", b"123", None), ("b", None, None)],
        [("c", b"12", None), ("b", None, None)],
        [("a", b"12", None), ("b", b"", None)],
        [("b", None, None), ("a", b"12", None)],
        [("a", b"12", None)],
    ):
        assert listing_fingerprint(Memory(*other)) != first


def test_a_size_over_the_limit_is_refused_before_reading():
    check_size(LIMITS.max_bytes)
    with pytest.raises(ImageLimitError, match=r"268,435,457 bytes; the limit is 268,435,456"):
        check_size(LIMITS.max_bytes + 1)
