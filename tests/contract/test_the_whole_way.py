"""A checkpoint's encoder, exported, bundled and served, answers over HTTP what PyTorch computes.

The reference is made here from the model, the decoder and the preprocessing alone: nothing of export or
service takes part in it.
"""

import base64
import io
import json

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import apply
from bootleg_service.app import create_app
from bootleg_service.settings import EngineSettings, Settings
from bootleg_training.checkpoint import load_encoder

pytestmark = pytest.mark.anyio

FP32, FP16 = 1e-4, 2e-3


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


def photograph(seed, width, height, kind, **options):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    file = io.BytesIO()
    coarse.save(file, kind, **options)
    return file.getvalue()


def turned(seed):
    exif = Image.Exif()
    exif[0x0112] = 6
    return photograph(seed, 70, 40, "JPEG", exif=exif)


@pytest.fixture(scope="module")
def images():
    return [
        photograph(0, 64, 48, "JPEG"),
        photograph(1, 31, 90, "PNG"),
        photograph(2, 32, 32, "WEBP", lossless=True),
        turned(3),
        photograph(4, 200, 150, "JPEG", quality=60),
    ]


@pytest.fixture(scope="module")
def expected(tiny_checkpoint, images):
    """Patch tokens ``[n, 8, 8, 32]`` by PyTorch."""
    encoder, config = load_encoder(tiny_checkpoint)
    spec = config.preprocess
    pixels = np.stack([apply(spec, decode(image)) for image in images]).astype(np.float64)
    normalised = (pixels / 255 - np.array(spec.mean)) / np.array(spec.std)
    with torch.no_grad():
        tokens = encoder(torch.from_numpy(normalised.astype(np.float32))).patches
    return tokens.unflatten(1, (8, 8)).numpy()


@pytest.fixture
async def client(exported_bundle):
    app = create_app(open_bundle(exported_bundle), Settings(engine=EngineSettings(device="cpu", threads=1)))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None) as client:
            yield client


def same(actual, expected, relative):
    assert actual.shape == expected.shape
    for one, other in zip(actual.astype(np.float64), expected, strict=True):
        assert np.linalg.norm(one - other) <= relative * np.linalg.norm(other)


def files(images):
    return [("images", (f"{i}", image)) for i, image in enumerate(images)]


def json_floats(response):
    return np.array([row["embedding"] for row in response.json()["data"]])


def json_base64(response):
    return np.stack([np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in response.json()["data"]])


def npy(response):
    return np.load(io.BytesIO(response.content), allow_pickle=False)


def raw(response):
    shape = [int(side) for side in response.headers["x-shape"].split(",")]
    return np.frombuffer(response.content, np.dtype(response.headers["x-dtype"]).newbyteorder("<")).reshape(shape)


WIRES = [
    ({}, {}, json_floats),
    ({"encoding_format": "base64"}, {}, json_base64),
    ({}, {"Accept": "application/x-npy"}, npy),
    ({}, {"Accept": "application/octet-stream"}, raw),
]


def test_the_images_have_different_embeddings_so_that_a_mix_up_would_show(expected):
    vectors = expected.mean((1, 2))
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1) / np.linalg.norm(vectors[0])
    assert apart[~np.eye(len(vectors), dtype=bool)].min() > 100 * FP32


@pytest.mark.parametrize(("params", "headers", "read"), WIRES, ids=["json", "base64", "npy", "raw"])
async def test_the_embeddings_of_every_wire_format_are_those_of_pytorch(
    client, images, expected, params, headers, read
):
    response = await client.post("/v1/images/embeddings", files=files(images), params=params, headers=headers)
    assert response.status_code == 200
    same(read(response), expected.mean((1, 2)), FP32)


@pytest.mark.parametrize("place", range(5))
async def test_an_image_sent_as_the_raw_body_has_the_embedding_of_pytorch(client, images, expected, place):
    response = await client.post("/v1/images/embeddings", content=images[place])
    same(json_floats(response), expected[place : place + 1].mean((1, 2)), FP32)


@pytest.mark.parametrize(("encoding", "read"), [("float", json_floats), ("base64", json_base64)])
async def test_the_openai_route_has_the_embeddings_of_pytorch(client, images, expected, encoding, read):
    texts = [base64.b64encode(image).decode() for image in images]
    texts[1] = "data:image/png;base64," + texts[1]
    response = await client.post("/v1/embeddings", json={"input": texts, "encoding_format": encoding})
    assert response.status_code == 200
    same(read(response), expected.mean((1, 2)), FP32)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("accept", "read"), [("application/x-npy", npy), ("application/octet-stream", raw)])
async def test_the_patch_tokens_are_those_of_pytorch(client, images, expected, dtype, accept, read):
    response = await client.post(
        "/v1/images/patches", files=files(images), params={"dtype": dtype}, headers={"Accept": accept}
    )
    tokens = read(response)
    assert tokens.dtype == dtype
    same(tokens, expected, FP16)


async def test_the_patch_tokens_in_json_are_those_of_pytorch(client, images, expected):
    response = await client.post("/v1/images/patches", files=files(images))
    rows = response.json()["data"]
    tokens = np.stack([np.frombuffer(base64.b64decode(row["patch_tokens"]), "<f2").reshape(8, 8, 32) for row in rows])
    same(tokens, expected, FP16)


async def test_the_answer_from_the_cache_is_the_answer_computed(client, images):
    first, second = [await client.post("/v1/images/embeddings", content=images[0]) for _ in range(2)]
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
    assert first.content == second.content


async def test_the_service_names_the_space_and_the_hash_of_the_bundle_that_was_exported(
    client, exported_bundle, images
):
    manifest = json.loads((exported_bundle / "manifest.json").read_text())
    response = await client.post("/v1/images/embeddings", content=images[0])
    assert response.headers["x-embedding-space"] == manifest["embedding_space"]
    assert response.json()["embedding_space"] == manifest["embedding_space"]
    assert (await client.get("/info")).json()["model_sha"] == open_bundle(exported_bundle).sha256
