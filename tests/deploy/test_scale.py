"""The profile ``scale``: nginx, three replicas, one Redis, and callers who never stop. Needs a Docker engine."""

from __future__ import annotations

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bootleg_bundle import open_bundle
from tests.deploy.load import Load
from tests.deploy.stack import SCALE_PORT, Stack, docker, get, healthy, inspect, post, until

pytestmark = pytest.mark.deploy

URL = f"http://127.0.0.1:{SCALE_PORT}"
EMBED = f"{URL}/v1/images/embeddings"
PLAIN = 4
"""Callers that repeat nothing; so many of their requests can be in flight at a time."""


@pytest.fixture(scope="module")
def spaces(store):
    """Embedding spaces of the two bundles."""
    return {name: open_bundle(store / "bundles" / name).manifest.embedding_space for name in ("old", "new")}


@pytest.fixture
def stack(image, store):
    """nginx and three replicas of the old bundle, ready."""
    running = Stack("bootleg-scale", store, profile="scale", SERVICE_IMAGE=image, BOOTLEG_BUNDLE="/store/bundles/old")
    try:
        running.compose("up", "--detach", "nginx")
        until(lambda: all(map(healthy, running.containers("replica"))), "all replicas are ready")
        yield running
    finally:
        running.down()


def close(vectors, reference) -> bool:
    return all(np.allclose(vector, reference, rtol=1e-3, atol=1e-3) for vector in vectors)


def test_replicas_die_and_redis_freezes_and_dies_and_everybody_is_answered(stack, picture):
    replicas = stack.containers("replica")
    assert len(replicas) == 3
    reference = np.array(post(EMBED, picture)[2]["data"][0]["embedding"], np.float32)
    with Load(URL, picture, plain=PLAIN, clients=(None, None)) as load:
        load.go_on(20)

        docker("kill", replicas[0])
        load.go_on(40)
        lost = len(load.plain.faults)
        assert lost <= PLAIN, load.plain.faults
        docker("start", replicas[0])
        until(lambda: healthy(replicas[0]), "the killed replica is back")

        docker("stop", "--time", "45", replicas[1])  # a stop drains, so nobody notices
        load.go_on(20)
        assert inspect(replicas[1])["State"]["ExitCode"] == 0
        assert len(load.plain.faults) == lost, load.plain.faults
        docker("start", replicas[1])
        until(lambda: healthy(replicas[1]), "the stopped replica is back")

        stack.compose("pause", "redis")
        load.go_on(20)
        stack.compose("unpause", "redis")
        load.go_on(20)
        docker("kill", stack.containers("redis")[0])
        load.go_on(20)
        stack.compose("start", "redis")
        load.go_on(20)
        assert len(load.plain.faults) == lost, load.plain.faults

    for told in load.clients:
        assert told.faults == []
        assert close(told.vectors, reference)
    assert close(load.plain.vectors, reference)

    stack.compose("restart", "--timeout", "45")
    until(lambda: get(f"{URL}/health/ready")[0] == 200, "the restarted stack answers")
    status, _, body = post(EMBED, picture)
    assert status == 200
    assert close([np.array(body["data"][0]["embedding"], np.float32)], reference)


def test_replicas_share_what_one_of_them_computed(stack):
    """Each round is about a picture that nobody has seen; a look-up may be late on a busy machine, which is a miss."""
    rounds = itertools.count()
    first, *others = stack.containers("replica")

    def asked(container: str, number: int) -> str:
        return docker("exec", container, "python3", "-c", _ASK, str(number)).strip()

    def shared(other: str) -> bool:
        number = next(rounds)
        assert asked(first, number) == "miss"
        time.sleep(1)  # stored behind the answer
        return asked(other, number) == "hit"

    for other in others:
        until(lambda other=other: shared(other), "a replica answers from what another one computed")


_ASK = """
import sys, urllib.request as r
from importlib import resources
data = (resources.files("bootleg_service") / "example.jpg").read_bytes() + sys.argv[1].encode()
ask = r.Request("http://127.0.0.1:8000/v1/images/embeddings", data=data, headers={"Content-Type": "image/jpeg"})
with r.urlopen(ask) as answer:
    print(answer.headers["X-Cache"])
"""


