"""Calls against the running application: what comes back, how it was sent, what becomes of one bad image."""

import io

import httpx
import numpy as np
import pytest
from PIL import Image

from bootleg_client import (
    AnswerError,
    AuthenticationError,
    ImageRefusedError,
    InputError,
    ModelNotFoundError,
    RequestRefusedError,
    ServerError,
    SpaceMismatchError,
)
from tests.service.fake_engine import DIM, NAME, SPACE, FakeEngine, embedding_of, patch_tokens_of
from tests.service.pictures import photo, shade, shade_pixels, truncated_jpeg

from .listening import answer, envelope, listening


def expected(numbers):
    return np.stack([embedding_of(number) for number in numbers])


def test_images_of_every_kind_give_the_same_vector(connect, service, tmp_path):
    (tmp_path / "5.png").write_bytes(shade(5))
    kinds = [
        shade(5),
        bytearray(shade(5)),
        memoryview(shade(5)),
        tmp_path / "5.png",
        str(tmp_path / "5.png"),
        Image.open(io.BytesIO(shade(5))),
        shade_pixels(5),
    ]
    with connect(service[0]) as client:
        found = client.embed(kinds)
    np.testing.assert_array_equal(found.vectors, expected([5] * len(kinds)))
    assert found.vectors.dtype == np.float32
    assert (found.model, found.embedding_space, found.failures) == (NAME, SPACE, {})


def test_one_image_and_a_stack_of_pixels(connect, service):
    with connect(service[0]) as client:
        assert client.embed(shade(1)).vectors.shape == (1, DIM)
        assert client.embed(shade_pixels(1)).vectors.shape == (1, DIM)
        stack = np.stack([shade_pixels(n) for n in (3, 1, 2)])
        np.testing.assert_array_equal(client.embed(stack).vectors, expected([3, 1, 2]))


def test_many_images_come_back_in_order_and_are_sent_by_the_services_limits(connect):
    with listening(limits__max_images=7) as (url, faults), connect(url, concurrency=3) as client:
        numbers = [n * 37 % 101 for n in range(60)]
        np.testing.assert_array_equal(client.embed([shade(n) for n in numbers]).vectors, expected(numbers))
        assert len(faults.posts) == 9
        assert faults.busy <= 3
        client.embed(shade(1))
        assert sum(request["path"] == "/info" for request in faults.seen) == 1


def test_requests_stay_below_the_limit_on_bytes(connect, service):
    big = [photo(n) + bytes(9 * 2**20) for n in range(10)]  # what follows a JPEG's end is ignored
    with connect(service[0]) as client:
        assert client.embed(big).vectors.shape == (10, DIM)
    sizes = [int(request["content-length"]) for request in service[1].posts]
    assert len(sizes) == 2
    assert max(sizes) <= 64 * 2**20


def test_a_proxy_with_a_lower_limit_gets_halves(connect, service):
    url, faults = service
    faults.script = [answer(413, envelope("payload_too_large"))] * 2
    with connect(url) as client:
        np.testing.assert_array_equal(client.embed([shade(n) for n in range(8)]).vectors, expected(range(8)))
    assert len(faults.posts) == 5  # 8 and 4 refused; 2, 2 and 4


