"""A guard that is broken turns the suite red: each is taken out, and the test that watches it must fail.

A test can pass because it never reaches what it is about. Here the guards that matter most (who may ask, how much,
which key an answer is kept under, what an answer must be) are replaced by ones that let everything pass.
"""

import hashlib
import inspect

import pytest

from bootleg_bundle import images
from bootleg_service import bodies, edge, json_bodies, pipeline
from bootleg_service.access.keys import Key, KeyRing
from bootleg_service.access.quotas import Quotas
from bootleg_service.batching import batcher
from bootleg_service.cache import Breaker
from bootleg_service.cache_value import CacheKey, cache_key, unpack
from bootleg_service.state import Service
from tests.bundle import test_images_limits

from . import test_bodies, test_cache, test_cache_value, test_edge, test_pipeline, test_routes
from .access import test_bearer, test_keys, test_quotas
from .batching import test_batcher
from .fake_engine import FakeEngine
from .serving import EMBEDDINGS, serving

pytestmark = pytest.mark.anyio

RED = (AssertionError, pytest.fail.Exception)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


async def on_a_service(test, *arguments, **changed):
    async with serving(FakeEngine(), **changed) as served:
        await test(served, *arguments)


async def with_a_wrong_key(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"name {hashlib.sha256(test_bearer.KEY.encode()).hexdigest()}\n")
    watch = test_bearer.test_without_a_right_key_no_route_answers_but_the_open_ones
    await on_a_service(watch, "post", EMBEDDINGS, "bv-wrong", access__keys_file=keys)


async def everything(request, max_bytes, seconds):
    return await request.body()


def whoever_asks(key, data):
    place = 7 + 4 * data[6]
    return unpack(CacheKey(key.text, data[place : place + 32]), data)


def telling(error, request):
    return edge._envelope(request, 500, "internal_error", f"an error: {test_edge.MARKER}")


async def crashing():
    async def crash(images, output, ticket):
        raise RuntimeError(test_edge.MARKER)

    async with serving(FakeEngine()) as served:
        served.service.pipeline.answer_each = crash
        await test_edge.test_an_unforeseen_exception_is_500_without_its_text(served)


GUARDS = {
    "the key is asked": (
        (KeyRing, "find", lambda ring, token: Key("anybody", "0" * 64)),
        with_a_wrong_key,
    ),
    "keys are told apart": (
        (KeyRing, "find", lambda ring, token: ring._keys[0]),
        test_keys.test_every_key_opens_as_itself_and_nothing_else_does,
    ),
    "the quota": (
        (Quotas, "charge", lambda quotas, key, images: None),
        lambda: test_quotas.test_a_quota_is_spent_refused_with_when_to_come_back_and_fills_up_again(Clock()),
    ),
    "bytes of a body": (
        (bodies, "read_body", everything),
        lambda: test_bodies.test_the_limit_counts_what_arrives_whatever_is_declared_and_the_rest_is_not_read(
            FakeEngine(), {"Content-Length": "10"}
        ),
    ),
    "size by the header": (
        (images, "_check_header", lambda image, limits: None),
        lambda: test_images_limits.test_pixels_are_limited_inclusively(test_images_limits.images.png),
    ),
    "elements of JSON": (
        (json_bodies, "MAX_JSON_MARKS", 10**9),
        lambda: on_a_service(test_bodies.test_json_of_very_many_elements_is_refused_before_each_is_looked_at),
    ),
    "the image is in its key": (
        (pipeline, "cache_key", lambda *parts: cache_key(*parts[:-1], b"")),
        lambda: on_a_service(test_pipeline.test_answers_come_in_the_order_of_the_images),
    ),
    "the output is in its key": (
        (pipeline, "cache_key", lambda *parts: cache_key(*parts[:-2], "embedding", parts[-1])),
        lambda: on_a_service(test_pipeline.test_two_outputs_of_one_image_are_never_mistaken_for_each_other),
    ),
    "all that decides is in the key": (
        (test_cache_value, "cache_key", lambda space, bundle, *rest: cache_key(space, "a" * 64, *rest)),
        test_cache_value.test_every_part_that_decides_the_answer_changes_the_key,
    ),
    "a value says whose it is": (
        (test_cache_value, "unpack", whoever_asks),
        test_cache_value.test_a_value_of_another_key_is_a_miss,
    ),
    "a value's checksum": (
        (test_cache_value, "unpack", lambda key, data: unpack(key, test_cache_value.sealed(data[:-4]))),
        lambda: test_cache_value.test_a_flipped_bit_is_a_miss(60),
    ),
    "the breaker counts failures": (
        (Breaker, "failed", lambda breaker: None),
        lambda: test_cache.test_a_breaker_opens_after_as_many_failures_in_a_row(Breaker(3, 5, Clock())),
    ),
    "answers are finite": (
        (batcher, "_finite", lambda rows: [True] * len(rows)),
        lambda: test_batcher.test_a_row_that_is_not_finite_is_an_error_of_its_image_alone(FakeEngine()),
    ),
    "the pinned space": (
        (Service, "check_pinned_space", lambda service, request, space=None: None),
        lambda: on_a_service(
            test_routes.test_a_pinned_space_that_is_not_served_is_409_and_names_the_one_that_is, EMBEDDINGS
        ),
    ),
    "no text of an exception": (
        (edge, "_last_answer", telling),
        crashing,
    ),
}


async def watched(watch, tmp_path):
    """Run the test that watches a guard; it may need a folder."""
    result = watch(tmp_path) if inspect.signature(watch).parameters else watch()
    if inspect.isawaitable(result):
        await result


@pytest.mark.parametrize("guard", GUARDS)
async def test_the_test_of_a_guard_passes_with_it_and_fails_without_it(monkeypatch, tmp_path, guard):
    (place, name, broken), watch = GUARDS[guard]
    await watched(watch, tmp_path)
    monkeypatch.setattr(place, name, broken)
    with pytest.raises(RED):
        await watched(watch, tmp_path)