def test_a_rolling_upgrade_mixes_no_vectors_for_those_who_pin(stack, picture, spaces):
    old_space, new_space = spaces["old"], spaces["new"]
    old = stack.containers("replica")
    reference = {old_space: np.array(post(EMBED, picture)[2]["data"][0]["embedding"], np.float32)}

    with Load(URL, picture, plain=PLAIN, clients=(old_space, new_space)) as load:
        pinned_old, pinned_new = load.clients
        load.go_on(10)
        assert pinned_old.faults == []
        assert pinned_new.spaces == []

        # New replicas beside the old ones; then the old ones drain, one after the other.
        stack.environment |= {"BOOTLEG_BUNDLE": "/store/bundles/new"}
        stack.compose("up", "--detach", "--no-recreate", "--scale", "replica=6", "replica")
        new = sorted(set(stack.containers("replica")) - set(old))
        assert len(new) == 3
        until(lambda: all(map(healthy, new)), "the new replicas are ready")
        load.go_on(20)
        for container in old:
            docker("stop", "--time", "45", container)
            docker("rm", container)
        load.go_on(20)
        marks = [len(told.spaces) for told in (load.plain, *load.clients)]
        load.go_on(10)

    # Everybody was answered throughout, in one space or the other, and at the end in the new one.
    assert load.plain.faults == []
    assert set(load.plain.spaces) == {old_space, new_space}
    assert set(load.plain.spaces[marks[0] :]) == {new_space}
    # Who pins saw its own space or 409, and vectors of no other.
    assert set(pinned_old.spaces) == {old_space}
    assert len(pinned_old.spaces) == marks[1]
    assert set(pinned_new.spaces) == {new_space}
    assert {type(fault).__name__ for told in load.clients for fault in told.faults} == {"SpaceMismatchError"}

    reference[new_space] = np.array(post(EMBED, picture)[2]["data"][0]["embedding"], np.float32)
    assert reference[old_space].shape != reference[new_space].shape
    for told in (load.plain, *load.clients):
        assert all(close([v], reference[space]) for space, v in zip(told.spaces, told.vectors, strict=True))

    status, _, body = post(EMBED, picture, **{"X-Embedding-Space": old_space})
    assert (status, body["error"]["code"]) == (409, "embedding_space_mismatch")

    # And back again: the old bundle still lies there.
    stack.environment |= {"BOOTLEG_BUNDLE": "/store/bundles/old"}
    stack.compose("up", "--detach", "nginx")
    until(lambda: all(map(healthy, stack.containers("replica"))), "the replicas of the roll-back are ready")
    status, headers, _ = post(EMBED, picture, **{"X-Embedding-Space": old_space})
    assert (status, headers["x-embedding-space"]) == (200, old_space)


def test_nginx_shows_no_metrics_and_answers_faults_in_the_services_own_envelope(stack, picture):
    for path in ("/metrics", "/%6detrics", "//metrics", "/metrics/", "/Metrics"):
        status, body = get(URL + path)
        assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")
    status, _, body = post(EMBED, b"\0" * (65 * 2**20))
    assert (status, body["error"]["code"]) == (413, "payload_too_large")
    for replica in stack.containers("replica"):
        docker("kill", replica)
    status, headers, body = post(EMBED, picture)
    assert (status, body["error"]["code"]) == (503, "unavailable")
    assert int(headers["retry-after"]) >= 1


def test_replicas_know_nginx_by_its_address(stack):
    (nginx,) = stack.containers("nginx")
    networks = inspect(nginx)["NetworkSettings"]["Networks"]
    assert set(networks) == {f"{stack.name}_edge", f"{stack.name}_relay"}
    believed = f"BOOTLEG_TRUSTED_PROXY={networks[f'{stack.name}_relay']['IPAddress']}"
    for replica in stack.containers("replica"):
        assert believed in inspect(replica)["Config"]["Env"]


def test_a_frozen_replica_is_passed_over_with_the_whole_body(stack, picture):
    """It takes a connection and never answers: the time to read an answer finds it out, and not the caller."""
    bodies = [b"".join(_part(picture + bytes([n, i])) for i in range(8)) + b"--edge--\r\n" for n in range(6)]
    multipart = {"Content-Type": "multipart/form-data; boundary=edge"}
    reference = np.array(post(EMBED, picture)[2]["data"][0]["embedding"], np.float32)
    frozen = stack.containers("replica")[0]
    docker("pause", frozen)
    try:
        with ThreadPoolExecutor(len(bodies)) as callers:
            answers = list(callers.map(lambda body: post(EMBED, body, **multipart), bodies))
    finally:
        docker("unpause", frozen)
    assert [status for status, _, _ in answers] == [200] * len(bodies)
    for _, _, body in answers:
        assert len(body["data"]) == 8
        assert close([np.array(row["embedding"], np.float32) for row in body["data"]], reference)


def _part(data: bytes) -> bytes:
    head = b'--edge\r\nContent-Disposition: form-data; name="images"; filename="x"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head + data + b"\r\n"
