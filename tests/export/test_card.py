import re

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from bootleg_bundle.images import decode
from bootleg_bundle.manifest import Calibration, Graph, Head, PixelClass, Probe, Task
from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_export.card import model_card
from bootleg_export.session import run_graph

CLASSES = (PixelClass(name="road", color=(0, 0, 0)), PixelClass(name="sky | cloud", color=(9, 9, 9)))


@pytest.fixture
def fields(bundle):
    manifest = bundle.manifest
    return {name: getattr(manifest, name) for name in type(manifest).model_fields if name != "files"}


@pytest.fixture
def sizes(bundle):
    return {name: entry.bytes for name, entry in bundle.manifest.files.items()}


def head(source):
    return Head(input=source, graph=Graph(file=f"heads/{source}.onnx", opset=20), classes=CLASSES, grid=(8, 8))


def section(text, title):
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_card_in_the_bundle_is_written_from_its_manifest(bundle, fields, sizes):
    assert bundle.file("README.md").read_text() in {model_card(fields), model_card(fields, sizes)}


@pytest.mark.parametrize(
    "fact",
    ["56,789 images", "1,234 steps", "made-up-shapes", "2.00 hours", "an abacus", "f" * 16, "0123abc", "Bootleg"],
)
def test_the_card_states_where_the_weights_come_from(fields, fact):
    assert fact in model_card(fields)


def test_the_card_of_a_run_that_went_on_from_another_says_so(fields):
    source = fields["provenance"]
    assert "began with" not in model_card(fields)
    went_on = source.model_copy(update={"ancestors": source.lineage})
    assert "began with the weights of an earlier run: 56,789 images" in model_card({**fields, "provenance": went_on})


def test_the_card_states_each_probe_beside_its_untrained_twin(fields):
    assert "| knn | made-up-labels | accuracy | 0.625 | 0.125 | k = 20 |" in model_card(fields)


def test_a_card_without_probes_says_that_none_were_run(fields):
    text = model_card({**fields, "probes": ()})
    assert "None were run." in text
    assert "accuracy" not in text


def test_a_probe_without_a_twin_leaves_its_cell_empty(fields):
    (probe,) = fields["probes"]
    text = model_card({**fields, "probes": (probe.model_copy(update={"random_init": None}),)})
    assert "| 0.625 |  | k = 20 |" in text


def test_the_card_states_the_measured_parity_of_every_output(fields):
    text = model_card(fields)
    for row in fields["parity"]:
        assert f"| fp32 | {row.output} | 64 | {row.relative_frobenius:.1e} |" in text


def test_the_card_names_the_embedding_space(fields):
    assert fields["embedding_space"] in model_card(fields)


def test_the_card_lists_each_head_with_its_classes_and_its_own_score(fields):
    probes = (
        Probe(probe="segmentation:road", dataset="made-up-streets", metric="mIoU", value=0.375, random_init=0.25),
        Probe(probe="segmentation:other", dataset="elsewhere", metric="mIoU", value=0.875),
    )
    text = model_card({**fields, "heads": {"road": head("patch_tokens")}, "probes": probes})
    row = "| road | segmentation | patch_tokens | 8 x 8 | 0.375 (made-up-streets) | 0 road, 1 sky \\| cloud |"
    assert row in section(text, "Heads")
    assert "not measured" in model_card({**fields, "heads": {"road": head("patch_tokens")}})
    assert "## Heads" not in model_card(fields)


def test_the_card_states_size_calibration_and_cost_of_each_precision(fields, sizes):
    graphs = {
        **fields["graphs"],
        "int8": Graph(
            file="encoder.int8.onnx",
            opset=20,
            external_data=("encoder.int8.onnx.data",),
            calibration=Calibration(dataset="photographs", images=1500, fingerprint="0" * 64),
            batch_invariance=2.5e-7,
        ),
    }
    task = Task(precision="int8", task="knn", dataset="made-up-labels", value=0.61, fp32=0.625, detail="k = 20")
    more = {**sizes, "encoder.int8.onnx": 1_000_000, "encoder.int8.onnx.data": 2_500_000}
    text = section(model_card({**fields, "graphs": graphs, "tasks": (task,)}, more), "Precisions")
    assert "| int8 | encoder.int8.onnx | 3.5 MB | 20 | 2.5e-07 | 1,500 images of photographs |" in text
    assert f"| fp32 | encoder.fp32.onnx | {sizes['encoder.fp32.onnx'] / 1e6:.1f} MB |" in text
    assert "| int8 | knn | made-up-labels | 0.625 | 0.610 | +1.50 | k = 20 |" in text
    assert "costs" not in model_card(fields)


