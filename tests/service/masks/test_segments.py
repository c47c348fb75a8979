import numpy as np
from hypothesis import given

from bootleg_bundle.manifest import PixelClass
from bootleg_service.masks import segments
from bootleg_service.masks.colors import cluster_classes

from .maps import label_maps

CLASSES = [PixelClass(name=f"class {i}", color=(i, 2 * i, 3 * i)) for i in range(4)]


@given(label_maps())
def test_each_label_that_appears_is_described_and_unseen_pixels_are_none(labels):
    found = segments.describe(labels, CLASSES)
    assert [segment["label"] for segment in found] == sorted(set(labels.ravel().tolist()) - {255})
    for segment in found:
        inside = labels == segment["label"]
        assert segment["area"] == inside.sum()
        rows, columns = np.nonzero(inside)
        assert segment["bbox"] == [
            columns.min(),
            rows.min(),
            columns.max() - columns.min() + 1,
            rows.max() - rows.min() + 1,
        ]
        about = CLASSES[segment["label"]]
        assert (segment["name"], segment["color"]) == (about.name, list(about.color))


def test_areas_are_counted_in_blocks_of_rows_that_do_not_show():
    labels = np.random.default_rng(0).integers(0, 256, (3 * segments.ROWS + 5, 7), np.uint8)
    np.testing.assert_array_equal(segments.areas(labels), np.bincount(labels.ravel(), minlength=256))


def test_the_colours_of_clusters_differ():
    assert len({label.color for label in cluster_classes(32)}) == 32
