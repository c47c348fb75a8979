"""A checkpoint's heads in a bundle: exported, measured from pixels to logits, verified, damaged."""

import copy
import dataclasses
import shutil

import numpy as np
import onnx
import pytest
import torch

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.errors import BundleFileError, CheckpointError, ParityError
from bootleg_bundle.manifest import golden_key
from bootleg_export.head_graph import run_head
from bootleg_export.head_to_onnx import check_head
from bootleg_export.heads import BATCHES, export_heads
from bootleg_export.parity import GATES
from bootleg_export.samples import natural_noise
from bootleg_export.session import run_graph
from bootleg_export.verify_heads import golden_logits, logits_of_batches
from bootleg_training.checkpoint import load_head, read_config
from bootleg_training.heads.classes import numbered_classes
from tests.contract.doctor import change_golden, rehash

from .headed import KINDS, SIZE, tokens_of


@pytest.fixture
def doctored_heads(headed_bundle, tmp_path):
    return shutil.copytree(headed_bundle.path, tmp_path / "doctored")


def encoder_of(bundle):
    return lambda pixels, batches: run_graph(bundle.graph("fp32"), pixels, batches)


def checks(bundle):
    encoder = encoder_of(bundle)
    return [*golden_logits(bundle, "fp32", encoder), *logits_of_batches(bundle, "fp32", encoder)]


def failed(bundle):
    return [check.name for check in checks(bundle) if not check.passed]


def test_the_manifest_says_what_feeds_a_head_and_what_its_channels_mean(exported):
    assert {name: (head.input, head.grid) for name, head in exported.heads.items()} == {
        "linear": ("patch_tokens", (8, 8)),
        "layers": ("layer_tokens", (16, 16)),
    }
    head = exported.heads["layers"]
    assert head.row_shape == (5, 16, 16)
    assert head.classes == numbered_classes(5)
    assert (head.graph.file, head.graph.opset) == ("heads/layers.onnx", 20)
    assert exported.files == ["heads/layers.onnx", "heads/linear.onnx"]


def test_a_head_for_another_input_is_left_out_with_its_score(exported):
    assert exported.left_out == ("larger",)
    assert [probe.probe for probe in exported.probes] == ["segmentation:linear", "segmentation:layers"]
    assert sorted(path.name for path in (exported.folder / "heads").iterdir()) == ["layers.onnx", "linear.onnx"]


def test_a_checkpoint_without_heads_gives_none(tiny_checkpoint, tmp_path):
    none = export_heads(tmp_path, tiny_checkpoint, read_config(tiny_checkpoint), size=SIZE)
    assert (none.heads, none.files, none.measure("fp32", {}, {}), none.expected({})) == ({}, [], (), {})
    assert list(tmp_path.iterdir()) == []


def test_logits_from_pixels_to_head_equal_pytorchs(exported, bundle, serving_graph):
    pixels = natural_noise(24, SIZE, SIZE)
    reference = tokens_of(serving_graph, pixels)
    rows = exported.measure("fp32", reference, run_graph(bundle.graph("fp32"), pixels, BATCHES))
    assert [(row.precision, row.output, row.images) for row in rows] == [
        ("fp32", "logits.layers", 24),
        ("fp32", "logits.linear", 24),
    ]
    assert all(GATES["fp32"].passes(row) for row in rows), rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_disturbed_encoder_or_head_breaks_the_gate(exported, serving_graph, kind, tmp_path):
    reference = tokens_of(serving_graph, natural_noise(4, SIZE, SIZE))
    disturbed = {name: array + np.float32(1e-3) * array.std() for name, array in reference.items()}
    disturbed["layer_tokens"][:, :, :, :, 0] *= 1.01  # an offset alone is normalised away
    rows = {row.output: row for row in exported.measure("fp32", reference, disturbed)}
    assert not GATES["fp32"].passes(rows[golden_key(kind)])
    other = dataclasses.replace(exported, modules={name: swap(module) for name, module in exported.modules.items()})
    rows = {row.output: row for row in other.measure("fp32", reference, reference)}
    assert not GATES["fp32"].passes(rows[golden_key(kind)])


