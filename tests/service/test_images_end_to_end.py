"""Every odd and hostile image through the whole service, on a real graph: a finite vector or a right refusal."""

import httpx
import numpy as np
import pytest

from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import apply
from bootleg_service.app import create_app
from tests import bundles, images

from .serving import EMBEDDINGS, error_of, settings

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::UserWarning")]

REFUSALS = {400, 413, 415, 422}


@pytest.fixture(scope="module")
async def client(tiny_bundle):
    """Of a service on the tiny bundle's graph."""
    app = create_app(tiny_bundle, settings(engine__device="cpu", engine__threads=1, cache__memory_bytes=0))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    async with app.router.lifespan_context(app), client:
        yield client


def vector_of(bundle, data):
    return bundles.reference(apply(bundle.manifest.preprocess, decode(data))[None])["embedding"][0]


async def embedded(client, data):
    response = await client.post(EMBEDDINGS, content=data)
    assert response.status_code == 200, response.text
    return np.array(response.json()["data"][0]["embedding"], np.float32)


@pytest.mark.parametrize("name", images.ACCEPTED)
async def test_an_odd_image_is_answered_with_the_vector_of_its_pixels(client, tiny_bundle, name):
    data = images.ACCEPTED[name]()
    vector = await embedded(client, data)
    assert np.isfinite(vector).all()
    np.testing.assert_allclose(vector, vector_of(tiny_bundle, data), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", images.REFUSED)
async def test_a_hostile_image_is_refused_and_the_next_one_is_answered(client, name):
    response = await client.post(EMBEDDINGS, content=images.REFUSED[name]())
    assert response.status_code in REFUSALS
    error_of(response)
    await embedded(client, images.png())


@pytest.mark.parametrize("write", [images.jpeg, images.png, images.webp])
async def test_a_file_cut_at_any_hundredth_is_refused(client, write):
    data = write(images.scene(60, 80))
    for percent in range(100):
        response = await client.post(EMBEDDINGS, content=data[: len(data) * percent // 100])
        assert response.status_code in REFUSALS, percent


@pytest.mark.parametrize("broken", images.BROKEN_EXIF)
async def test_malformed_metadata_changes_no_vector(client, broken):
    clean = await embedded(client, images.jpeg())
    np.testing.assert_array_equal(
        await embedded(client, images.with_exif_bytes("JPEG", images.BROKEN_EXIF[broken])), clean
    )


UPRIGHT = images.scene(24, 32)
STORED = {  # how a camera that was turned would have stored the upright picture
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.swapaxes(0, 1),
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", STORED)
async def test_a_picture_has_one_vector_however_the_camera_was_turned(client, orientation):
    turned = np.ascontiguousarray(STORED[orientation])
    vector = await embedded(client, images.png(turned, orientation=orientation))
    np.testing.assert_array_equal(vector, await embedded(client, images.png(UPRIGHT)))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
async def test_an_orientation_that_is_none_means_upright(client, orientation):
    np.testing.assert_array_equal(
        await embedded(client, images.png(orientation=orientation)), await embedded(client, images.png())
    )


async def test_two_images_of_one_size_and_one_length_have_their_own_vectors(client, tiny_bundle):
    one, other = (images.raw_png(64, 64, 8, images.GREY, [bytes([shade]) * 64] * 64) for shade in (10, 200))
    assert len(one) == len(other)
    vectors = [await embedded(client, data) for data in (one, other)]
    assert not np.allclose(*vectors)
    for data, vector in zip((one, other), vectors, strict=True):
        np.testing.assert_allclose(vector, vector_of(tiny_bundle, data), rtol=1e-4, atol=1e-5)