def test_dimensions_and_normalisation_reach_the_service(connect, service):
    with connect(service[0]) as client:
        short = client.embed([shade(1), shade(2)], dimensions=3).vectors
        whole = client.embed(shade(1), normalize=True).vectors
    assert short.shape == (2, 3)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(whole[0], embedding_of(1) / np.linalg.norm(embedding_of(1)), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_patches_are_grids(connect, service, dtype):
    with connect(service[0]) as client:
        found = client.patches([shade(3), shade(9)], dtype=dtype)
    assert found.tokens.dtype == dtype
    np.testing.assert_array_equal(found.tokens, np.stack([patch_tokens_of(3), patch_tokens_of(9)]))
    assert (found.model, found.embedding_space) == (NAME, SPACE)


def test_what_is_served_is_said(connect, service):
    with connect(service[0]) as client:
        info, (model,) = client.info(), client.models()
    assert (info.model_id, info.embedding_space, info.max_client_batch_size) == (NAME, SPACE, 32)
    assert (model.id, model.dimensions, model.grid.height, model.layers) == (NAME, DIM, 2, (1,))


def test_one_bad_image_of_many_is_named_by_its_place_in_the_call(connect):
    with listening(limits__max_images=4) as (url, _), connect(url) as client:
        images = [shade(n) for n in range(10)]
        images[6] = truncated_jpeg()
        with pytest.raises(ImageRefusedError, match="corrupt_image, HTTP 422, request ") as caught:
            client.embed(images)
    assert (caught.value.code, caught.value.status, caught.value.index) == ("corrupt_image", 422, 6)


def test_bad_images_can_be_recorded_while_the_others_are_answered(connect, tmp_path):
    engine = FakeEngine()
    engine.poison = {8}
    images = [shade(n) for n in range(10)]
    images[1], images[2], images[9] = b"", truncated_jpeg(), tmp_path / "none.png"
    with listening(engine, limits__max_images=4) as (url, _), connect(url) as client:
        found = client.embed(images, on_error="partial")
    failures = {index: error.code for index, error in found.failures.items()}
    assert failures == {1: "empty_image", 2: "corrupt_image", 8: "engine_error", 9: "invalid_input"}
    good = [0, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(found.vectors[good], expected(good))
    assert np.isnan(found.vectors[[1, 2, 8, 9]]).all()


@pytest.mark.parametrize("bad", [b"", b"<html>", truncated_jpeg()])
def test_one_bad_image_alone(connect, service, bad):
    with connect(service[0]) as client:
        with pytest.raises(ImageRefusedError) as caught:
            client.embed(bad)
        found = client.embed(bad, on_error="partial")
    assert caught.value.index == 0
    assert list(found.failures) == [0]
    assert found.vectors.shape == (1, 0)


def test_a_fault_of_the_engine_is_the_servers(connect):
    engine = FakeEngine()
    engine.broken = True
    with listening(engine) as (url, faults), connect(url) as client:
        with pytest.raises(ServerError) as caught:
            client.embed(shade(1))
        assert caught.value.code == "engine_error"
        assert len(faults.posts) == 1  # 500 is not repeated


def test_a_pin_is_sent_and_its_refusal_has_a_type(connect, service):
    url, faults = service
    with connect(url, embedding_space=SPACE) as client:
        client.embed(shade(1))
    assert faults.posts[-1]["x-embedding-space"] == SPACE
    with connect(url, embedding_space="es1-other") as client, pytest.raises(SpaceMismatchError) as caught:
        client.embed(shade(1))
    assert caught.value.status == 409
    assert SPACE in caught.value.message


def test_one_call_is_never_joined_from_two_spaces(connect):
    body = io.BytesIO()
    np.save(body, np.zeros((4, DIM), np.float32))
    with listening(limits__max_images=4) as (url, faults), connect(url) as client:
        faults.script = [answer(200, body.getvalue(), x_embedding_space="es1-new")]
        with pytest.raises(AnswerError, match=f"{SPACE}, es1-new"):
            client.embed([shade(n) for n in range(8)])


def test_a_key_is_sent_and_a_wrong_one_is_said_and_not_repeated(connect, service):
    url, faults = service
    faults.key = "right"
    with connect(url, api_key="right") as client:
        assert client.embed(shade(1)).vectors.shape == (1, DIM)
    for key in ("wrong", None):
        faults.seen.clear()
        with connect(url, api_key=key) as client, pytest.raises(AuthenticationError) as caught:
            client.embed(shade(1))
        assert (caught.value.status, len(faults.seen)) == (401, 1)
        assert "right" not in str(caught.value)


@pytest.mark.parametrize(("given", "sent"), [({}, None), ({"priority": "bulk"}, "bulk")])
def test_bulk_requests_say_so_and_others_say_nothing(connect, service, given, sent):
    url, faults = service
    with connect(url, **given) as client:
        client.embed(shade(1))
    assert {request.get("x-priority") for request in faults.posts} == {sent}


def test_a_proxy_that_hides_info_leaves_the_defaults(connect, service):
    url, faults = service
    faults.hidden = {"/info"}
    with connect(url) as client:
        found = client.embed([shade(n) for n in range(40)])
    assert found.model is None
    np.testing.assert_array_equal(found.vectors, expected(range(40)))
    assert len(faults.posts) == 2


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"not an array", {"x_embedding_space": SPACE}),
        (b"\x93NUMPY\1\0\x10\0{'descr': 'O'}   \n", {"x_embedding_space": SPACE}),
        (None, {}),
    ],
)
def test_an_answer_that_is_none_is_an_error_of_its_own(connect, service, body, headers):
    if body is None:
        buffer = io.BytesIO()
        np.save(buffer, np.zeros((1, DIM), np.float32))
        body = buffer.getvalue()
    url, faults = service
    faults.script = [answer(200, body, **headers)]
    with connect(url) as client, pytest.raises(AnswerError):
        client.embed(shade(1))


