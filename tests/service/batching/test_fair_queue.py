"""Who gets the places of a full queue, and how an image that became urgent comes forward."""

from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootleg_service.batching.queue import FairQueue
from bootleg_service.batching.ticket import Standing, Ticket

_numbers = count()


@dataclass(eq=False)
class Thing:
    ticket: object
    queued: float = 0.0
    nbytes: int = 3
    number: int = field(default_factory=lambda: next(_numbers))

    class answer:
        @staticmethod
        def done():
            return False


def queue_of(*tickets):
    queue = FairQueue(bulk_share=0.25, bulk_patience=0.5)
    things = [Thing(ticket) for ticket in tickets]
    for thing in things:
        queue.push(thing)
    return queue, things


def taken(queue, most=1000):
    return queue.take(most, 0.0, lambda thing: pytest.fail("dropped"))


QUICK, BULK = Ticket("quick"), Ticket("bulk", "bulk")


def test_the_newest_of_whoever_has_most_makes_room():
    queue, things = queue_of(*[Ticket("greedy")] * 5, *[Ticket("modest")] * 2)
    assert queue.make_room(Ticket("new")) is things[4]
    assert len(queue) == 6
    assert queue.bytes == 18
    assert things[4] not in taken(queue)


def test_nobody_makes_room_for_who_would_have_as_much():
    queue, _ = queue_of(*[Ticket("a")] * 3, *[Ticket("b")] * 2)
    assert queue.make_room(Ticket("a")) is None
    assert queue.make_room(Ticket("b")) is None
    assert len(queue) == 5


def test_bulk_makes_room_for_interactive_whosever_it_is_and_never_the_other_way():
    queue, things = queue_of(BULK, QUICK, QUICK, QUICK)
    assert queue.make_room(Ticket("quick")) is things[0]
    queue, _ = queue_of(*[QUICK] * 4)
    assert queue.make_room(BULK) is None


def test_a_bulk_image_that_became_urgent_comes_forward():
    standing = Standing()
    standing.join(BULK)
    queue, things = queue_of(BULK, BULK, standing, QUICK)
    standing.join(QUICK)
    assert taken(queue) == [things[3], things[2], things[0], things[1]]
    assert len(queue) == queue.bytes == 0


def test_an_image_that_was_taken_is_moved_by_nothing():
    standing = Standing()
    standing.join(BULK)
    queue, things = queue_of(standing)
    assert taken(queue) == things
    standing.join(QUICK)
    assert len(queue) == 0
    assert taken(queue) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["interactive", "bulk"])), max_size=60))
def test_a_full_queue_never_drops_who_has_least_and_loses_nothing(arrivals):
    queue, inside = FairQueue(bulk_share=0.25, bulk_patience=0.5), []
    for client, lane in arrivals:
        thing = Thing(Ticket(client, lane))
        if len(queue) == 8:
            before = [t.ticket for t in inside]
            out = queue.make_room(thing.ticket)
            if out is None:
                continue
            inside.remove(out)
            if out.ticket.lane == lane:
                assert before.count(out.ticket) > before.count(thing.ticket) + 1
            else:
                assert (out.ticket.lane, lane) == ("bulk", "interactive")
        queue.push(thing)
        inside.append(thing)
        assert len(queue) <= 8
    assert sorted(t.number for t in taken(queue)) == sorted(t.number for t in inside)
