"""A service that is overloaded, starting, slow, broken or gone."""

import socket

import numpy as np
import pytest

from bootleg_client import CallDeadlineError, Client, ConnectionLostError, OverloadedError, Retry
from tests.service.fake_engine import SPACE, embedding_of
from tests.service.pictures import shade

from .conftest import QUICK
from .listening import answer, envelope, half_an_answer, silence


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_service_that_is_overloaded_for_a_while_is_asked_again(connect, service, status):
    url, faults = service
    faults.script = [answer(status, envelope("overloaded"), retry_after="0.01")] * 3
    with connect(url) as client:
        np.testing.assert_array_equal(client.embed(shade(3)).vectors[0], embedding_of(3))
    ids = {request["x-request-id"] for request in faults.posts}
    assert (len(faults.posts), len(ids)) == (4, 1)


def test_a_service_that_stays_overloaded_is_left_alone_in_the_end(connect, service):
    url, faults = service
    faults.script = [answer(503, envelope("overloaded"))] * 50
    with connect(url, retry=Retry(attempts=3, first_seconds=0.001)) as client, pytest.raises(OverloadedError) as caught:
        client.embed(shade(3))
    assert (caught.value.code, caught.value.status, len(faults.posts)) == ("overloaded", 503, 3)
    assert caught.value.request_id == "r-1" or caught.value.request_id


def test_an_answer_that_breaks_off_is_asked_for_again(connect, service):
    url, faults = service
    faults.script = [half_an_answer, half_an_answer]
    with connect(url) as client:
        np.testing.assert_array_equal(client.embed(shade(3)).vectors[0], embedding_of(3))
    assert len(faults.posts) == 3


def test_an_answer_that_does_not_come_is_asked_for_again(connect, service):
    url, faults = service
    faults.script = [silence]
    with connect(url, attempt_seconds=0.3) as client:
        np.testing.assert_array_equal(client.embed(shade(3)).vectors[0], embedding_of(3))


def test_the_deadline_holds_over_all_attempts(connect, service):
    url, faults = service
    faults.script = [answer(503, envelope("overloaded"), retry_after="3600")]
    with connect(url) as client, pytest.raises(CallDeadlineError, match="after 1 attempts") as caught:
        client.embed(shade(3))
    assert isinstance(caught.value.__cause__, OverloadedError)
    assert caught.value.request_id == faults.posts[0]["x-request-id"]
    assert len(faults.posts) == 1  # it does not wait for what cannot come in time


def test_nobody_listens(connect):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with connect(f"http://127.0.0.1:{port}") as client, pytest.raises(ConnectionLostError, match="ConnectError"):
            client.embed(shade(3))


def test_the_first_fault_of_a_call_ends_its_other_requests(connect, service):
    url, faults = service
    faults.script = [answer(400, envelope("invalid_request"))] + [answer(503, envelope("overloaded"))] * 500
    slow = Retry(attempts=100, first_seconds=5)
    with connect(url, retry=slow, concurrency=2) as client:
        client.info()
        with pytest.raises(Exception, match="scripted invalid_request"):
            client.embed([shade(n) for n in range(200)])
    assert len(faults.posts) < 10


def test_threads_share_one_client(service):
    from concurrent.futures import ThreadPoolExecutor

    with Client(service[0], retry=QUICK) as client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: client.embed(shade(n)).vectors[0], range(40)))
    np.testing.assert_array_equal(found, np.stack([embedding_of(n) for n in range(40)]))


def test_a_path_before_the_routes_is_kept(connect, service):
    url, faults = service
    with connect(f"{url}/behind/a/proxy/", retry=Retry(attempts=1)) as client, pytest.raises(Exception, match="404"):
        client.models()
    assert faults.seen[-1]["path"] == "/behind/a/proxy/v1/models"


def test_an_answer_names_its_space(connect, service):
    with connect(service[0]) as client:
        assert client.embed(shade(1)).embedding_space == SPACE
