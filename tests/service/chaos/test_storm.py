"""After the storm: every request accounted for once, every answer right, nothing left behind."""

import asyncio

import pytest

from .storm import storm

REQUESTS = 1200
GROWTH_MIB = 48
"""Of resident memory, from a fifth of the requests on. The caches hold a quarter MiB; a body has 0.1 MiB at most."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return asyncio.run(storm(tmp_path_factory.mktemp("storm"), REQUESTS))


def test_every_answer_is_right_or_a_right_refusal(report):
    assert report.faults == []
    assert report.seen["ok"] > REQUESTS / 10


def test_the_storm_was_one(report):
    assert min(report.deeds[deed] for deed in ("frozen", "killed", "flushed")) >= 1
    assert report.unseen > 0
    assert {"ok", "engine_error", "corrupt_image", "payload_too_large", "receive_timeout", "unauthorized"} <= set(
        report.seen
    )


def test_every_request_is_counted_by_exactly_one_outcome(report):
    assert report.seen.total() + report.unseen == report.sent == REQUESTS
    assert report.counted.total() == report.sent
    assert report.seen <= report.counted, "an outcome that a client read was not counted"
    assert report.counted["internal_error"] == 0


def test_nothing_is_left_waiting(report):
    assert report.after == report.idle
    waiting = {"bootleg_queue_items", "bootleg_decoding", "flights"}
    assert [value for name, value in report.idle.items() if name.partition(" ")[0] in waiting] == [0, 0, 0]


def test_memory_stays_within_a_bound(report):
    assert report.memory_end - report.memory_warm < GROWTH_MIB


def test_the_server_ends_well_and_no_task_was_forgotten(report):
    assert report.exit_code == 0
    for complaint in ("never retrieved", "never awaited", "was destroyed but it is pending", "internal error"):
        assert complaint not in report.log
