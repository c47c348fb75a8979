import pytest

from bootleg_service.access.keys import Key
from bootleg_service.access.quotas import Quotas
from bootleg_service.errors import QuotaError

KEY = Key("a", "0" * 64, 60)


@pytest.fixture
def clock():
    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    return Clock()


def test_a_quota_is_spent_refused_with_when_to_come_back_and_fills_up_again(clock):
    quotas = Quotas(clock)
    quotas.charge(KEY, 50)
    with pytest.raises(QuotaError, match="10 are left") as refused:
        quotas.charge(KEY, 20)
    assert refused.value.retry_after == pytest.approx(10)
    clock.now += 10
    quotas.charge(KEY, 20)
    with pytest.raises(QuotaError):
        quotas.charge(KEY, 1)


def test_what_is_refused_costs_nothing(clock):
    quotas = Quotas(clock)
    for _ in range(3):
        with pytest.raises(QuotaError, match="at once"):
            quotas.charge(KEY, 61)
    quotas.charge(KEY, 60)


def test_idle_time_never_saves_up_more_than_a_minute(clock):
    quotas = Quotas(clock)
    quotas.charge(KEY, 1)
    clock.now += 10_000
    quotas.charge(KEY, 60)
    with pytest.raises(QuotaError):
        quotas.charge(KEY, 1)


def test_a_key_without_a_quota_is_never_refused_and_others_are_not_charged(clock):
    quotas = Quotas(clock)
    quotas.charge(Key("free", "0" * 64), 10**9)
    quotas.charge(KEY, 60)
    quotas.charge(Key("b", "1" * 64, 60), 60)
