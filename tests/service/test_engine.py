import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.manifest import GOLDEN_OUTPUTS, GRAPH_OUTPUTS
from bootleg_service import onnx_session
from bootleg_service.engine import choose_precision, open_engine
from bootleg_service.errors import StartupError
from bootleg_service.settings import EngineSettings
from tests.contract.doctor import change_golden

PLAIN = EngineSettings(device="cpu", threads=1)


@pytest.fixture(scope="module")
def bundle(exported_bundle):
    return open_bundle(exported_bundle)


@pytest.fixture
def doctored(exported_bundle, tmp_path):
    return shutil.copytree(exported_bundle, tmp_path / "doctored")


@pytest.fixture
def without_driver(monkeypatch):
    set_driver(monkeypatch, there=False)


def set_driver(monkeypatch, *, there):
    monkeypatch.setattr("bootleg_service.engine.driver_loads", lambda: there)  # what auto asks
    monkeypatch.setattr("bootleg_service.tensorrt.driver.driver_loads", lambda: there)  # what a name asks


def images(count):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_a_bundle_opens_on_the_cpu_and_answers_what_is_asked(bundle):
    engine = open_engine(bundle, PLAIN)
    assert (engine.device, engine.precision, engine.providers) == ("cpu", "fp32", ["CPUExecutionProvider"])
    answers = engine.run(images(3), ["patch_tokens", "embedding"])
    assert {name: array.shape for name, array in answers.items()} == {
        "embedding": (3, 32),
        "patch_tokens": (3, 8, 8, 32),
    }
    np.testing.assert_allclose(answers["embedding"], answers["patch_tokens"].mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_an_image_has_one_answer_alone_and_in_any_batch(bundle):
    engine = open_engine(bundle, PLAIN)
    pixels = images(8)
    together = engine.run(pixels, GRAPH_OUTPUTS)
    for i in range(8):
        alone = engine.run(pixels[i : i + 1], GRAPH_OUTPUTS)
        for name in GRAPH_OUTPUTS:
            np.testing.assert_allclose(together[name][i], alone[name][0], rtol=1e-4, atol=1e-5)


def test_warm_up_runs_the_largest_batch(bundle, monkeypatch):
    engine = open_engine(bundle, PLAIN)
    sizes, run = [], engine.run

    def counted(pixels, outputs):
        sizes.append(len(pixels))
        return run(pixels, outputs)

    monkeypatch.setattr(engine, "run", counted)
    engine.warm_up([1, 6])
    assert sizes == [1, 1, 6, 6]


def test_a_manifest_that_promises_other_shapes_stops_the_start(bundle):
    promised = bundle.manifest.model_copy(
        update={"outputs": bundle.manifest.outputs.model_copy(update={"dim": bundle.manifest.outputs.dim + 1})}
    )
    with pytest.raises(StartupError, match="not what its manifest says"):
        open_engine(type(bundle)(bundle.path, promised, bundle.sha256), PLAIN).warm_up([1])


def test_a_graph_that_is_none_stops_the_start_in_one_line(bundle, tmp_path):
    broken = shutil.copytree(bundle.path, tmp_path / "broken")
    (broken / bundle.manifest.graphs["fp32"].file).write_bytes(b"no graph")
    with pytest.raises(StartupError, match=r"cannot load encoder\.fp32\.onnx"):
        open_engine(type(bundle)(broken, bundle.manifest, bundle.sha256), PLAIN)


def test_the_golden_check_passes_on_a_good_bundle(bundle):
    assert open_engine(bundle, PLAIN).check_golden() <= 1e-4


@pytest.mark.parametrize("output", GOLDEN_OUTPUTS)
def test_a_golden_answer_that_the_model_does_not_give_stops_the_start(doctored, output):
    change_golden(doctored, output, lambda array: array * 1.01)
    with pytest.raises(StartupError, match="golden check failed on cpu"):
        open_engine(open_bundle(doctored), PLAIN).check_golden()


@pytest.mark.parametrize("output", GOLDEN_OUTPUTS)
def test_a_golden_answer_that_is_not_finite_stops_the_start(doctored, output):
    change_golden(doctored, output, lambda array: np.full_like(array, np.nan))
    with pytest.raises(StartupError, match="golden check failed"):
        open_engine(open_bundle(doctored), PLAIN).check_golden()


def test_a_device_asked_for_by_name_that_cannot_be_had_stops_the_start(bundle, without_driver):
    with pytest.raises(StartupError, match="device = 'cuda'"):
        open_engine(bundle, EngineSettings(device="cuda"))


def test_a_runtime_that_lists_cuda_on_a_machine_without_a_driver_is_not_believed(bundle, without_driver, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: list(onnx_session.PROVIDERS.values()))
    with pytest.raises(StartupError, match="no CUDA driver"):
        open_engine(bundle, EngineSettings(device="cuda"))


def test_a_runtime_that_quietly_took_the_cpu_instead_is_caught(bundle, monkeypatch):
    set_driver(monkeypatch, there=True)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: list(onnx_session.PROVIDERS.values()))
    monkeypatch.setattr(onnx_session, "provider_list", lambda *_: ["CPUExecutionProvider"])
    with pytest.raises(StartupError, match="loaded CPUExecutionProvider instead of CUDAExecutionProvider"):
        open_engine(bundle, EngineSettings(device="cuda"))


