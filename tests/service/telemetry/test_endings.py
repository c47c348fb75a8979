"""Every request and every image has exactly one outcome, and one line; nothing is left standing."""

import asyncio
import hashlib
import logging

import pytest

from bootleg_service.errors import STATUS
from bootleg_service.metrics import Metrics
from bootleg_service.stages import Record
from bootleg_service.telemetry.endings import Endings, dialect_name
from tests.service.pictures import shade, truncated_jpeg
from tests.service.serving import EMBEDDINGS, OPENAI, PATCHES, eventually, sample, serving

pytestmark = pytest.mark.anyio

GAUGES = ("in_flight_requests", "decoding", "masking", "queue_items", "queue_bytes")
KEY = "bv-right"


def by(served, name, label):
    """A counter's values by one label."""
    found = {}
    for family in served.service.metrics.registry.collect():
        for each in family.samples:
            if each.name == name and each.value:
                found[each.labels[label]] = found.get(each.labels[label], 0) + each.value
    return found


def standing(served):
    return {name: served.sample(f"bootleg_{name}") for name in GAUGES if served.sample(f"bootleg_{name}")}


def lines(caplog):
    return [record.fields for record in caplog.records if record.name == "bootleg.request"]


async def leave(served, task, when):
    await eventually(when)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_after_good_bad_and_abandoned_requests_the_outcomes_add_up_and_nothing_stands(engine, caplog):
    """Chaos in small: several hundred requests of every kind at the same time, against a model that fails on some."""
    caplog.set_level(logging.DEBUG, "bootleg.request")
    engine.poison = {n for n in range(40) if n % 7 == 3}
    many = [("images", ("x.png", shade(n), "image/png")) for n in (100, 101, 100)]
    async with serving(engine, limits__max_images=4, decode__max_waiting=24, batch__max_queue_items=16) as served:
        post, get = served.client.post, served.client.get
        kinds = [
            lambda n: served.embed(shade(n % 40)),
            lambda n: served.embed(truncated_jpeg()),
            lambda n: served.embed(b""),
            lambda n: post(PATCHES, content=shade(n % 40)),
            lambda n: post(EMBEDDINGS, files=many),
            lambda n: post(OPENAI, json={"input": "http://x/y.jpg"}),
            lambda n: post(EMBEDDINGS, content=shade(n), headers={"X-Embedding-Space": "es1-other"}),
            lambda n: get("/nowhere"),
            lambda n: get("/health/live"),
            lambda n: post("/v1/images/segment", content=shade(n % 40)),
        ]
        asked = [asyncio.create_task(kinds[n % len(kinds)](n)) for n in range(300)]
        for n, task in enumerate(asked):
            if n % 11 == 0:
                asyncio.get_running_loop().call_later(0.002 * (n % 5), task.cancel)
        ends = await asyncio.gather(*asked, return_exceptions=True)
        begun = [end for end in ends if not isinstance(end, BaseException)]
        await eventually(lambda: not standing(served))
        outcomes = by(served, "bootleg_requests_total", "outcome")
        plain = await served.embed(shade(1))
        images = served.sample("bootleg_images_total")
    assert plain.status_code == 200
    assert set(outcomes) <= {"ok", "client_closed", *STATUS}
    never_begun = len(ends) - sum(outcomes.values())  # cancelled before their first step
    assert 0 <= never_begun <= len(ends) - len(begun)
    assert len(lines(caplog)) == sum(outcomes.values()) + 1
    assert len({line["request_id"] for line in lines(caplog)}) == len(lines(caplog))
    for outcome, count in outcomes.items():
        told = [line for line in lines(caplog)[:-1] if line["outcome"] == outcome]
        assert len(told) == count
    assert images == sum(line["images"] for line in lines(caplog))
    assert standing(served) == {}


