import onnx
import pytest

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.errors import BundleFileError
from bootleg_export.build import build_bundle
from bootleg_export.external_data import load_model, save_model
from bootleg_export.options import ExportOptions
from bootleg_export.samples import natural_noise
from bootleg_export.session import run_graph
from bootleg_export.verify import verify_bundle
from bootleg_service.engine import open_engine
from bootleg_service.settings import EngineSettings
from tests.contract.doctor import rehash
from tests.contract.tiny import NAME

DATA = "encoder.fp32.data"


@pytest.fixture
def external(quick_export, tiny_checkpoint, tmp_path):
    """A bundle whose weights lie beside the graph; it may be changed."""
    options = ExportOptions(external_data=True)
    return build_bundle(tiny_checkpoint, tmp_path / "external", name=NAME, options=options).bundle


def test_the_weights_lie_in_a_second_file_that_the_manifest_lists_and_hashes(external, bundle):
    graph = external.manifest.graphs["fp32"]
    assert (graph.file, graph.external_data) == ("encoder.fp32.onnx", (DATA,))
    assert DATA in external.manifest.files
    assert external.graph("fp32").stat().st_size < external.file(DATA).stat().st_size
    assert load_model(external.graph("fp32"), (DATA,)).graph.initializer  # with their values
    assert external.manifest.embedding_space == bundle.manifest.embedding_space


def test_it_verifies_and_serves_the_vectors_of_the_single_file(external, bundle):
    assert all(check.passed for check in verify_bundle(external.path))
    pixels = natural_noise(3, 32, 32)
    served, single = (
        open_engine(one, EngineSettings(device="cpu", threads=1)).run(pixels, ["embedding"])["embedding"]
        for one in (external, bundle)
    )
    assert (served == single).all()


def test_writing_it_again_gives_the_same_bytes(external, tmp_path):
    (tmp_path / "again").mkdir()
    for _ in range(2):  # over an earlier file as well
        model = load_model(external.graph("fp32"), (DATA,))
        save_model(model, tmp_path / "again" / "encoder.fp32.onnx", external=True)
    for name in ("encoder.fp32.onnx", DATA):
        assert (tmp_path / "again" / name).read_bytes() == external.file(name).read_bytes()


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def make_a_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "damage", [flip_a_bit, make_a_link, lambda path: path.unlink()], ids=["bit", "link", "missing"]
)
def test_damaged_weights_are_refused_by_name(external, damage):
    damage(external.file(DATA))
    with pytest.raises(BundleFileError, match=DATA):
        open_bundle(external.path)


@pytest.mark.parametrize("location", ["other.data", "../other.data", "/etc/hostname"])
def test_a_graph_that_takes_weights_from_a_file_not_listed_is_refused(external, location):
    path = external.graph("fp32")
    (path.parent / "other.data").write_bytes(external.file(DATA).read_bytes())
    (path.parent.parent / "other.data").write_bytes(external.file(DATA).read_bytes())
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    rehash(external.path, path.name)
    with pytest.raises(BundleFileError, match=r"encoder\.fp32\.onnx"):
        list(verify_bundle(external.path))
    with pytest.raises(BundleFileError, match=r"encoder\.fp32\.onnx"):
        load_model(path, (DATA,))


def test_a_single_file_runs_without_naming_any(bundle):
    assert run_graph(bundle.graph("fp32"), natural_noise(1, 32, 32), (1,))["embedding"].shape == (1, 32)
