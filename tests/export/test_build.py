import onnx
import pytest

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.errors import BundleError, CheckpointError, ManifestError, ParityError
from bootleg_bundle.manifest import embedding_space_id
from bootleg_export.build import build_bundle
from bootleg_export.graph import POOLING
from bootleg_training.checkpoint import read_config, weights_sha256
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
    again = build_bundle(tiny_checkpoint, out, name=NAME)
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
    assert "junk" not in build_bundle(tiny_checkpoint, out, name=NAME).manifest.files
    assert left_behind(out) == ["bundle"]
    assert not (out / "junk").exists()


def test_a_damaged_checkpoint_is_refused(tmp_path, out):
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    weights = checkpoint / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    with pytest.raises(CheckpointError, match="SHA-256"):
        build_bundle(checkpoint, out, name=NAME)
    assert left_behind(out) == []
