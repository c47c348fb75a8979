import pytest
from pydantic import ValidationError

from bootleg_service.settings import RequestLimits, Settings

from .serving import settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decode__threads", 0),
        ("decode__max_waiting", 0),
        ("decode__processes", -1),
        ("decode__memory_bytes", 1000),
        ("limits__header_seconds", 0),
        ("limits__max_connections", 0),
        ("limits__max_images", 0),
        ("limits__max_body_bytes", -1),
        ("limits__receive_seconds", 0),
        ("limits__request_seconds", -1),
        ("limits__image__max_bytes", 0),
        ("limits__image__max_pixels", -5),
        ("limits__image__max_frames", 0),
        ("batch__max_batch", 0),
        ("batch__max_batch", 2.5),
        ("batch__max_wait_seconds", -0.001),
        ("batch__max_queue_items", 0),
        ("batch__max_queue_bytes", 0),
        ("cache__memory_bytes", -1),
        ("cache__redis_get_seconds", 0),
        ("cache__redis_ttl_seconds", 0),
        ("cache__breaker_failures", 0),
        ("engine__device", "gpu"),
        ("engine__threads", -1),
        ("batch__max_bach", 8),
        ("colour", "blue"),
    ],
)
def test_a_value_out_of_bounds_or_a_name_we_do_not_know_is_refused_by_name(name, value):
    with pytest.raises(ValidationError) as caught:
        settings(**{name: value})
    assert caught.value.errors()[0]["loc"] == tuple(name.split("__"))


def test_settings_cannot_be_changed_after_they_are_composed():
    with pytest.raises(ValidationError):
        Settings().limits = RequestLimits()


def test_no_wait_and_no_memory_cache_are_allowed():
    assert settings(batch__max_wait_seconds=0, cache__memory_bytes=0).cache.memory_bytes == 0
