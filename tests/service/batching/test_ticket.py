"""What several requests that wait for one computation tell the scheduler together."""

from bootleg_service.batching.ticket import Standing, Ticket

LATE, SOON, NEVER = Ticket("late", deadline=9.0), Ticket("soon", deadline=1.0), Ticket("never")
BULK = Ticket("bulk", "bulk", deadline=5.0)


def standing_of(*claims):
    standing = Standing()
    for claim in claims:
        standing.join(claim)
    return standing


def test_it_is_worth_computing_until_the_last_deadline_of_those_who_wait():
    standing = standing_of(SOON, LATE)
    assert standing.deadline == 9.0
    standing.leave(LATE)
    assert standing.deadline == 1.0
    standing.join(NEVER)
    assert standing.deadline is None


def test_it_is_as_urgent_as_the_most_urgent_and_for_that_ones_account():
    standing = standing_of(BULK)
    assert (standing.lane, standing.client) == ("bulk", "bulk")
    standing.join(SOON)
    assert (standing.lane, standing.client) == ("interactive", "soon")
    standing.leave(SOON)
    assert (standing.lane, standing.client) == ("bulk", "bulk")


def test_it_is_told_once_when_it_becomes_urgent():
    told = []
    standing = standing_of(BULK)
    standing.when_urgent = lambda: told.append(1)
    standing.join(Ticket("more", "bulk"))
    assert told == []
    standing.join(SOON)
    standing.join(LATE)
    assert told == [1]


def test_whoever_waits_through_another_computation_counts_with_all_who_wait_for_that():
    told = []
    outer = standing_of(BULK)
    inner = standing_of(outer)
    inner.when_urgent = lambda: told.append(1)
    assert (inner.lane, inner.deadline) == ("bulk", 5.0)
    outer.join(LATE)
    assert (inner.lane, inner.client, inner.deadline, told) == ("interactive", "late", 9.0, [1])
    outer.leave(LATE)
    outer.leave(BULK)
    assert outer.deserted
    assert not inner.deserted


def test_equal_tickets_of_one_request_are_counted_one_by_one():
    standing = standing_of(SOON, SOON)
    standing.leave(SOON)
    assert not standing.deserted
    standing.leave(SOON)
    assert standing.deserted
