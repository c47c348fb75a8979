"""Heads scored behind every precision, on pictures whose masks are what the heads say behind float32."""

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from bootleg_bundle.errors import ConfigError, DataError
from bootleg_bundle.manifest import GRAPH_INPUT, HEAD_OUTPUT
from bootleg_export.judge import GraphFile, graph_file
from bootleg_export.mask_tasks import measure_masks, open_exam
from bootleg_export.samples import natural_noise
from bootleg_export.session import open_session
from bootleg_export.tasks import task_fault
from bootleg_export.verify_tasks import verify_masks
from bootleg_training.heads.score import enlarge

from .headed import SIZE

COUNT = 20  # more than a batch, and a ragged one
VOID = 255


def labels(bundle, name, pixels):
    """What a head says behind the fp32 graph, at the pictures' own resolution."""
    head = bundle.manifest.heads[name]
    (tokens,) = open_session(bundle.graph("fp32")).run([head.input], {GRAPH_INPUT: pixels})
    logits = open_session(bundle.file(head.graph.file)).run([HEAD_OUTPUT], {head.input: tokens})[0]
    return enlarge(torch.from_numpy(logits), (SIZE, SIZE)).argmax(dim=1).numpy().astype(np.uint8)


@pytest.fixture(scope="module")
def scenes(headed_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("street") / "test"
    pixels = natural_noise(COUNT, SIZE, SIZE, seed=5)
    masks = labels(headed_bundle, "linear", pixels)
    masks[:, :4] = VOID
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(pixels, masks, strict=True)):
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def linear(headed_bundle):
    return {"linear": headed_bundle.manifest.heads["linear"]}


def blinded(bundle, target):
    """The fp32 graph with patch tokens that are all alike."""
    model = onnx.load(bundle.graph("fp32"))
    (maker,) = (node for node in model.graph.node if "patch_tokens" in node.output)
    maker.output[list(maker.output).index("patch_tokens")] = "seen"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "nothing"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["seen", "nothing"], ["patch_tokens"]))
    onnx.save(model, target)
    return GraphFile("int8", target, ())


def measured(bundle, other, heads, scenes):
    exam = open_exam(scenes, bundle.manifest.preprocess, heads, ignore=VOID)
    return measure_masks([graph_file(bundle, "fp32"), other], bundle.path, heads, exam)


def test_a_head_behind_the_same_numbers_loses_nothing_and_says_on_what(headed_bundle, linear, scenes):
    (task,) = measured(headed_bundle, graph_file(headed_bundle, "fp32")._replace(precision="int8"), linear, scenes)
    assert (task.precision, task.task, task.dataset) == ("int8", "miou:linear", scenes.parent.name)
    assert task.value == task.fp32 == 1
    assert task.detail == f"{COUNT} pictures"
    assert task_fault(task) is None


def test_a_precision_that_blinds_a_head_breaks_the_gate(headed_bundle, linear, scenes, tmp_path):
    (task,) = measured(headed_bundle, blinded(headed_bundle, tmp_path / "blind.onnx"), linear, scenes)
    assert task.drop > 50
    assert "miou:linear" in task_fault(task)


def test_every_head_is_scored_with_its_own_input(headed_bundle, scenes, tmp_path):
    heads = headed_bundle.manifest.heads
    tasks = measured(headed_bundle, blinded(headed_bundle, tmp_path / "blind.onnx"), heads, scenes)
    drops = {task.task: task.drop for task in tasks}
    assert set(drops) == {"miou:linear", "miou:layers"}
    assert drops["miou:layers"] == 0  # reads the hidden layers, which are as they were


def test_a_label_without_a_class_is_refused_by_the_picture(headed_bundle, linear, scenes):
    with pytest.raises(DataError, match="255"):
        open_exam(scenes, headed_bundle.manifest.preprocess, linear, ignore=None)


def test_without_heads_there_is_nothing_to_score(bundle, scenes):
    with pytest.raises(ConfigError, match=r"--scenes .* there is none"):
        open_exam(scenes, bundle.manifest.preprocess, bundle.manifest.heads, ignore=VOID)


def test_verify_needs_a_second_precision(headed_bundle, scenes):
    with pytest.raises(ConfigError, match="--scenes compares precisions with fp32"):
        verify_masks(headed_bundle.path, scenes, ignore=VOID)
