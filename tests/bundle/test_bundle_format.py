"""A reader written from ``docs/bundle-format.md`` alone reads the shipped bundle; the page's example is right.

``Reader`` imports nothing of ours. What it computes is then compared with our own modules.
"""

import hashlib
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from bootleg_bundle import preprocess
from bootleg_bundle.bundle import default_bundle_path, open_bundle
from bootleg_bundle.images import decode
from bootleg_bundle.manifest import GOLDEN_OUTPUTS, GOLDEN_TOLERANCE, GRAPH_OUTPUTS, MAX_MANIFEST_BYTES, golden_key
from bootleg_bundle.manifest import embedding_space_id as our_id

PAGE = (Path(__file__).parents[2] / "docs" / "bundle-format.md").read_text(encoding="utf-8")


class Reader:
    """Steps 1 to 6 of the page, and its preprocessing."""

    def __init__(self, folder):
        raw = (folder / "manifest.json").read_bytes()
        assert len(raw) <= 4_194_304
        self.folder, self.manifest = folder, json.loads(raw)
        assert self.manifest["format_version"] == 1
        named = [self.manifest["golden"]]
        for graph in [*self.manifest["graphs"].values(), *(h["graph"] for h in self.manifest["heads"].values())]:
            named += [graph["file"], *graph["external_data"]]
        assert set(named) <= set(self.manifest["files"])
        for name, entry in self.manifest["files"].items():
            data = (folder / name).read_bytes()
            assert len(data) == entry["bytes"]
            assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        self.session = ort.InferenceSession(folder / self.manifest["graphs"]["fp32"]["file"])

    def golden_errors(self):
        golden = np.load(self.folder / self.manifest["golden"], allow_pickle=False)
        names = ["embedding", "patch_tokens", "layers", "layer_tokens"]
        found = dict(zip(names, self.session.run(names, {"pixels": golden["pixels"]}), strict=True))
        for name, head in self.manifest["heads"].items():
            graph = ort.InferenceSession(self.folder / head["graph"]["file"])
            found[f"logits.{name}"] = graph.run(["logits"], {head["input"]: found[head["input"]]})[0]
        return {
            key: np.linalg.norm(found[key] - golden[key]) / np.linalg.norm(golden[key])
            for key in golden
            if key != "pixels"
        }

    def pixels(self, rgb, *, rows_first):
        spec = self.manifest["preprocess"]
        h, w, out_h, out_w = *rgb.shape[:2], spec["height"], spec["width"]
        s = spec["crop_ratio"] * min(h / out_h, w / out_w)
        box_h, box_w = min(h, s * out_h), min(w, s * out_w)
        passes = [(1, (w - box_w) / 2, box_w, out_w), (0, (h - box_h) / 2, box_h, out_h)]
        image = rgb.astype(float)
        for axis, a, b, m in passes if rows_first else reversed(passes):
            image = resample(image, axis, a, b, m, spec["resample"])
        return image.astype(np.uint8)


def bilinear(x):
    return 1 - abs(x) if abs(x) < 1 else 0.0


def bicubic(x):
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def resample(image, axis, a, b, m, name):
    support, f = {"bilinear": (1, bilinear), "bicubic": (2, bicubic)}[name]
    n, scale = image.shape[axis], b / m
    stretch = max(scale, 1)
    weights = np.zeros((m, n))
    for i in range(m):
        centre, r = a + (i + 0.5) * scale, support * stretch
        for k in range(max(0, math.trunc(centre - r + 0.5)), min(n, math.trunc(centre + r + 0.5))):
            weights[i, k] = f((k + 0.5 - centre) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    moved = np.moveaxis(np.tensordot(weights, image, axes=(1, axis)), 0, axis)
    return np.floor(moved + 0.5).clip(0, 255)


def embedding_space(canonical_preprocess, weights, pooling):
    specification = hashlib.sha256(canonical_preprocess.encode()).hexdigest()
    lines = f"embedding-space-1\n{weights}\n{specification}\n{pooling}"
    return specification, "es1-" + hashlib.sha256(lines.encode()).hexdigest()[:32]


@pytest.fixture(scope="module")
def reader():
    return Reader(default_bundle_path())


def table(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_shipped_bundle_is_read_by_the_page_alone(reader):
    manifest = open_bundle(default_bundle_path()).manifest
    errors = reader.golden_errors()
    assert set(errors) == {*GOLDEN_OUTPUTS, *(golden_key(name) for name in manifest.heads)}
    assert all(error < 1e-4 for error in errors.values()), errors


@pytest.mark.parametrize("size", [(64, 64), (65, 64), (225, 177), (40, 300), (17, 9), (63, 1000)])
@pytest.mark.parametrize("changes", [{}, {"crop_ratio": 0.875}, {"resample": "bilinear"}, {"height": 48, "width": 80}])
def test_preprocessing_by_the_page_is_ours_up_to_rounding(reader, monkeypatch, size, changes):
    rgb = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    spec = reader.manifest["preprocess"] | changes
    monkeypatch.setitem(reader.manifest, "preprocess", spec)
    ours = preprocess.apply(preprocess.PreprocessSpec(**spec), rgb).astype(int)
    differences = [np.abs(reader.pixels(rgb, rows_first=first).astype(int) - ours) for first in (True, False)]
    difference = min(differences, key=np.max)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("tag", range(10))
def test_images_are_turned_as_the_page_says(tag):
    rgb = np.random.default_rng(tag).integers(256, size=(5, 8, 3), dtype=np.uint8)
    turned = {
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb, -1),
        7: rgb[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(rgb),
    }.get(tag, rgb)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = tag
    Image.fromarray(rgb).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(decode(file.getvalue()), turned)


def test_the_examples_hashes_follow_from_what_it_states():
    block = re.search(r"An example:\n\n```\n(.*?)```", PAGE, re.DOTALL)[1]
    example = dict(re.split(r" {2,}", line, maxsplit=1) for line in block.splitlines())
    found = embedding_space(example["preprocess"], example["weights hash"], example["pooling"])
    assert found == (example["preprocessing hash"], example["embedding space"])
    spec = preprocess.PreprocessSpec(**json.loads(example["preprocess"]))
    assert spec.hash == example["preprocessing hash"]
    assert our_id(example["weights hash"], spec, example["pooling"]) == example["embedding space"]


def test_the_shipped_bundles_space_is_computed_as_the_page_says(reader):
    canonical = json.dumps(reader.manifest["preprocess"], sort_keys=True, separators=(",", ":"))
    weights = reader.manifest["provenance"]["checkpoint_sha256"]
    pooling = "mean of the patch tokens after the final norm"
    assert embedding_space(canonical, weights, pooling)[1] == reader.manifest["embedding_space"]


def test_the_page_states_the_names_and_numbers_of_the_code():
    assert re.findall(r"^\| `(\w+)` \| float32", table("The encoder graph"), re.MULTILINE) == list(GRAPH_OUTPUTS)
    names, _, values = table("Golden").strip().splitlines()[-3:]
    stated = dict(zip(names.strip("| ").split(" | "), map(float, values.strip("| ").split(" | ")), strict=True))
    assert stated == GOLDEN_TOLERANCE
    assert f"at most {MAX_MANIFEST_BYTES:,} bytes" in PAGE
