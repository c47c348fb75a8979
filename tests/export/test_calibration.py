import numpy as np
import pytest

from bootleg_bundle.errors import DataError
from bootleg_export.calibration import FEWEST, read_calibration


def test_images_that_judge_are_none_of_those_that_set_the_ranges(calibration, photographs):
    assert (len(calibration.ranges), len(calibration.judged)) == (60, 20)
    seen = {image.tobytes() for image in calibration.ranges}
    assert not seen & {image.tobytes() for image in calibration.judged}
    assert calibration.ranges.shape[1:] == (32, 32, 3)
    assert calibration.record.images == 60
    assert calibration.record.dataset == photographs.name


def test_the_same_source_gives_the_same_images(calibration, photographs, bundle):
    again = read_calibration(str(photographs), bundle.manifest.preprocess)
    assert np.array_equal(again.ranges, calibration.ranges)
    assert np.array_equal(again.judged, calibration.judged)
    assert again.record == calibration.record


def test_too_few_images_are_refused_with_the_number_needed(photographs, tmp_path, bundle):
    for path in sorted(photographs.iterdir())[: FEWEST - 1]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="15 images; at least 16"):
        read_calibration(str(tmp_path), bundle.manifest.preprocess)


def test_the_manifest_records_the_calibration_of_int8_alone(full_bundle, calibration):
    graphs = full_bundle.manifest.graphs
    assert graphs["int8"].calibration == calibration.record
    assert {name for name, graph in graphs.items() if graph.calibration} == {"int8"}