async def test_an_answer_of_each_kind_is_counted_with_its_status_dialect_and_outcome(served):
    await served.embed(shade(1))
    await served.client.post("/embed", json={"inputs": 7})
    await served.client.get("/v2/health/live")
    await served.client.get("/invented/by/anybody")
    for labels in (
        {"route": EMBEDDINGS, "dialect": "native", "status": "200", "outcome": "ok"},
        {"route": "/embed", "dialect": "tei", "status": "400", "outcome": "invalid_request"},
        {"route": "/v2/health/live", "dialect": "open_inference", "status": "200", "outcome": "ok"},
        {"route": "unknown", "dialect": "unknown", "status": "404", "outcome": "not_found"},
    ):
        assert served.sample("bootleg_requests_total", **labels) == 1, labels
    assert served.sample("bootleg_requests_total") == 4


@pytest.mark.parametrize(
    ("route", "dialect"),
    [
        ("/v1/embeddings", "openai"),
        ("/v1/models/{model}", "openai"),
        ("/v1/images/patches", "native"),
        ("/metrics", "native"),
        ("/v2/embed", "cohere"),
        ("/vectors", "weaviate"),
        ("unknown", "unknown"),
    ],
)
def test_routes_have_the_name_of_their_dialect(route, dialect):
    assert dialect_name(route) == dialect


async def test_each_stage_that_a_request_went_through_is_timed_once(served):
    image = shade(1)
    await served.embed(image)
    for stage in ("read", "wait", "decode", "preprocess", "queue", "infer", "encode"):
        assert served.sample("bootleg_stage_seconds_count", stage=stage) == 1, stage
    assert served.sample("bootleg_stage_seconds_count", stage="mask") == 0
    assert served.sample("bootleg_payload_bytes_sum", direction="in") == len(image)
    assert served.sample("bootleg_request_seconds_count", route=EMBEDDINGS) == 1


async def test_the_body_of_an_answer_is_counted_as_sent(served):
    answer = await served.embed(shade(1))
    assert served.sample("bootleg_payload_bytes_sum", direction="out") == len(answer.content)


async def test_images_have_one_outcome_each_beside_their_requests(served):
    files = [("images", ("x", data, "image/png")) for data in (shade(1), b"", shade(2))]
    await served.embed(shade(1))
    await served.client.post(EMBEDDINGS, files=files, params={"on_error": "partial"})
    await served.client.post(PATCHES, content=shade(1))
    served.engine.poison = {9}
    await served.embed(shade(9))
    assert by(served, "bootleg_images_total", "outcome") == {
        "computed": 3,
        "cached": 1,
        "empty_image": 1,
        "engine_error": 1,
    }
    assert by(served, "bootleg_images_total", "task") == {"embedding": 5, "patches": 1}


async def test_an_image_whose_client_left_or_whose_time_was_up_has_an_outcome(engine):
    async with serving(engine, limits__request_seconds=0.2) as served:
        engine.hold()
        task = asyncio.create_task(served.embed(shade(1)))
        await leave(served, task, lambda: engine.running == 1)
        assert (await served.embed(shade(2))).status_code == 504
        assert by(served, "bootleg_images_total", "outcome") == {"client_closed": 1, "deadline_exceeded": 1}
        engine.release()


async def test_a_request_in_flight_is_seen_and_one_that_has_ended_is_not(served):
    served.engine.hold()
    task = asyncio.create_task(served.embed(shade(1)))
    await eventually(lambda: served.engine.running == 1)
    assert served.sample("bootleg_in_flight_requests") == 1
    served.engine.release()
    await task
    assert served.sample("bootleg_in_flight_requests") == 0


async def test_what_was_refused_for_the_load_says_what_was_full(engine):
    async with serving(engine, decode__max_waiting=1) as served:
        files = [("images", ("x", shade(n), "image/png")) for n in range(8)]
        assert (await served.client.post(EMBEDDINGS, files=files)).status_code in {429, 503}
        assert served.sample("bootleg_rejected_total", reason="decode") > 0
        refused = by(served, "bootleg_images_total", "outcome")["overloaded"]
        assert refused == served.sample("bootleg_rejected_total")


