"""The published schema is the model's, and a validator that knows nothing of us agrees with the reader."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from bootleg_bundle.bundle import default_bundle_path
from bootleg_bundle.errors import BundleError
from bootleg_bundle.manifest import MANIFEST_NAME, parse_manifest
from bootleg_bundle.schema import manifest_schema

PUBLISHED = Path(__file__).parents[2] / "docs" / "bundle.schema.json"
HASH = "0" * 64


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture
def fields():
    """The shipped manifest, with what it could hold and does not."""
    fields = json.loads((default_bundle_path() / MANIFEST_NAME).read_text())
    fields["files"]["heads/road.onnx"] = {"sha256": HASH, "bytes": 1}
    fields["files"]["encoder.int8.onnx"] = {"sha256": HASH, "bytes": 1}
    fields["graphs"]["int8"] = {
        "file": "encoder.int8.onnx",
        "opset": 20,
        "calibration": {"dataset": "made-up", "images": 10, "fingerprint": HASH},
        "batch_invariance": 0.0,
    }
    fields["heads"]["road"] = {
        "input": "layer_tokens",
        "graph": {"file": "heads/road.onnx", "opset": 20},
        "classes": [{"name": "road", "color": [0, 0, 0]}, {"name": "sky", "color": [255, 255, 255]}],
        "grid": [16, 16],
    }
    fields["tasks"] = [{"precision": "int8", "task": "knn", "dataset": "made-up", "value": 0.5, "fp32": 0.51}]
    return fields


def test_the_published_schema_is_the_models():
    assert json.loads(PUBLISHED.read_text()) == manifest_schema(), (
        "the schema changed: `bootleg bundle schema > docs/bundle.schema.json`"
    )


def test_the_shipped_manifest_fits(validator):
    validator.validate(json.loads((default_bundle_path() / MANIFEST_NAME).read_text()))


def test_a_manifest_with_all_parts_fits_for_the_reader_too(validator, fields):
    validator.validate(fields)
    parse_manifest(json.dumps(fields).encode())


FAULTS = {
    "format_version of tomorrow": lambda f: f.update(format_version=2),
    "no format_version": lambda f: f.pop("format_version"),
    "no name": lambda f: f.pop("name"),
    "no files": lambda f: f.pop("files"),
    "unknown field": lambda f: f.update(surprise=1),
    "unknown field inside": lambda f: f["architecture"].update(surprise=1),
    "name with a space": lambda f: f.update(name="a b"),
    "no fp32 graph": lambda f: f["graphs"].pop("fp32"),
    "unknown precision": lambda f: f["graphs"].update(fp4=f["graphs"]["fp32"]),
    "absolute path": lambda f: f["files"].update({"/etc/passwd": {"sha256": HASH, "bytes": 1}}),
    "path outside": lambda f: f["files"].update({"../x": {"sha256": HASH, "bytes": 1}}),
    "graph outside": lambda f: f["graphs"]["fp32"].update(file="../x"),
    "external data outside": lambda f: f["graphs"]["fp32"].update(external_data=["../x"]),
    "head outside": lambda f: f["heads"]["road"]["graph"].update(file="/x"),
    "golden outside": lambda f: f.update(golden="..\\x"),
    "head without a name": lambda f: f["heads"].update({"": f["heads"]["road"]}),
    "hash too short": lambda f: f["files"]["golden.npz"].update(sha256="0"),
    "hash in capitals": lambda f: f["files"]["golden.npz"].update(sha256="A" * 64),
    "negative size": lambda f: f["files"]["golden.npz"].update(bytes=-1),
    "space of another kind": lambda f: f.update(embedding_space="es2-" + "0" * 32),
    "height of a text": lambda f: f["preprocess"].update(height="64"),
    "height out of bounds": lambda f: f["preprocess"].update(height=4),
    "unknown filter": lambda f: f["preprocess"].update(resample="nearest"),
    "mean of two": lambda f: f["preprocess"].update(mean=[0.5, 0.5]),
    "std of nought": lambda f: f["preprocess"].update(std=[0, 1, 1]),
    "grid of three": lambda f: f["outputs"].update(grid=[8, 8, 8]),
    "head of one class": lambda f: f["heads"]["road"].update(classes=f["heads"]["road"]["classes"][:1]),
    "colour out of bounds": lambda f: f["heads"]["road"]["classes"][0].update(color=[0, 0, 256]),
    "head on the embedding": lambda f: f["heads"]["road"].update(input="embedding"),
    "negative batch invariance": lambda f: f["graphs"]["int8"].update(batch_invariance=-1),
    "probe without a value": lambda f: f["probes"][0].pop("value"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_schema_and_reader_refuse_the_same_faults(validator, fields, name):
    broken = copy.deepcopy(fields)
    FAULTS[name](broken)
    assert broken != fields
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(broken)
    with pytest.raises(BundleError):
        parse_manifest(json.dumps(broken).encode())
