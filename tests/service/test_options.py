"""Options of the routes that answer vectors, and the headers that say what came of them."""

import base64
import io
import re

import numpy as np
import pytest

from bootleg_service.vectors import quantise

from .fake_engine import DIM, GRID, SPACE, embedding_of, patch_tokens_of
from .pictures import shade, truncated_jpeg
from .serving import EMBEDDINGS, OPENAI, PATCHES, error_of, serving

pytestmark = pytest.mark.anyio

NPY = {"Accept": "application/x-npy"}
RAW = {"Accept": "application/octet-stream"}
LAYER = f"{SPACE}+layer1"
OTHER = "es1-" + "f" * 32


def b64(image):
    return base64.b64encode(image).decode()


def files(*images):
    return [("images", (f"{i}", image, "application/octet-stream")) for i, image in enumerate(images)]


def vectors_of(response):
    return np.array([row["embedding"] for row in response.json()["data"]], np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "binary", "ubinary"])
async def test_every_dtype_comes_as_json_base64_npy_and_raw(served, dtype):
    expected = quantise(embedding_of(7)[None], dtype)
    params = {"dtype": dtype}
    as_json = await served.embed(shade(7), params=params)
    np.testing.assert_array_equal(vectors_of(as_json), expected.astype(np.float32))
    assert as_json.json()["dtype"] == dtype
    as_text = await served.embed(shade(7), params=params | {"encoding_format": "base64"})
    assert base64.b64decode(as_text.json()["data"][0]["embedding"]) == expected.tobytes()
    npy = np.load(io.BytesIO((await served.embed(shade(7), params=params, headers=NPY)).content))
    np.testing.assert_array_equal(npy, expected)
    assert npy.dtype == expected.dtype
    raw = await served.embed(shade(7), params=params, headers=RAW)
    assert raw.content == expected.tobytes()
    assert (raw.headers["x-shape"], raw.headers["x-dtype"]) == (
        ",".join(map(str, expected.shape)),
        str(expected.dtype),
    )


async def test_the_numbers_are_quantised_after_they_are_shortened(served):
    response = await served.embed(shade(7), params={"dtype": "int8", "dimensions": 3})
    np.testing.assert_array_equal(vectors_of(response), quantise(embedding_of(7)[None, :3], "int8"))


async def test_the_maximum_is_taken_over_the_patch_tokens(served):
    response = await served.embed(shade(7), params={"pooling": "max"})
    np.testing.assert_array_equal(vectors_of(response), [patch_tokens_of(7).max(axis=(0, 1))])
    assert response.json()["embedding_space"] == response.headers["x-embedding-space"] == f"{SPACE}+max"


@pytest.mark.parametrize(
    ("params", "expected", "space"),
    [
        ({"layer": 1}, embedding_of(7), LAYER),
        ({"layer": 1, "pooling": "max"}, patch_tokens_of(7).max(axis=(0, 1)), f"{LAYER}+max"),
    ],
)
async def test_a_hidden_layer_answers_from_a_space_of_its_own(served, params, expected, space):
    for response in (
        await served.embed(shade(7), params=params),
        await served.client.post(OPENAI, json={"input": b64(shade(7))} | params),
    ):
        np.testing.assert_array_equal(vectors_of(response), [expected])
        assert response.json()["embedding_space"] == response.headers["x-embedding-space"] == space


async def test_the_right_row_of_the_layers_is_taken(served, monkeypatch):
    """With three layers, as the fake model has one."""
    outputs = served.service.bundle.manifest.outputs
    monkeypatch.setitem(outputs.__dict__, "layers", (2, 4, 6))
    run = served.engine.run

    def three(pixels, wanted):
        found = run(pixels, wanted)
        factors = np.float32([1, 10, 100])
        return {
            name: np.concatenate([array * factor for factor in factors], axis=1) if name.startswith("layer") else array
            for name, array in found.items()
        }

    monkeypatch.setattr(served.service.batcher, "_run", three)
    monkeypatch.setattr(served.service.batcher, "_row_shapes", {})
    for layer, factor in ((2, 1), (4, 10), (6, 100)):
        response = await served.embed(shade(7), params={"layer": layer})
        np.testing.assert_allclose(vectors_of(response), [factor * embedding_of(7)], rtol=1e-6)
    assert served.engine.numbers == [7]