@pytest.mark.parametrize(("difference", "cell"), [(None, "not run"), (0.0, "equal"), (3e-7, "3.0e-07")])
def test_the_card_says_what_a_batch_changes(fields, difference, cell):
    graphs = {"fp32": fields["graphs"]["fp32"].model_copy(update={"batch_invariance": difference})}
    assert f"| {cell} |" in section(model_card({**fields, "graphs": graphs}), "Precisions")


def test_somebodys_words_make_no_cell_row_tag_or_link(fields):
    hostile = "a | b\n| c | <script>[x](y)`"
    source = fields["provenance"].model_copy(update={"dataset": hostile, "hardware": hostile, "method": hostile})
    probe = Probe(probe="knn", dataset=hostile, value=0.5, detail=hostile)
    text = model_card({**fields, "provenance": source, "probes": (probe,)})
    assert "\n| c" not in text
    for sign in ("|", "<", "["):
        assert f"{sign}" not in re.sub(r"\\.", "", section(text, "Limits"))
    (row,) = [line for line in text.splitlines() if line.startswith("| knn")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 7


@pytest.mark.parametrize("name", ["tiny", "null", "1.0", "0x1f", "yes", "2026-01-01"])
@pytest.mark.parametrize("heads", [{}, {"road": head("patch_tokens")}])
def test_the_front_matter_is_yaml_whatever_the_name(fields, name, heads):
    text = model_card({**fields, "name": name, "heads": heads})
    _, front, body = text.split("---\n", maxsplit=2)
    front = yaml.safe_load(front)
    assert front["model_name"] == name
    assert front["library_name"] == "onnx"
    assert front["pipeline_tag"] == "image-feature-extraction"
    assert {"bootleg", "onnx"} <= set(front["tags"])
    assert ("image-segmentation" in front["tags"]) == bool(heads)
    assert body.startswith(f"\n# {name}\n")


@pytest.mark.parametrize("name", ['say "x"', "a\\b", "a\nb: c", "é😀", "\x7f\x00", "---"])
def test_no_name_breaks_out_of_the_front_matter(fields, name):
    front = model_card({**fields, "name": name}).split("\n---\n")[0].removeprefix("---\n")
    assert yaml.safe_load(front)["model_name"] == name


def write_head(path, source):
    """The first two channels of the tokens (of the mean layer), as logits."""
    nodes = [helper.make_node("Transpose", ["tokens"], ["channels"], perm=[0, 3, 1, 2])]
    nodes.append(helper.make_node("Slice", ["channels", "from", "to", "axis"], ["logits"]))
    shape = ["batch", 8, 8, 32]
    constants = {"from": [0], "to": [2], "axis": [1]}
    if source == "layer_tokens":
        shape.insert(1, 3)
        constants["layer"] = [1]
        nodes.insert(0, helper.make_node("ReduceMean", [source, "layer"], ["tokens"], keepdims=0))
    else:
        nodes[0].input[0] = source
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2, 8, 8])],
        [numpy_helper.from_array(np.array(value, np.int64), key) for key, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


@pytest.mark.parametrize("photo", [(225, 177, 1), (225, 177, 6), (31, 400, 8), (32, 32, 3)])
@pytest.mark.parametrize("source", [None, "patch_tokens", "layer_tokens"])
@pytest.mark.parametrize("changes", [{}, {"crop_ratio": 0.875, "resample": "bilinear"}])
def test_the_python_in_the_card_runs_and_gives_the_projects_own_vectors(
    doctored, fields, monkeypatch, photo, source, changes
):
    spec = PreprocessSpec(height=32, width=32, **changes)
    fields |= {"preprocess": spec, "heads": {"road": head(source)} if source else {}}
    (doctored / "heads").mkdir()
    if source:
        write_head(doctored / "heads" / f"{source}.onnx", source)
    height, width, orientation = photo
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(doctored / "a.jpg", exif=exif)

    code = re.search(r"```python\n(.*?)```", model_card(fields), re.DOTALL)[1]
    monkeypatch.chdir(doctored)
    done = {}
    exec(compile(code, "README.md", "exec"), done)

    pixels = apply(spec, decode((doctored / "a.jpg").read_bytes()))
    np.testing.assert_array_equal(done["pixels"][0], pixels)
    expected = run_graph(doctored / "encoder.fp32.onnx", pixels[None], (1,))
    np.testing.assert_array_equal(done["vector"], expected["embedding"][0])
    if source:
        tokens = expected[source][0]
        logits = (tokens.mean(axis=0) if source == "layer_tokens" else tokens)[..., :2]
        np.testing.assert_array_equal(done["classes"], logits.argmax(axis=-1))
