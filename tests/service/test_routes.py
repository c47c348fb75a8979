import asyncio
import base64
import io

import numpy as np
import pytest

from .fake_engine import DIM, GRID, NAME, SPACE, embedding_of, patch_tokens_of
from .pictures import shade, truncated_jpeg
from .serving import EMBEDDINGS, OPENAI, PATCHES, error_of, eventually, serving

pytestmark = pytest.mark.anyio


def b64(number):
    return base64.b64encode(shade(number)).decode()


def vectors_of(response):
    return np.array([row["embedding"] for row in response.json()["data"]], np.float32)


def refused(response, status, code, param=None):
    assert response.status_code == status, response.text
    error = error_of(response)
    assert (error["code"], error["param"]) == (code, param)
    return error


async def test_an_image_is_answered_with_its_embedding(served):
    response = await served.embed(shade(7))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    np.testing.assert_array_equal(vectors_of(response), [embedding_of(7)])
    assert response.json()["embedding_space"] == SPACE
    assert response.json()["model"] == NAME


async def test_embeddings_come_as_npy_or_raw_when_accepted(served):
    npy = await served.embed(shade(7), headers={"Accept": "application/x-npy"})
    raw = await served.embed(shade(7), headers={"Accept": "application/octet-stream"})
    assert npy.headers["content-type"] == "application/x-npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(npy.content), allow_pickle=False), [embedding_of(7)])
    assert (raw.headers["x-shape"], raw.headers["x-dtype"]) == (f"1,{DIM}", "float32")
    np.testing.assert_array_equal(np.frombuffer(raw.content, "<f4"), embedding_of(7))