async def test_patch_tokens_of_a_hidden_layer(served):
    response = await served.client.post(PATCHES, content=shade(7), params={"layer": 1}, headers=NPY)
    np.testing.assert_array_equal(np.load(io.BytesIO(response.content)), [patch_tokens_of(7)])
    assert response.headers["x-embedding-space"] == LAYER


@pytest.mark.parametrize("path", [EMBEDDINGS, PATCHES])
async def test_a_layer_that_the_model_does_not_give_is_refused_with_those_it_does(served, path):
    response = await served.client.post(path, content=shade(7), params={"layer": 2})
    assert response.status_code == 400
    assert error_of(response)["message"] == "layer: 2 asked for; this model gives the layers 1"


@pytest.mark.parametrize(
    ("pin", "params", "status"),
    [
        (SPACE, {}, 200),
        (SPACE, {"layer": 1}, 200),
        (LAYER, {"layer": 1}, 200),
        (LAYER, {}, 409),
        (LAYER, {"layer": 1, "pooling": "max"}, 409),
        (OTHER, {}, 409),
        (OTHER + "+layer1", {"layer": 1}, 409),
    ],
)
async def test_a_pin_holds_for_the_model_or_for_the_very_vectors(served, pin, params, status):
    response = await served.embed(shade(7), params=params, headers={"X-Embedding-Space": pin})
    assert response.status_code == status
    if status == 409:
        message = error_of(response)["message"]
        assert pin in message
        assert SPACE in message
        assert served.engine.batches == []


async def test_a_pin_that_is_no_id_is_not_repeated(served):
    response = await served.embed(shade(7), headers={"X-Embedding-Space": "<script>"})
    assert response.status_code == 409
    assert "script" not in response.text


PARTIAL = {"on_error": "partial"}


async def test_by_default_one_image_at_fault_fails_the_request(served):
    response = await served.client.post(EMBEDDINGS, files=files(shade(1), truncated_jpeg(), shade(2)))
    assert (response.status_code, error_of(response)["param"]) == (422, "images[1]")


async def test_with_partial_each_image_has_its_answer_or_its_error(served):
    served.engine.poison = {13}
    images = [shade(1), truncated_jpeg(), b"", shade(13), b"text", shade(2)]
    response = await served.client.post(EMBEDDINGS, files=files(*images), params=PARTIAL)
    assert response.status_code == 200
    data = response.json()["data"]
    assert [row["index"] for row in data] == list(range(6))
    codes = [row["error"]["code"] if "error" in row else None for row in data]
    assert codes == [None, "corrupt_image", "empty_image", "engine_error", "unsupported_image_format", None]
    assert all(row["error"]["message"] for row in data if "error" in row)
    assert [row["embedding"] is None for row in data] == [False, True, True, True, True, False]
    np.testing.assert_array_equal(np.float32(data[5]["embedding"]), embedding_of(2))
    assert "CUDA" not in response.text


@pytest.mark.parametrize("path", [EMBEDDINGS, PATCHES])
async def test_with_partial_an_array_has_nan_rows_and_a_header_that_names_them(served, path):
    response = await served.client.post(
        path, files=files(shade(1), b"", shade(2), b"text"), params=PARTIAL, headers=NPY
    )
    array = np.load(io.BytesIO(response.content))
    assert np.isnan(array.reshape(4, -1)).all(axis=1).tolist() == [False, True, False, True]
    expected = [embedding_of(1), embedding_of(2)] if path == EMBEDDINGS else [patch_tokens_of(1), patch_tokens_of(2)]
    np.testing.assert_array_equal(array[[0, 2]], expected)
    assert response.headers["x-errors"] == "1=empty_image, 3=unsupported_image_format"


async def test_with_partial_patch_tokens_name_the_image_at_fault(served):
    response = await served.client.post(PATCHES, files=files(b"", shade(1)), params=PARTIAL)
    first, second = response.json()["data"]
    assert (first["patch_tokens"], first["error"]["code"]) == (None, "empty_image")
    assert second["grid"] == {"height": GRID[0], "width": GRID[1]}


async def test_with_partial_all_may_be_at_fault(served):
    response = await served.client.post(EMBEDDINGS, files=files(b"", b"text"), params=PARTIAL)
    assert [row["embedding"] for row in response.json()["data"]] == [None, None]
    raw = await served.client.post(EMBEDDINGS, files=files(b"", b"text"), params=PARTIAL, headers=RAW)
    assert raw.headers["x-shape"] == f"2,{DIM}"
    assert np.isnan(np.frombuffer(raw.content, "<f4")).all()
    assert served.engine.batches == []


