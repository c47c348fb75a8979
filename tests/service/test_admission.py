"""What a request tells the scheduler, over every way to send images."""

import asyncio
import hashlib

import pytest

from bootleg_service.batching.ticket import Ticket

from .fake_engine import FakeEngine
from .image_routes import EACH_WAY
from .pictures import shade
from .serving import EMBEDDINGS, error_of, eventually, serving

pytestmark = pytest.mark.anyio

SERVER_SECONDS = 10.0


@pytest.fixture
def tickets(served, monkeypatch):
    """Those that the pipeline was given, each with the time it came."""
    seen = []
    genuine = served.service.pipeline.answer_each

    async def spy(images, output, ticket):
        seen.append((ticket, asyncio.get_running_loop().time()))
        return await genuine(images, output, ticket)

    monkeypatch.setattr(served.service.pipeline, "answer_each", spy)
    return seen


@pytest.mark.parametrize("way", **EACH_WAY)
async def test_lane_and_deadline_go_with_the_images_of_every_route(served, tickets, way):
    await way.send(served.client)
    await way.send(served.client, **{"X-Priority": "bulk", "X-Request-Timeout-Ms": "2500"})
    (plain, came), (told, told_at) = tickets[0], tickets[-1]
    assert (plain.client, plain.lane) == ("127.0.0.1", "interactive")
    assert came + SERVER_SECONDS - 5 < plain.deadline <= came + SERVER_SECONDS
    assert told.lane == "bulk"
    assert told_at < told.deadline <= told_at + 2.5


@pytest.mark.parametrize("way", **EACH_WAY)
@pytest.mark.parametrize(
    ("header", "value"),
    [("X-Priority", "urgent"), ("X-Priority", ""), ("X-Priority", "BULK")]
    + [("X-Request-Timeout-Ms", value) for value in ("0", "-5", "1.5", "ten", "", "3600001", "9" * 30, "\u0663")],
)
async def test_a_malformed_header_is_400_with_its_name_and_what_is_known(served, way, header, value):
    response = await way.send(served.client, **{header: value.encode()})
    assert response.status_code == 400, response.text
    assert header in response.text
    assert ("interactive and bulk" if header == "X-Priority" else "3,600,000") in response.text
    assert served.engine.numbers == []


async def test_a_client_cannot_have_more_time_than_the_server_gives(served, tickets):
    await served.embed(shade(1), headers={"X-Request-Timeout-Ms": "3600000"})
    ((ticket, came),) = tickets
    assert ticket.deadline <= came + SERVER_SECONDS


async def test_whom_a_request_says_it_was_forwarded_for_is_not_believed(served, tickets):
    headers = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Real-IP": "6.6.6.6"}
    await served.embed(shade(1), headers=headers)
    assert tickets[0][0].client == "127.0.0.1"


async def test_with_keys_the_share_is_the_key_s(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    file.write_text(f"search {hashlib.sha256(b'bv-key').hexdigest()}\n")
    async with serving(FakeEngine(), access__keys_file=file) as served:
        seen = []
        genuine = served.service.pipeline.answer_each

        async def spy(images, output, ticket):
            seen.append(ticket)
            return await genuine(images, output, ticket)

        monkeypatch.setattr(served.service.pipeline, "answer_each", spy)
        assert (await served.embed(shade(1), headers={"Authorization": "Bearer bv-key"})).status_code == 200
    assert [ticket.client for ticket in seen] == ["key search"]


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("no address: at all", "no address: at all"),
        ("", ""),
    ],
)
def test_an_address_of_ipv6_counts_as_its_network(peer, client):
    from starlette.requests import Request

    from bootleg_service.admission import _address

    assert _address(Request({"type": "http", "client": (peer, 1)})) == client
    assert _address(Request({"type": "http", "client": None})) == ""


async def test_a_request_whose_time_is_up_is_504_and_is_told_when_to_come_back(served):
    served.engine.hold()
    response = await served.embed(shade(1), headers={"X-Request-Timeout-Ms": "50"})
    assert response.status_code == 504
    assert error_of(response)["code"] == "deadline_exceeded"
    assert "0.05 s" in error_of(response)["message"]
    assert int(response.headers["retry-after"]) >= 1


async def test_no_pipeline_takes_images_without_a_ticket(served):
    with pytest.raises(TypeError, match="ticket"):
        await served.service.pipeline.answer_each([shade(1)], "embedding")
    assert await served.service.pipeline.answer_each([shade(1)], "embedding", Ticket())


async def test_bulk_and_interactive_requests_share_the_device_as_their_lanes_say(engine):
    async with serving(engine, batch__max_batch=1) as served:
        engine.hold()
        first = asyncio.create_task(served.embed(shade(0)))
        await eventually(lambda: engine.running == 1)
        tasks = [asyncio.create_task(served.embed(shade(n), headers={"X-Priority": "bulk"})) for n in range(10, 14)]
        await eventually(lambda: served.sample("bootleg_queue_items") == 3)  # and one is prepared
        tasks += [asyncio.create_task(served.client.post(EMBEDDINGS, content=shade(n))) for n in range(20, 23)]
        await eventually(lambda: served.sample("bootleg_queue_items") == 6)
        engine.release()
        await asyncio.gather(first, *tasks)
    assert sorted(engine.numbers[2:5]) == [20, 21, 22]