def test_a_number_of_rows_other_than_asked_for_is_refused(connect, service):
    url, faults = service
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, DIM), np.float32))
    faults.script = [answer(200, buffer.getvalue(), x_embedding_space=SPACE)]
    with connect(url) as client, pytest.raises(AnswerError, match="2 rows"):
        client.embed([shade(1), shade(2)])


def test_an_image_above_the_published_limit_is_not_sent(connect):
    with listening(limits__image__max_bytes=1000) as (url, faults), connect(url) as client:
        with pytest.raises(InputError, match=r"images\[1\]: .* the service takes 1,000 bytes"):
            client.embed([shade(1), photo()])
        assert not faults.posts


def test_no_images_are_refused(connect, service):
    with connect(service[0]) as client, pytest.raises(InputError, match="none were given"):
        client.embed([])


def test_an_option_the_service_refuses_keeps_its_words(connect, service):
    with connect(service[0]) as client, pytest.raises(RequestRefusedError, match="dimensions: 99 asked for") as caught:
        client.embed(shade(1), dimensions=99)
    assert (caught.value.code, caught.value.param, caught.value.index) == ("invalid_request", "dimensions", None)


def test_a_hidden_layer_has_a_space_of_its_own(connect, service):
    with connect(service[0], embedding_space=SPACE) as client:
        vectors = client.embed(shade(3), layer=1)
        grids = client.patches(shade(3), layer=1)
        with pytest.raises(RequestRefusedError, match="layer: 9 asked for"):
            client.embed(shade(3), layer=9)
    assert {vectors.embedding_space, grids.embedding_space} == {f"{SPACE}+layer1"}
    assert {request["query"] for request in service[1].posts} == {"layer=1", "dtype=float16&layer=1", "layer=9"}
    np.testing.assert_array_equal(vectors.vectors[0], embedding_of(3))


def test_masks_are_label_maps_as_the_service_answers_them(connect, service):
    with connect(service[0]) as client:
        found = client.segment([shade(3), photo()], method="kmeans", clusters=2)
        whole = client.segment(photo(), size="grid")
    assert (found.labels.dtype, found.labels.ndim, found.model, found.embedding_space) == (np.uint8, 3, NAME, SPACE)
    for labels, image in zip(found.labels, [shade(3), photo()], strict=True):
        query = "?method=kmeans&clusters=2&size=input"
        reply = httpx.post(
            f"{service[0]}/v1/images/segment{query}", content=image, headers={"Accept": "application/x-npy"}
        )
        np.testing.assert_array_equal(labels, np.load(io.BytesIO(reply.content))[0])
    assert whole.labels.shape == (1, 2, 2)
    assert [request["query"] for request in service[1].posts[:1]] == ["size=input&method=kmeans&clusters=2"]


def test_a_mask_of_a_bad_image_is_unseen_everywhere(connect, service):
    with connect(service[0]) as client:
        found = client.segment([shade(1), truncated_jpeg(), shade(2)], on_error="partial")
        none = client.segment(truncated_jpeg(), on_error="partial")
    assert list(found.failures) == [1]
    assert (found.labels[1] == 255).all()
    assert not (found.labels[[0, 2]] == 255).all()
    assert (none.labels.shape, none.labels.dtype) == ((1, 0, 0), np.uint8)


def test_masks_of_wider_numbers_are_no_answer(connect, service):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, 2, 2), np.uint16))
    service[1].script = [answer(200, buffer.getvalue(), x_embedding_space=SPACE)]
    with connect(service[0]) as client, pytest.raises(AnswerError, match=r"uint16 \(1, 2, 2\) where 1 rows"):
        client.segment(shade(1))


def test_an_option_of_masks_the_service_refuses_keeps_its_words(connect, service):
    with connect(service[0]) as client, pytest.raises(RequestRefusedError, match="head: no such head"):
        client.segment(shade(1), head="roads")


def test_a_model_is_asked_for_by_name(connect, service):
    with connect(service[0], model=NAME) as client:
        assert client.embed(shade(1)).model == NAME
        assert client.patches(shade(1)).model == NAME
        assert client.segment(shade(1)).model == NAME
    assert {"model=" + NAME in request["query"].split("&") for request in service[1].posts} == {True}
    with connect(service[0], model="other") as client, pytest.raises(ModelNotFoundError) as caught:
        client.embed(shade(1))
    assert caught.value.status == 404
