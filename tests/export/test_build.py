import onnx
import pytest

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.errors import BundleError, CheckpointError, ConfigError, DataError, ManifestError, ParityError
from bootleg_bundle.manifest import embedding_space_id
from bootleg_export import precisions, tasks
from bootleg_export.build import build_bundle
from bootleg_export.graph import POOLING, ServingGraph, reference_outputs
from bootleg_export.judge import GraphFile
from bootleg_export.options import ExportOptions
from bootleg_export.parity import GATES, Gate, measure
from bootleg_export.samples import natural_noise
from bootleg_export.session import run_graph
from bootleg_training.checkpoint import read_config, weights_sha256
from bootleg_training.resize import at_size
from tests.contract.tiny import LAYERS, NAME, SHAPE, write_tiny_checkpoint


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "bundle"


def left_behind(out):
    return sorted(path.name for path in out.parent.iterdir()) if out.parent.exists() else []


def scale_a_weight(factor):
    def change(model):
        largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        array = onnx.numpy_helper.to_array(largest) * factor
        largest.CopyFrom(onnx.numpy_helper.from_array(array.astype("float32"), largest.name))

    return change


def test_the_manifest_describes_the_checkpoint(bundle):
    manifest = bundle.manifest
    assert manifest.name == NAME
    shape = manifest.architecture
    assert (shape.image_size, shape.patch_size, shape.width, shape.depth, shape.heads) == (32, 4, 32, 3, 2)
    assert (manifest.outputs.dim, manifest.outputs.grid, manifest.outputs.layers) == (32, (8, 8), LAYERS)
    assert manifest.graphs["fp32"].opset == 20
    assert shape.registers == SHAPE.registers


def test_provenance_and_probes_travel_from_the_checkpoint(bundle, tiny_checkpoint):
    config = read_config(tiny_checkpoint)
    assert bundle.manifest.probes == config.probes
    kept = bundle.manifest.provenance.model_dump(exclude={"versions"})
    assert kept == config.provenance.model_dump(exclude={"versions"})
    assert set(bundle.manifest.provenance.versions) == {"torch", "onnx", "onnxscript"}


def test_the_embedding_space_follows_from_weights_preprocessing_and_pooling(bundle, encoder):
    weights = weights_sha256(dict(encoder.named_parameters()))
    assert bundle.manifest.embedding_space == embedding_space_id(weights, bundle.manifest.preprocess, POOLING)


def test_every_file_of_the_bundle_is_listed(bundle):
    on_disk = {path.name for path in bundle.path.iterdir()} - {"manifest.json"}
    assert on_disk == set(bundle.manifest.files) == {"encoder.fp32.onnx", "golden.npz", "README.md"}


def test_parity_is_recorded_for_every_output(bundle):
    assert {(row.precision, row.output) for row in bundle.manifest.parity} == {
        ("fp32", "embedding"),
        ("fp32", "patch_tokens"),
        ("fp32", "layers"),
        ("fp32", "layer_tokens"),
    }
    assert all(row.images == 64 for row in bundle.manifest.parity)


def test_exporting_again_gives_the_same_bundle_byte_for_byte(bundle, tiny_checkpoint, out):
    again = build_bundle(tiny_checkpoint, out, name=NAME).bundle
    for name in bundle.manifest.files:
        assert again.file(name).read_bytes() == bundle.file(name).read_bytes(), name
    assert again.sha256 == bundle.sha256


def test_a_graph_with_other_weights_fails_the_gate_and_leaves_nothing(quick_export, tiny_checkpoint, out):
    quick_export.change = scale_a_weight(1.001)
    with pytest.raises(ParityError, match="relative Frobenius"):
        build_bundle(tiny_checkpoint, out, name=NAME)
    assert left_behind(out) == []


def test_a_graph_that_answers_nan_fails_the_gate_and_leaves_nothing(quick_export, tiny_checkpoint, out):
    quick_export.change = scale_a_weight(float("nan"))
    with pytest.raises(ParityError):
        build_bundle(tiny_checkpoint, out, name=NAME)
    assert left_behind(out) == []


def test_a_name_that_the_manifest_refuses_is_an_error_of_ours_and_leaves_nothing(quick_export, tiny_checkpoint, out):
    with pytest.raises(ManifestError, match="name"):
        build_bundle(tiny_checkpoint, out, name="Not A Name")
    assert left_behind(out) == []


def test_an_existing_bundle_is_never_overwritten(tiny_checkpoint, doctored):
    before = open_bundle(doctored).sha256
    with pytest.raises(BundleError, match="exists already"):
        build_bundle(tiny_checkpoint, doctored, name="other")
    assert open_bundle(doctored).sha256 == before


def test_what_a_killed_export_left_does_not_stop_the_next(quick_export, tiny_checkpoint, out):
    partial = out.with_name(out.name + ".partial")
    partial.mkdir(parents=True)
    (partial / "junk").write_text("half")
    assert "junk" not in build_bundle(tiny_checkpoint, out, name=NAME).bundle.manifest.files
    assert left_behind(out) == ["bundle"]
    assert not (out / "junk").exists()


def test_a_damaged_checkpoint_is_refused(tmp_path, out):
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    weights = checkpoint / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    with pytest.raises(CheckpointError, match="SHA-256"):
        build_bundle(checkpoint, out, name=NAME)
    assert left_behind(out) == []


