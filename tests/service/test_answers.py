import base64
import io
import json

import numpy as np
import pytest

from bootleg_bundle.errors import CorruptImageError
from bootleg_service import answers
from bootleg_service.answers import Rows
from bootleg_service.errors import NotAcceptableError
from bootleg_service.selection import Selection

from .fake_engine import fake_bundle

MANIFEST = fake_bundle().manifest
WHOLE = Selection(MANIFEST)


def vectors():
    return np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", answers.JSON),
        ("*/*", answers.JSON),
        ("application/*", answers.JSON),
        ("application/json", answers.JSON),
        ("APPLICATION/JSON", answers.JSON),
        ("application/x-npy", answers.NPY),
        ("application/npy", answers.NPY),
        ("application/octet-stream", answers.RAW),
        ("text/html, application/x-npy", answers.NPY),
        ("application/json;q=0.5, application/x-npy;q=0.9", answers.NPY),
        ("application/x-npy;q=0.1, */*;q=0.2", answers.JSON),
        ("application/octet-stream ; q=1 , application/json ; q=0.9", answers.RAW),
        ("application/json;q=bad, application/x-npy;q=0.1", answers.NPY),
    ],
)
def test_the_accept_header_chooses_the_answer(accept, chosen):
    assert answers.negotiate(accept) == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/png, text/*", "application/json;q=0", "nonsense", ","])
def test_an_accept_header_without_a_type_we_have_is_refused(accept):
    with pytest.raises(NotAcceptableError) as caught:
        answers.negotiate(accept)
    assert caught.value.param == "accept"


def test_json_floats_are_the_float32_numbers_exactly():
    body = json.loads(answers.embedding_list(Rows(vectors()), WHOLE, "float", "float32"))
    read = np.array([row["embedding"] for row in body["data"]], np.float32)
    np.testing.assert_array_equal(read, vectors())
    assert [row["index"] for row in body["data"]] == [0, 1, 2]
    assert body["object"] == "list"
    assert body["model"] == MANIFEST.name
    assert body["embedding_space"] == MANIFEST.embedding_space
    assert body["usage"] == {"prompt_tokens": 12, "total_tokens": 12, "images": 3}


def test_base64_is_little_endian_float32():
    body = json.loads(answers.embedding_list(Rows(vectors()), WHOLE, "base64", "float32"))
    for row, vector in zip(body["data"], vectors(), strict=True):
        np.testing.assert_array_equal(np.frombuffer(base64.b64decode(row["embedding"]), "<f4"), vector)


def test_npy_is_read_back_without_pickle():
    read = np.load(io.BytesIO(answers.npy(vectors())), allow_pickle=False)
    np.testing.assert_array_equal(read, vectors())


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_patch_grids_state_their_shape_and_dtype(dtype):
    grids = np.arange(2 * 2 * 2 * 8).reshape(2, 2, 2, 8).astype(dtype)
    body = json.loads(answers.patch_list(Rows(grids), WHOLE))
    for row, grid in zip(body["data"], grids, strict=True):
        shape = (row["grid"]["height"], row["grid"]["width"], row["dim"])
        assert row["dtype"] == np.dtype(dtype).name
        read = np.frombuffer(base64.b64decode(row["patch_tokens"]), dtype).reshape(shape)
        np.testing.assert_array_equal(read, grid)
        assert row["patch_size"] == 16
        assert row["image_size"] == {"height": 32, "width": 32}


def test_an_image_at_fault_keeps_its_place_in_a_list_and_is_nan_in_an_array():
    rows = Rows(vectors()[:2], {1: CorruptImageError("cut short")})
    body = json.loads(answers.embedding_list(rows, WHOLE, "float", "float32"))
    assert [row["index"] for row in body["data"]] == [0, 1, 2]
    assert body["data"][1]["embedding"] is None
    assert body["data"][1]["error"] == {"code": "corrupt_image", "message": "cut short"}
    np.testing.assert_array_equal(np.float32(body["data"][2]["embedding"]), vectors()[1])
    assert np.isnan(rows.filled()).all(axis=1).tolist() == [False, True, False]
    np.testing.assert_array_equal(rows.filled()[[0, 2]], vectors()[:2])


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8"])
def test_json_holds_the_numbers_of_every_dtype(dtype):
    numbers = np.array([[1, 2, 100]], dtype)
    body = json.loads(answers.embedding_list(Rows(numbers), WHOLE, "float", dtype))
    assert body["data"][0]["embedding"] == [1, 2, 100]
    assert body["dtype"] == dtype
