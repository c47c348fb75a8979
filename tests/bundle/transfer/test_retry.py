import pytest

from bootleg_bundle.errors import BundleTransferError
from bootleg_bundle.transfer.meter import LINE_SECONDS, Lines
from bootleg_bundle.transfer.retry import Retry, RetryPolicy, retry_after
from bootleg_bundle.transfer.source import TransientError


def failing(times, **fault):
    left = [times]

    def attempt():
        if left[0]:
            left[0] -= 1
            raise TransientError("it failed", **fault)
        return "done"

    return attempt


def test_waits_double_up_to_the_longest():
    waited = []
    retry = Retry(RetryPolicy(attempts=10, longest_wait=5), sleep=waited.append, chance=lambda: 1.0)
    assert retry.run(failing(6)) == "done"
    assert waited == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_chance_takes_up_to_half_of_a_wait():
    for chance, expected in ((0.0, 0.25), (0.5, 0.375), (1.0, 0.5)):
        waited = []
        Retry(sleep=waited.append, chance=lambda chance=chance: chance).run(failing(1))
        assert waited == [expected]


def test_patience_ends():
    waited = []
    with pytest.raises(BundleTransferError, match="it failed; gave up after 3 attempts"):
        Retry(RetryPolicy(attempts=3), sleep=waited.append).run(failing(3))
    assert len(waited) == 2


def test_a_new_byte_makes_patience_new_and_an_old_one_does_not():
    held = iter([0, 1, 1, 2, 2, 3, 3])
    assert Retry(RetryPolicy(attempts=2), sleep=lambda _: None).run(failing(3), lambda: next(held)) == "done"
    with pytest.raises(BundleTransferError):
        Retry(RetryPolicy(attempts=2), sleep=lambda _: None).run(failing(3), lambda: 5)


def test_the_wait_that_is_asked_for_is_neither_spread_nor_doubled():
    waited = []
    Retry(sleep=waited.append, chance=lambda: 0.0).run(failing(3, wait=12.0))
    assert waited == [12.0, 12.0, 12.0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("9" * 50, 999_999_999.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        (None, None),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert retry_after(value, now=10.0) == seconds


def test_plain_lines_come_every_ten_seconds_and_at_the_end():
    now, said = [0.0], []
    lines = Lines("pulling x", 4_000_000, said.append, clock=lambda: now[0])
    for second, done in ((1, 1_000_000), (LINE_SECONDS + 1, 2_000_000), (LINE_SECONDS + 2, 3_000_000), (13, 4_000_000)):
        now[0] = second
        lines(done)
    lines(4_000_000)
    assert said == ["pulling x: 2.0 of 4.0 MB (50 %)", "pulling x: 4.0 of 4.0 MB (100 %)"]
