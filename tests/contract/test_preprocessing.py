"""One implementation of decoding and preprocessing: every room gets the same pixels of a file, to the byte."""

import ast
from pathlib import Path

import numpy as np
import pytest

from bootleg_bundle.images import DEFAULT_LIMITS, decode
from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_bundle.sources import open_source
from bootleg_embed.local import LocalBackend
from bootleg_service.decode_pool import DecodePool
from bootleg_service.metrics import Metrics
from bootleg_service.settings import DecodeSettings
from bootleg_training.data.decode import load
from tests import images
from tests.test_imports import ROOT, modules

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::UserWarning")]

SPECS = {
    "as trained": PreprocessSpec(height=224, width=224),
    "cropped": PreprocessSpec(height=96, width=96, crop_ratio=0.875),
    "bilinear, not square": PreprocessSpec(height=40, width=64, resample="bilinear"),
}
# Files that a folder can hold by their names; each another kind of pixels.
KINDS = [name for name in images.ACCEPTED if name != "png tall"]
SUFFIXES = {"j": ".jpg", "m": ".jpg", "p": ".png", "w": ".webp"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("kinds")
    for number, name in enumerate(KINDS):
        (path / f"{number:03d}{SUFFIXES[name[0]]}").write_bytes(images.ACCEPTED[name]())
    return path


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
async def test_training_and_service_see_the_same_pixels(folder, spec):
    source = open_source(str(folder))
    pool = DecodePool(DEFAULT_LIMITS, Metrics(), DecodeSettings())
    for number, name in enumerate(KINDS):
        data = images.ACCEPTED[name]()
        trained, _ = load(source, number, spec)
        served = await pool.decode(data, spec)
        assert isinstance(trained, np.ndarray), (name, trained)
        np.testing.assert_array_equal(trained, served, err_msg=name)
        np.testing.assert_array_equal(served, apply(spec, decode(data)), err_msg=name)
    await pool.close()


def test_bulk_embedding_sees_them_too(tiny_bundle):
    backend = LocalBackend(tiny_bundle.path, {"device": "cpu", "threads": 1}, "embedding", 1)
    for name in KINDS:
        data = images.ACCEPTED[name]()
        wanted = apply(tiny_bundle.manifest.preprocess, decode(data))
        np.testing.assert_array_equal(backend.prepare(data), wanted, err_msg=name)


def calls():
    """Every call in every room: the module, the line, what is called."""
    for name, file in modules():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield name, f"{file.relative_to(ROOT)}:{node.lineno}", node


def test_nothing_else_opens_an_encoded_image():
    # The labels of a segmentation set are read as they are stored: they are no photographs.
    allowed = {"bootleg_bundle.images", "bootleg_training.probes.scenes"}
    found = [where for name, where, call in calls() if ast.unparse(call.func) == "Image.open" and name not in allowed]
    assert not found, found


def test_no_jpeg_is_decoded_at_less_than_its_size():
    found = [where for _, where, call in calls() if ast.unparse(call.func).endswith((".draft", ".thumbnail"))]
    assert not found, found


def test_neither_service_nor_export_resizes_an_image_by_itself():
    rooms = ("bootleg_service", "bootleg_export", "bootleg_embed", "bootleg_client")
    found = [
        where
        for name, where, call in calls()
        if name.startswith(rooms) and ast.unparse(call.func).endswith(".resize") and "np." not in ast.unparse(call.func)
    ]
    assert not found, found


def test_no_other_image_library_is_imported():
    others = {"cv2", "torchvision", "imageio", "skimage", "pyvips", "turbojpeg"}
    for name, file in modules():
        for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
            imported = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            imported |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            assert not {part.partition(".")[0] for part in imported} & others, name