async def test_embeddings_come_in_base64_when_asked(served):
    response = await served.embed(shade(7), params={"encoding_format": "base64"})
    read = np.frombuffer(base64.b64decode(response.json()["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(read, embedding_of(7))


async def test_an_accept_that_is_not_served_is_refused(served):
    refused(await served.embed(shade(7), headers={"Accept": "text/html"}), 406, "not_acceptable", "accept")


@pytest.mark.parametrize("dimensions", [1, DIM - 1])
async def test_fewer_dimensions_are_the_first_ones_normalised(served, dimensions):
    head = embedding_of(7)[:dimensions]
    for response in (
        await served.embed(shade(7), params={"dimensions": dimensions}),
        await served.client.post(OPENAI, json={"input": b64(7), "dimensions": dimensions}),
    ):
        np.testing.assert_allclose(vectors_of(response), [head / np.linalg.norm(head)], rtol=1e-6)


async def test_all_dimensions_are_the_vector_itself(served):
    np.testing.assert_array_equal(
        vectors_of(await served.embed(shade(7), params={"dimensions": DIM})), [embedding_of(7)]
    )


@pytest.mark.parametrize("dimensions", ["0", "-1", str(DIM + 1), "many", "1.5", "1" * 30])
async def test_dimensions_out_of_bounds_are_refused(served, dimensions):
    response = await served.embed(shade(7), params={"dimensions": dimensions})
    refused(response, 400, "invalid_request", "dimensions")
    assert served.engine.batches == []


async def test_normalised_vectors_have_length_one(served):
    for response in (
        await served.embed(shade(7), params={"normalize": "true"}),
        await served.client.post(OPENAI, json={"input": b64(7), "normalize": True}),
    ):
        np.testing.assert_allclose(np.linalg.norm(vectors_of(response), axis=1), 1, rtol=1e-6)


async def test_options_change_the_answer_and_not_what_is_kept(served):
    await served.embed(shade(7), params={"dimensions": 2, "normalize": "true"})
    np.testing.assert_array_equal(vectors_of(await served.embed(shade(7))), [embedding_of(7)])
    assert served.engine.numbers == [7]


async def test_patch_tokens_come_as_a_grid_in_float16_unless_float32_is_asked(served):
    for dtype in ("float16", "float32"):
        response = await served.client.post(PATCHES, content=shade(7), params={"dtype": dtype})
        (row,) = response.json()["data"]
        assert row["dtype"] == dtype
        assert (row["grid"], row["dim"]) == ({"height": GRID[0], "width": GRID[1]}, DIM)
        read = np.frombuffer(base64.b64decode(row["patch_tokens"]), dtype).reshape(*GRID, DIM)
        np.testing.assert_array_equal(read, patch_tokens_of(7))


async def test_patch_tokens_come_as_npy_or_raw_when_accepted(served):
    npy = await served.client.post(PATCHES, content=shade(7), headers={"Accept": "application/x-npy"})
    raw = await served.client.post(PATCHES, content=shade(7), headers={"Accept": "application/octet-stream"})
    np.testing.assert_array_equal(np.load(io.BytesIO(npy.content)), [patch_tokens_of(7)])
    assert raw.headers["x-shape"] == f"1,{GRID[0]},{GRID[1]},{DIM}"
    assert raw.headers["x-dtype"] == "float16"
    np.testing.assert_array_equal(np.frombuffer(raw.content, "<f2").reshape(*GRID, DIM), patch_tokens_of(7))


@pytest.mark.parametrize(
    ("path", "params", "param"),
    [
        (PATCHES, {"dtype": "float64"}, "dtype"),
        (EMBEDDINGS, {"encoding_format": "hex"}, "encoding_format"),
        (EMBEDDINGS, {"normalize": "perhaps"}, "normalize"),
    ],
)
async def test_an_option_with_a_value_we_do_not_have_is_refused_by_name(served, path, params, param):
    refused(await served.client.post(path, content=shade(1), params=params), 400, "invalid_request", param)


async def test_openai_takes_one_image_or_several(served):
    one = await served.client.post(OPENAI, json={"input": b64(7), "model": NAME})
    several = await served.client.post(
        OPENAI, json={"input": [b64(3), "data:image/png;base64," + b64(1)], "user": "someone"}
    )
    np.testing.assert_array_equal(vectors_of(one), [embedding_of(7)])
    np.testing.assert_array_equal(vectors_of(several), [embedding_of(3), embedding_of(1)])


async def test_openai_answers_in_base64_when_asked(served):
    response = await served.client.post(OPENAI, json={"input": b64(7), "encoding_format": "base64"})
    read = np.frombuffer(base64.b64decode(response.json()["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(read, embedding_of(7))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": None}, "input"),
        ({"input": ["!!!"]}, "input[0]"),
        ({"input": [None]}, "input"),
        ({"input": b64(1), "encoding_format": "hex"}, "encoding_format"),
        ({"input": b64(1), "dimensions": 0}, "dimensions"),
        ({"input": b64(1), "dimensions": DIM + 1}, "dimensions"),
        ({"input": [b64(1)] * 33}, "input"),
    ],
    ids=["no input", "none", "number", "null", "no base64", "null inside", "encoding", "zero", "too many", "33 images"],
)
async def test_openai_refuses_a_malformed_field_by_name(served, body, param):
    refused(await served.client.post(OPENAI, json=body), 400, "invalid_request", param)
    assert served.engine.batches == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"input":' * 5000,
        b'{"dimensions": NaN, "input": "AAAA"}',
        b"null",
    ],
    ids=["empty", "open", "list", "no utf-8", "deep list", "deep object", "NaN", "null"],
)
async def test_openai_refuses_what_is_no_object_of_json(served, body):
    response = await served.client.post(OPENAI, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_request"


async def test_openai_refuses_urls(served):
    response = await served.client.post(OPENAI, json={"input": [b64(1), "https://example.org/cat.jpg"]})
    refused(response, 400, "image_url_refused", "input[1]")


@pytest.mark.parametrize(
    ("image", "status", "code"),
    [(b"text", 415, "unsupported_image_format"), (b"", 400, "empty_image"), (truncated_jpeg(), 422, "corrupt_image")],
)
async def test_openai_names_the_bad_image_by_its_place_in_the_input(served, image, status, code):
    text = base64.b64encode(image).decode()
    response = await served.client.post(OPENAI, json={"input": [b64(1), text]})
    refused(response, status, code, "input[1]")


async def test_another_model_than_the_served_one_is_404(served):
    error = refused(
        await served.client.post(OPENAI, json={"input": b64(1), "model": "clip"}), 404, "model_not_found", "model"
    )
    assert NAME in error["message"]
    assert "clip" not in error["message"]


@pytest.mark.parametrize("path", [EMBEDDINGS, PATCHES, OPENAI])
async def test_a_pinned_space_that_is_not_served_is_409_and_names_the_one_that_is(served, path):
    response = await served.client.post(path, content=shade(1), headers={"X-Embedding-Space": "es1-another"})
    error = refused(response, 409, "embedding_space_mismatch", "X-Embedding-Space")
    assert SPACE in error["message"]
    assert served.engine.batches == []


async def test_the_right_pinned_space_is_served(served):
    assert (await served.embed(shade(1), headers={"X-Embedding-Space": SPACE})).status_code == 200


async def test_the_cache_header_says_miss_hit_or_how_many(served):
    def post(*numbers):
        return served.client.post(OPENAI, json={"input": [b64(number) for number in numbers]})

    assert (await post(1)).headers["x-cache"] == "miss"
    assert (await post(1)).headers["x-cache"] == "hit"
    assert (await post(1, 2, 3)).headers["x-cache"] == "partial; hits=1/3"
    assert (await post(1, 2, 3)).headers["x-cache"] == "hit"
    assert sorted(served.engine.numbers) == [1, 2, 3]


async def test_an_answer_that_is_not_finite_is_500_and_is_not_kept(served):
    served.engine.nan = {7}
    response = await served.embed(shade(7))
    refused(response, 500, "engine_error", "images[0]")
    assert "NaN" not in response.text
    served.engine.nan = set()
    response = await served.embed(shade(7))
    assert response.headers["x-cache"] == "miss"
    np.testing.assert_array_equal(vectors_of(response), [embedding_of(7)])


async def test_one_image_that_the_model_fails_on_names_itself_and_hurts_no_other_request(served):
    served.engine.poison = {13}
    served.engine.hold()
    tasks = [asyncio.create_task(served.embed(shade(number))) for number in range(10, 18)]
    await eventually(lambda: served.engine.running == 1)
    served.engine.release()
    responses = await asyncio.gather(*tasks)
    refused(responses.pop(3), 500, "engine_error", "images[0]")
    for number, response in zip((10, 11, 12, 14, 15, 16, 17), responses, strict=True):
        np.testing.assert_array_equal(vectors_of(response), [embedding_of(number)])


async def test_sixty_four_clients_share_batches_and_each_gets_its_own_answer(served):
    served.engine.hold()
    tasks = [asyncio.create_task(served.embed(shade(number))) for number in range(64)]
    await eventually(lambda: served.sample("bootleg_queue_items") >= 48)
    served.engine.release()
    for number, response in enumerate(await asyncio.gather(*tasks)):
        np.testing.assert_array_equal(vectors_of(response), [embedding_of(number)])
    assert max(served.engine.batches) == served.service.settings.batch.max_batch
    assert sum(served.engine.batches) == 64


async def test_a_full_queue_is_503_with_retry_after_and_those_accepted_are_answered(engine):
    async with serving(engine, batch__max_batch=1, batch__max_queue_items=2) as served:
        engine.hold()
        tasks = [asyncio.create_task(served.embed(shade(number))) for number in range(8)]
        await eventually(lambda: sum(task.done() for task in tasks) >= 4)
        early = [task.result() for task in tasks if task.done()]
        engine.release()
        late = [response for response in await asyncio.gather(*tasks) if response not in early]
    for response in early:
        refused(response, 503, "overloaded", "images[0]")
        assert int(response.headers["retry-after"]) >= 1
    assert late
    assert {response.status_code for response in late} == {200}


async def test_a_request_past_its_deadline_is_504_with_retry_after(engine):
    async with serving(engine, limits__request_seconds=0.1) as served:
        engine.hold()
        response = await served.embed(shade(1))
        refused(response, 504, "deadline_exceeded")
        assert int(response.headers["retry-after"]) >= 1
        engine.release()
        async with asyncio.timeout(30):  # what the held batch took may let the next one be refused at once
            while (await served.embed(shade(2))).status_code != 200:  # noqa: ASYNC110  # an answer has no event
                await asyncio.sleep(0.01)


async def test_a_draining_service_is_503_with_retry_after(served):
    await served.service.pipeline.close()
    for path in (EMBEDDINGS, PATCHES):
        response = await served.client.post(path, content=shade(1))
        refused(response, 503, "unavailable")
        assert int(response.headers["retry-after"]) >= 1


async def test_the_chaos_of_many_kinds_leaves_a_service_that_answers(served):
    served.engine.poison = set(range(0, 200, 11))
    bodies = [shade(n) if n % 3 else (truncated_jpeg(), b"", b"text")[n % 9 // 3] for n in range(200)]
    tasks = [asyncio.create_task(served.embed(body)) for body in bodies]
    for n, task in enumerate(tasks):
        if n % 7 == 0:
            task.cancel()
        if n % 20 == 0:
            await asyncio.sleep(0)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    statuses = {end.status_code for end in ends if not isinstance(end, BaseException)}
    assert statuses == {200, 400, 415, 422, 500}
    served.engine.poison = set()
    assert (await served.embed(shade(0))).status_code == 200
    await eventually(lambda: not served.service.pipeline._flights)
    assert served.sample("bootleg_queue_items") == served.sample("bootleg_decoding") == 0


async def test_a_misspelt_option_is_refused_rather_than_ignored(served):
    response = await served.client.post(f"{EMBEDDINGS}?normalise=true", content=shade(1))
    refused(response, 400, "invalid_request", None)
    assert "normalize" in response.json()["error"]["message"]


async def test_a_form_field_that_means_nothing_here_is_refused(served):
    response = await served.client.post(EMBEDDINGS, files={"images": shade(1)}, data={"normalize": "true"})
    refused(response, 400, "invalid_request", "images")


async def test_a_forgotten_at_sign_is_explained(served):
    response = await served.client.post(EMBEDDINGS, files={"images": (None, "a.jpg")})
    refused(response, 400, "invalid_request", "images")
    assert "images=@FILE" in response.json()["error"]["message"]