def swap(module):
    """The same head, two of its features exchanged."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.project.weight[:, [0, 1]] = other.project.weight[:, [1, 0]]
    return other


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batches", [(1,), (2,), (9,), (4, 1)])
def test_a_heads_graph_answers_like_pytorch_in_any_batch(exported, headed, serving_graph, kind, batches):
    tokens = tokens_of(serving_graph, natural_noise(9, SIZE, SIZE))[exported.heads[kind].input]
    with torch.no_grad():
        expected = load_head(headed, kind, read_config(headed))(torch.from_numpy(tokens)).numpy()
    found = run_head(exported.folder / f"heads/{kind}.onnx", exported.heads[kind].input, tokens, batches)
    assert found.shape == (9, *exported.heads[kind].row_shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_exporting_again_gives_the_same_files_byte_for_byte(exported, headed, tmp_path):
    again = export_heads(tmp_path, headed, read_config(headed), size=SIZE)
    for name in exported.files:
        assert (again.folder / name).read_bytes() == (exported.folder / name).read_bytes(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_heads_graph_is_one_file_without_a_trace_of_where_it_was_made(exported, kind):
    model = onnx.load(exported.folder / f"heads/{kind}.onnx")
    graph = model.graph
    parts = [graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]
    assert not [part.name for part in parts if part.metadata_props or part.doc_string]
    assert not [t.name for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    content = (exported.folder / f"heads/{kind}.onnx").read_bytes()
    assert not [trace for trace in (b"site-packages", b".py", b"/home/", b"Traceback") if trace in content]


def freeze(value):
    value.type.tensor_type.shape.dim[0].dim_value = 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: setattr(m.opset_import[0], "version", 18), "opsets"),
        (lambda m: setattr(m.graph.output[0], "name", "masks"), "layer_tokens to masks"),
        (lambda m: setattr(m.graph.input[0], "name", "tokens"), "maps tokens"),
        (lambda m: freeze(m.graph.input[0]), "layer_tokens: the exporter fixed the batch"),
        (lambda m: freeze(m.graph.output[0]), "logits: the exporter fixed the batch"),
        (lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 10), "logits: the exporter wrote another"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 9), "rows are"),
        (lambda m: m.graph.output.add(name="more"), "maps"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(exported, change, said):
    model = onnx.load(exported.folder / "heads/layers.onnx")
    row = (3, 8, 8, 32)
    assert check_head(model, "layer_tokens", row) == (16, 16)
    change(model)
    with pytest.raises(ParityError, match=said):
        check_head(model, "layer_tokens", row)


def test_weights_that_do_not_fit_their_description_are_refused(headed, tmp_path):
    config = read_config(headed)
    wider = config.heads["linear"].model_copy(update={"classes": numbered_classes(6)})
    with pytest.raises(CheckpointError, match=r"heads/linear\.safetensors does not fit"):
        export_heads(tmp_path, headed, config.model_copy(update={"heads": {"linear": wider}}), size=SIZE)


def test_a_good_bundle_passes_every_check_of_its_heads(headed_bundle):
    assert [check.name for check in checks(headed_bundle)] == [
        "fp32 golden logits.layers",
        "fp32 golden logits.linear",
        "fp32 batch invariance logits.layers",
        "fp32 batch invariance logits.linear",
    ]
    assert failed(headed_bundle) == []


def test_a_bundle_without_heads_has_nothing_to_check(bundle):
    assert checks(bundle) == []


@pytest.mark.parametrize("change", [lambda array: array * np.float32(1.001), lambda array: array * np.nan])
def test_golden_logits_that_the_head_does_not_give_are_found_though_the_hashes_agree(doctored_heads, change):
    change_golden(doctored_heads, "logits.layers", change)
    assert failed(open_bundle(doctored_heads)) == ["fp32 golden logits.layers"]


def test_a_head_whose_answers_depend_on_their_batch_is_found(doctored_heads):
    path = doctored_heads / "heads" / "linear.onnx"
    model = onnx.load(path)
    (maker,) = (node for node in model.graph.node if "logits" in node.output)
    maker.output[list(maker.output).index("logits")] = "own"
    axes = onnx.numpy_helper.from_array(np.array([0], np.int64), "batch_axis")
    share = onnx.numpy_helper.from_array(np.array(1e-2, np.float32), "leak")
    model.graph.initializer.extend([axes, share])
    model.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["own", "batch_axis"], ["mates"]),
            onnx.helper.make_node("Mul", ["mates", "leak"], ["leaked"]),
            onnx.helper.make_node("Add", ["own", "leaked"], ["logits"]),
        ]
    )
    onnx.save(model, path)
    rehash(doctored_heads, "heads/linear.onnx")
    assert "fp32 batch invariance logits.linear" in failed(open_bundle(doctored_heads))


def test_a_head_that_cannot_be_run_is_named(doctored_heads):
    (doctored_heads / "heads" / "linear.onnx").write_bytes(b"no graph")
    rehash(doctored_heads, "heads/linear.onnx")
    with pytest.raises(BundleFileError, match=r"heads/linear\.onnx"):
        checks(open_bundle(doctored_heads))