def test_a_lower_precision_that_fails_its_gate_is_left_out_with_its_files_and_the_rest_is_written(
    quick_export, tiny_checkpoint, out, monkeypatch
):
    monkeypatch.setitem(precisions.OPSETS, "fp16", 20)  # that of the quick export, which is then an exact fp16
    monkeypatch.setitem(GATES, "fp16", Gate(1e-12, 1, 1, 0))
    options = ExportOptions(("fp16",), external_data=True)
    built = build_bundle(tiny_checkpoint, out, name=NAME, options=options)
    assert built.refused["fp16"].startswith("embedding: relative Frobenius")
    assert built.refused["fp16"].endswith("(<= 1e-12)")
    assert set(built.bundle.manifest.graphs) == {"fp32"}
    assert {row.precision for row in built.bundle.manifest.parity} == {"fp32"}
    on_disk = {path.name for path in out.iterdir()}
    assert on_disk == {"manifest.json", *built.bundle.manifest.files}
    assert not [name for name in on_disk if "fp16" in name]


def test_a_precision_whose_answers_depend_on_their_batch_is_left_out(quick_export, tiny_checkpoint, out, monkeypatch):
    monkeypatch.setitem(precisions.OPSETS, "fp16", 20)
    monkeypatch.setattr(GraphFile, "batch_invariance", lambda file, *_: 0.5 if file.precision == "fp16" else 0.0)
    built = build_bundle(tiny_checkpoint, out, name=NAME, options=ExportOptions(("fp16",)))
    assert built.refused == {"fp16": "batch invariance 5.0e-01 (<= 1e-03): an answer changes with its batch"}


def test_a_precision_that_loses_points_on_a_task_is_left_out_and_so_is_its_row(
    quick_export, tiny_checkpoint, out, monkeypatch, labelled
):
    monkeypatch.setitem(precisions.OPSETS, "fp16", 20)
    monkeypatch.setattr(tasks, "MAX_DROP", -1)
    built = build_bundle(tiny_checkpoint, out, name=NAME, options=ExportOptions(("fp16",), tasks=labelled))
    assert "loses 0.00 points" in built.refused["fp16"]
    assert built.bundle.manifest.tasks == ()
    assert set(built.bundle.manifest.graphs) == {"fp32"}


def test_what_a_precision_costs_on_a_task_is_recorded(quick_export, tiny_checkpoint, out, monkeypatch, labelled):
    monkeypatch.setitem(precisions.OPSETS, "fp16", 20)
    built = build_bundle(tiny_checkpoint, out, name=NAME, options=ExportOptions(("fp16",), tasks=labelled))
    assert [(row.precision, row.task, row.drop) for row in built.bundle.manifest.tasks] == [
        ("fp16", "knn", 0),
        ("fp16", "linear", 0),
    ]


def test_another_input_size_is_a_bundle_with_its_own_table_and_embedding_space_and_no_probes(
    tiny_checkpoint, out, bundle, encoder
):
    resized = build_bundle(tiny_checkpoint, out, name=NAME, options=ExportOptions(size=48)).bundle
    manifest = resized.manifest
    assert (manifest.preprocess.height, manifest.preprocess.width, manifest.architecture.image_size) == (48, 48, 48)
    assert manifest.outputs.grid == (12, 12)
    assert manifest.embedding_space != bundle.manifest.embedding_space
    assert bundle.manifest.probes
    assert manifest.probes == ()  # they were measured at the trained size
    pixels = natural_noise(2, 48, 48)
    spec = manifest.preprocess
    expected = reference_outputs(ServingGraph(at_size(encoder, 48), spec, manifest.outputs.layers).eval(), pixels)
    rows = measure("fp32", expected, run_graph(resized.graph("fp32"), pixels, (2,)))
    assert all(GATES["fp32"].passes(row) for row in rows)


def test_the_trained_size_by_name_is_the_bundle_without_a_size(quick_export, tiny_checkpoint, out, bundle):
    again = build_bundle(tiny_checkpoint, out, name=NAME, options=ExportOptions(size=32)).bundle
    assert again.sha256 == bundle.sha256


def test_a_size_that_the_patches_do_not_fill_is_refused_and_leaves_nothing(tiny_checkpoint, out):
    with pytest.raises(ConfigError, match="size 50 is no multiple"):
        build_bundle(tiny_checkpoint, out, name=NAME, options=ExportOptions(size=50))
    assert left_behind(out) == []


def test_int8_without_calibration_images_is_refused():
    with pytest.raises(ConfigError, match="--calibration"):
        ExportOptions(("int8",))


@pytest.mark.parametrize("lower", [(), ("bf16",)])
def test_tasks_with_nothing_to_compare_are_refused(lower):
    with pytest.raises(ConfigError, match="--tasks"):
        ExportOptions(lower, tasks=("a", "b"))


def test_calibration_that_cannot_be_read_is_refused_before_anything_is_exported(tiny_checkpoint, out, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        build_bundle(tiny_checkpoint, out, name=NAME, options=ExportOptions(("int8",), str(tmp_path / "nowhere")))
    assert left_behind(out) == []