async def test_the_scheduler_tells_what_waits_and_what_it_expects(served):
    served.engine.hold()
    tasks = [asyncio.create_task(served.embed(shade(n))) for n in range(12)]
    await eventually(lambda: served.sample("bootleg_queue_items") >= 3)
    assert served.sample("bootleg_queue_bytes") == served.sample("bootleg_queue_items") * 32 * 32 * 3
    served.engine.release()
    await asyncio.gather(*tasks)
    assert served.sample("bootleg_batch_size_sum", model="fake") == 12
    fitted = ("bootleg_latency_per_image_seconds", "bootleg_latency_fixed_seconds")
    assert sum(served.sample(name, model="fake") for name in fitted) > 0  # on a busy machine either may be all of it
    assert served.sample("bootleg_engine_busy_seconds_total", model="fake") > 0
    assert served.sample("bootleg_batch_wait_seconds_count") == served.sample("bootleg_batch_size_count")


async def test_readiness_and_the_cache_are_in_the_metrics(served):
    await served.embed(shade(1))
    await eventually(lambda: served.sample("bootleg_cache_entries") == 1)
    assert served.sample("bootleg_cache_bytes") == 8 * 4
    assert served.sample("bootleg_ready") == 1
    served.app.state.models.drain()
    assert served.sample("bootleg_ready") == 0
    assert 'version="' in (await served.client.get("/metrics")).text


async def test_a_request_is_one_line_with_its_numbers_and_the_name_of_its_key_but_not_the_key(engine, tmp_path, caplog):
    caplog.set_level(logging.INFO, "bootleg")
    path = tmp_path / "keys"
    path.write_text(f"search {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    async with serving(engine, access__keys_file=path) as served:
        headers = {"Authorization": f"Bearer {KEY}", "X-Request-ID": "mine"}
        answer = await served.embed(shade(1), headers=headers)
        await served.embed(shade(1), headers=headers)
        await served.embed(shade(1), headers={"Authorization": "Bearer bv-wrong"})
    first, again, refused = lines(caplog)
    took = first.pop("ms")
    assert took > 0
    assert first == {
        "request_id": "mine",
        "method": "POST",
        "route": EMBEDDINGS,
        "status": 200,
        "outcome": "ok",
        "images": 1,
        "bytes_in": len(shade(1)),
        "bytes_out": len(answer.content),
        "cache": "miss",
        "client": "search",
    }
    assert again["cache"] == "hit"
    assert (refused["status"], refused["outcome"], refused["images"]) == (401, "unauthorized", 0)
    assert "client" not in refused
    assert "cache" not in refused
    assert KEY not in caplog.text
    assert "bv-wrong" not in caplog.text


async def test_probes_are_quiet_and_faults_of_ours_are_loud(served, caplog):
    caplog.set_level(logging.DEBUG, "bootleg.request")
    await served.client.get("/health/live")
    await served.client.get("/metrics")
    await served.client.get("/")  # a file
    await served.embed(shade(1))
    served.app.state.models.drain()
    await served.client.get("/health/ready")
    served.engine.broken = True
    await served.embed(shade(2))
    levels = [record.levelname for record in caplog.records if record.name == "bootleg.request"]
    assert levels == ["DEBUG", "DEBUG", "DEBUG", "INFO", "DEBUG", "WARNING"]


def test_a_method_that_nobody_knows_is_not_written_as_it_is(caplog):
    caplog.set_level(logging.INFO, "bootleg.request")
    metrics = Metrics()
    endings = Endings(metrics)
    scope = {"method": "BREW\nforged", "state": {}}
    assert endings.begin(scope) is None
    endings.end(scope, Record("id"), 405, "method_not_allowed", 0.001)
    assert lines(caplog)[0]["method"] == "_OTHER"
    assert sample(metrics, "bootleg_in_flight_requests") == 0
