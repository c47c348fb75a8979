import shutil

import numpy as np
import onnx
import pytest

from bootleg_bundle.errors import DataError
from bootleg_bundle.manifest import Task
from bootleg_export.judge import GraphFile, graph_file
from bootleg_export.labelled import open_labelled
from bootleg_export.tasks import measure_tasks, task_fault


@pytest.fixture(scope="module")
def spec(bundle):
    return bundle.manifest.preprocess


def blinded(source, target):
    """A graph whose embeddings are all alike."""
    model = onnx.load(source)
    (maker,) = (node for node in model.graph.node if "embedding" in node.output)
    maker.output[list(maker.output).index("embedding")] = "seen"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "nothing"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["seen", "nothing"], ["embedding"]))
    onnx.save(model, target)
    return target


def test_each_lower_precision_is_scored_beside_fp32_on_both_probes(full_bundle, labelled, spec):
    files = [graph_file(full_bundle, precision) for precision in ("fp32", "int8")]
    tasks = measure_tasks(files, open_labelled(spec, *labelled), spec)
    assert [(task.precision, task.task) for task in tasks] == [("int8", "knn"), ("int8", "linear")]
    for task in tasks:
        assert (task.value, task.fp32) == (1, 1)
        assert task.detail == "60 images to learn from, 240 to score on"
        assert task_fault(task) is None


def test_a_graph_that_sees_nothing_loses_points_and_does_not_pass(full_bundle, labelled, spec, tmp_path):
    blind = blinded(full_bundle.graph("fp32"), tmp_path / "blind.onnx")
    files = [graph_file(full_bundle, "fp32"), GraphFile("int8", blind, ())]
    tasks = measure_tasks(files, open_labelled(spec, *labelled), spec)
    assert [task.drop for task in tasks] == [50, 50]
    assert task_fault(tasks[0]).endswith("loses 50.00 points (<= 0.5)")


@pytest.mark.parametrize(("value", "passes"), [(0.9, True), (0.895, True), (0.8949, False), (0.95, True)])
def test_half_a_point_may_be_lost_and_no_more(value, passes):
    task = Task(precision="int8", task="knn", dataset="made up", value=value, fp32=0.9)
    assert (task_fault(task) is None) == passes


def test_of_one_source_a_fifth_is_held_out_the_same_every_time(labelled, spec, monkeypatch):
    monkeypatch.setattr("bootleg_export.labelled.FEWEST_SCORED", 48)
    one, two = (open_labelled(spec, labelled[1]) for _ in range(2))
    assert (len(one.train), len(one.test)) == (192, 48)
    assert not set(one.train.chosen) & set(one.test.chosen)
    assert np.array_equal(one.test.chosen, two.test.chosen)


def test_images_without_labels_are_refused(photographs, spec):
    with pytest.raises(DataError, match="no labels"):
        open_labelled(spec, str(photographs))


def test_too_few_images_to_score_on_are_refused(labelled, spec):
    with pytest.raises(DataError, match="48 images to score on; at least 200"):
        open_labelled(spec, labelled[1])


def test_sources_with_other_classes_are_refused(labelled, spec, tmp_path):
    other = shutil.copytree(labelled[0], tmp_path / "other")
    (other / "dark").rename(other / "dim")
    with pytest.raises(DataError, match="do not have the same classes"):
        open_labelled(spec, str(other), labelled[1])
