"""Repetition by a virtual clock: no test here waits."""

import datetime as dt

import pytest

from bootleg_client import CallDeadlineError, ConnectionLostError, RequestRefusedError, Retry
from bootleg_client.retry import Chance, exchange, retry_after
from bootleg_client.steps import Lost, Reply, Request, Send, Wait


class Clock:
    def __init__(self):
        self.now = 0.0
        self.drawn = []

    def uniform(self, low, high):
        self.drawn.append(high)
        return high / 2

    def chance(self):
        return Chance(lambda: self.now, self.uniform, lambda: "id-1")


def drive(outcomes, *, retry=None, expires=1000.0, attempt_seconds=30.0, cost=0.0):
    """Answer a request with scripted outcomes: its result, the steps it asked for, and the clock."""
    clock, steps, outcomes = Clock(), [], list(outcomes)
    run = exchange(
        Request("GET", "/"), retry or Retry(), clock.chance(), expires=expires, attempt_seconds=attempt_seconds
    )
    step = next(run)
    try:
        while True:
            steps.append(step)
            clock.now += step.seconds if isinstance(step, Wait) else cost
            step = run.send(outcomes.pop(0) if isinstance(step, Send) else None)
    except StopIteration as done:
        return done.value, steps, clock


OK = Reply(200, {}, b"")


def status(code, **headers):
    return Reply(code, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


def test_waits_are_drawn_from_zero_to_a_bound_that_doubles_up_to_the_longest():
    retry = Retry(attempts=7, first_seconds=1, longest_seconds=10)
    reply, steps, clock = drive([status(503)] * 6 + [OK], retry=retry)
    assert reply is OK
    assert clock.drawn == [1, 2, 4, 8, 10, 10]
    assert [step.seconds for step in steps if isinstance(step, Wait)] == [0.5, 1, 2, 4, 5, 5]


def test_retry_after_comes_before_the_drawn_wait():
    _, steps, _ = drive([status(429, retry_after="7"), OK], retry=Retry(first_seconds=1))
    assert [step.seconds for step in steps if isinstance(step, Wait)] == [7.5]


@pytest.mark.parametrize("code", [400, 401, 404, 409, 413, 415, 422, 500, 302])
def test_what_repetition_cannot_help_is_not_repeated(code):
    with pytest.raises(Exception, match=f"http_{code}"):
        drive([status(code)])


def test_a_lost_connection_is_repeated_up_to_the_number_of_attempts():
    assert drive([Lost("gone"), OK])[0] is OK
    with pytest.raises(ConnectionLostError, match="gone 3"):
        drive([Lost(f"gone {n}") for n in (1, 2, 3)], retry=Retry(attempts=3))


def test_an_attempt_never_outlives_the_deadline():
    _, steps, _ = drive([Lost("a"), Lost("b"), OK], expires=50.0, attempt_seconds=30.0, cost=20.0)
    sent = [step.seconds for step in steps if isinstance(step, Send)]
    assert sent[:2] == [30.0, pytest.approx(29.875)]
    assert sent[2] < 10


def test_the_deadline_ends_it_with_the_last_fault_as_its_cause():
    with pytest.raises(CallDeadlineError, match="after 2 attempts") as caught:
        drive([Lost("a"), Lost("b")], expires=25.0, cost=20.0)
    assert caught.value.__cause__.message == "b"
    assert caught.value.request_id == "id-1"


def test_every_attempt_bears_one_id_and_a_refusal_keeps_it():
    _, steps, _ = drive([Lost("a"), OK])
    assert [s.request.headers["X-Request-ID"] for s in steps if isinstance(s, Send)] == ["id-1", "id-1"]
    with pytest.raises(RequestRefusedError) as caught:
        drive([status(400)])
    assert caught.value.request_id == "id-1"


def test_retry_after_in_its_forms():
    assert retry_after(None) == 0
    assert retry_after("2") == 2
    assert retry_after("0.5") == 0.5
    assert retry_after("-3") == 0
    assert retry_after("nan") == retry_after("inf") == 0
    assert retry_after("soon") == 0
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    assert 3500 < retry_after(later.strftime("%a, %d %b %Y %H:%M:%S GMT")) <= 3600