def test_a_gpu_session_takes_memory_as_it_needs_it_and_no_more_than_it_may(bundle, monkeypatch):
    """As asked of ONNX Runtime; not run on hardware."""
    made = []

    class Session:
        def __init__(self, graph, options, providers):
            made.append((options, providers))

        def get_providers(self):
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    set_driver(monkeypatch, there=True)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: list(onnx_session.PROVIDERS.values()))
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    for limit in (0, 3_000_000_000):
        open_engine(bundle, EngineSettings(device="cuda", gpu_memory_bytes=limit))
    (unbounded, free), (_, bounded) = made
    assert free[0] == ("CUDAExecutionProvider", {"arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"})
    assert bounded[0][1] == free[0][1] | {"gpu_mem_limit": "3000000000"}
    assert not unbounded.enable_mem_pattern


def test_a_batch_that_does_not_fit_the_device_stops_the_start_and_names_the_option(bundle, monkeypatch):
    engine = open_engine(bundle, PLAIN)

    def run(pixels, outputs):
        raise RuntimeError("CUDA failure 2: out of memory")

    monkeypatch.setattr(engine, "run", run)
    with pytest.raises(StartupError, match=r"batch of 64: .*lower --max-batch"):
        engine.warm_up([64, 1])


def test_a_golden_check_does_not_read_the_directory_again(doctored):
    engine = open_engine(open_bundle(doctored), PLAIN)
    engine.check_golden()
    (doctored / "golden.npz").unlink()
    assert engine.check_golden() < 1e-3


def test_auto_takes_the_cpu_on_a_machine_without_a_driver(bundle, without_driver):
    assert open_engine(bundle, EngineSettings(device="auto", threads=1)).device == "cpu"


def test_a_precision_that_the_bundle_does_not_have_stops_the_start_and_names_those_it_has(bundle):
    with pytest.raises(StartupError, match=r"precision = 'fp16'.*has fp32"):
        open_engine(bundle, EngineSettings(device="cpu", precision="fp16"))


def test_two_runtimes_installed_over_each_other_stop_the_start(bundle, monkeypatch):
    both = [SimpleNamespace(name=name) for name in ("onnxruntime", "ONNXRuntime-GPU")]
    monkeypatch.setattr(onnx_session.importlib.metadata, "distributions", lambda: both)
    with pytest.raises(StartupError, match="both installed"):
        open_engine(bundle, PLAIN)


@pytest.mark.parametrize(
    ("device", "have", "taken"),
    [
        ("cpu", ("fp32", "fp16", "int8"), "fp32"),
        ("cuda", ("fp32", "fp16", "int8"), "fp16"),
        ("tensorrt", ("fp32", "fp16"), "fp16"),
        ("cuda", ("fp32", "int8"), "fp32"),
    ],
)
def test_auto_takes_half_precision_on_a_gpu_that_has_it_and_integers_never(bundle, device, have, taken):
    graphs = dict.fromkeys(have, bundle.manifest.graphs["fp32"])
    several = type(bundle)(bundle.path, bundle.manifest.model_copy(update={"graphs": graphs}), bundle.sha256)
    assert choose_precision(several, device, "auto") == taken
    assert choose_precision(several, device, have[-1]) == have[-1]


def test_integers_are_refused_for_tensorrt_which_does_not_read_them(bundle):
    with pytest.raises(StartupError, match="'int8': TensorRT does not read it"):
        choose_precision(bundle, "tensorrt", "int8")
