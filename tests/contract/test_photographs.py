"""Real photographs through the shipped bundle: what a first user tries."""

from __future__ import annotations

import asyncio
import io

import httpx
import numpy as np
import pytest
from PIL import Image

from bootleg_bundle import default_bundle_path, open_bundle
from bootleg_service.app import create_app
from bootleg_service.settings import CacheSettings, Settings
from tests.images import headless_png
from tests.realdata import photographs

ROUTE = "/v1/images/embeddings"
RAW = {"accept": "application/octet-stream"}


def served(scenario):
    """Run ``scenario(client)`` against the shipped bundle, without a cache to help."""

    async def run():
        app = create_app(open_bundle(default_bundle_path()), Settings(cache=CacheSettings(memory_bytes=0)))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=60) as client:
                return await scenario(client)

    return asyncio.run(run())


def vector(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, "<f4")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_ten_photographs_give_ten_embeddings():
    photos = photographs(10)

    async def scenario(client):
        return [vector(await client.post(ROUTE, content=photo, headers=RAW)) for photo in photos]

    vectors = served(scenario)
    for i, a in enumerate(vectors):
        for b in vectors[:i]:
            assert np.abs(a - b).max() > 1e-2


def test_a_photograph_re_encoded_as_png_keeps_its_embedding():
    photos = photographs(10)

    async def scenario(client):
        pairs = []
        for photo in photos:
            buffer = io.BytesIO()
            Image.open(io.BytesIO(photo)).convert("RGB").save(buffer, "PNG")
            pairs.append(
                [vector(await client.post(ROUTE, content=data, headers=RAW)) for data in (photo, buffer.getvalue())]
            )
        return pairs

    for original, again in served(scenario):
        assert cosine(original, again) > 0.999


@pytest.mark.parametrize(
    ("make", "status", "code", "says"),
    [
        (lambda photo: photo[: len(photo) // 2], 422, "corrupt_image", "truncated"),
        (lambda _: headless_png(10_000, 10_000), 413, "image_too_large", "50,000,000"),
        (lambda _: b"this is no image\n", 415, "unsupported_image_format", "JPEG, PNG, WEBP"),
        (lambda _: b"", 400, "empty_image", "0 bytes"),
    ],
    ids=["truncated JPEG", "100-megapixel PNG", "text", "empty"],
)
def test_a_bad_body_is_refused_with_a_code_and_the_next_request_works(make, status, code, says):
    (photo,) = photographs(1)

    async def scenario(client):
        bad = await client.post(ROUTE, content=make(photo))
        good = await client.post(ROUTE, content=photo)
        return bad, good

    bad, good = served(scenario)
    assert (bad.status_code, bad.json()["error"]["code"]) == (status, code)
    assert says in bad.json()["error"]["message"]
    assert good.status_code == 200


def test_sixty_four_clients_share_batches_and_get_their_solo_answers():
    photos = photographs(64)

    async def scenario(client):
        together = await asyncio.gather(*(client.post(ROUTE, content=photo, headers=RAW) for photo in photos))
        alone = [await client.post(ROUTE, content=photo, headers=RAW) for photo in photos]
        return together, alone, (await client.get("/metrics")).text

    together, alone, metrics = served(scenario)
    for a, b in zip(together, alone, strict=True):
        assert cosine(vector(a), vector(b)) > 0.99999
        np.testing.assert_allclose(vector(a), vector(b), rtol=1e-3, atol=1e-4)
    single = float(next(line for line in metrics.splitlines() if 'batch_size_bucket{le="1.0",' in line).split()[-1])
    total = float(
        next(line for line in metrics.splitlines() if line.startswith("bootleg_batch_size_count")).split()[-1]
    )
    assert total - single > 0, "no batch was larger than 1"