async def test_integers_have_no_number_for_an_image_at_fault(served):
    params = PARTIAL | {"dtype": "int8"}
    response = await served.client.post(EMBEDDINGS, files=files(b"", shade(1)), params=params, headers=NPY)
    assert (response.status_code, error_of(response)["param"]) == (400, "on_error")
    listed = await served.client.post(EMBEDDINGS, files=files(b"", shade(1)), params=params)
    assert [row["embedding"] is None for row in listed.json()["data"]] == [True, False]


async def test_partial_does_not_hide_that_the_service_is_overloaded(engine):
    async with serving(engine, decode__max_waiting=1) as served:
        response = await served.client.post(EMBEDDINGS, files=files(*map(shade, range(8))), params=PARTIAL)
    assert response.status_code in {429, 503}
    assert error_of(response)["code"] == "overloaded"
    assert int(response.headers["retry-after"]) >= 1


async def test_the_timing_header_has_every_stage_that_was_gone_through(served):
    first, again = await served.embed(shade(1)), await served.embed(shade(1))
    stages = re.findall(r"(\w+);dur=(\d+\.\d\d)", first.headers["server-timing"])
    assert [name for name, _ in stages] == ["read", "wait", "decode", "preprocess", "queue", "infer", "encode"]
    assert [name for name, _ in re.findall(r"(\w+);dur=(\S+)", again.headers["server-timing"])] == ["read", "encode"]
    assert "server-timing" not in (await served.client.get("/info")).headers


async def test_a_compressed_body_is_refused_as_such(served):
    response = await served.embed(shade(1), headers={"Content-Encoding": "gzip"})
    assert response.status_code == 415
    assert "Content-Encoding" in error_of(response)["message"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("http://x/y.png", "image_url_refused"),
        ("HTTPS://x/y.png", "image_url_refused"),
        ("ftp://x/y.png", "image_url_refused"),
        ("file:///etc/passwd", "image_url_refused"),
        ("gopher://x", "image_url_refused"),
        ("javascript:alert(1)", "image_url_refused"),
        ("DATA:text/plain;base64,AAAA", "unsupported_media_type"),
        ("data:application/pdf;base64,AAAA", "unsupported_media_type"),
        ("data:image/svg+xml;base64,PHN2Zy8+", "unsupported_image_format"),
    ],
)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (OPENAI, lambda text: {"input": [text]}),
        ("/embed", lambda text: {"inputs": text}),
        ("/", lambda text: {"inputs": text}),
        ("/v2/embed", lambda text: {"images": [text]}),
        ("/vectors", lambda text: {"image": text}),
        ("/vectorize", lambda text: {"images": [text]}),
        (
            "/v2/models/fake/infer",
            lambda text: {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": [text]}]},
        ),
    ],
    ids=["openai", "tei", "tei root", "cohere", "weaviate", "weaviate clip", "open inference"],
)
async def test_urls_and_data_of_other_types_are_refused_in_every_dialect(served, path, body, text, code):
    response = await served.client.post(path, json=body(text))
    assert response.status_code in {400, 415}
    answer = response.json()
    assert (answer["error"] if path == OPENAI else answer)["code"] == code
    assert served.engine.batches == []


@pytest.mark.parametrize("path", ["/embed", "/", "/v2/embed", "/vectors", "/vectorize", "/v2/models/fake/infer"])
async def test_every_dialect_refuses_an_option_in_the_query_and_a_pin_of_another_space(served, path):
    option = await served.client.post(path, json={}, params={"normalise": "true"})
    assert (option.status_code, option.json()["code"]) == (400, "invalid_request")
    pinned = await served.client.post(path, json={}, headers={"X-Embedding-Space": OTHER})
    assert (pinned.status_code, pinned.json()["code"]) == (409, "embedding_space_mismatch")


@pytest.mark.parametrize("path", ["/embed", "/v2/embed", "/vectors", "/vectorize", "/v2/models/fake/infer"])
async def test_no_dialect_lets_the_text_of_an_exception_out(served, monkeypatch, path):
    async def crash(*arguments, **named):
        raise RuntimeError("marker-4711 /srv/secret")

    monkeypatch.setattr(served.service.pipeline, "answer_each", crash)
    image = b64(shade(1))
    tensor = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [image]}
    body = {"images": [image], "inputs": [tensor] if "infer" in path else image, "image": image}
    if path == "/v2/embed":
        del body["inputs"]
    response = await served.client.post(path, json=body)
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "4711" not in response.text
    assert "secret" not in response.text
