"""What was alive when it was set aside is left to the end; garbage that comes later is still collected."""

import gc
import weakref

import pytest

from bootleg_service import collector


class Loop:
    """Refers to itself: only the collector frees it."""

    def __init__(self):
        self.itself = self


@pytest.fixture(autouse=True)
def _thaw():
    yield
    gc.unfreeze()


def test_garbage_is_still_collected():
    collector.set_aside()
    gone = weakref.ref(Loop())
    gc.collect()
    assert gone() is None


def test_what_was_set_aside_and_died_is_freed_when_it_is_done_again():
    old = Loop()
    gone = weakref.ref(old)
    collector.set_aside()
    del old
    gc.collect()
    assert gone() is not None
    collector.set_aside_again()
    assert gone() is None
    assert gc.get_freeze_count() > 0


def test_where_nothing_is_set_aside_nothing_is_done():
    gc.unfreeze()
    collector.set_aside_again()
    assert gc.get_freeze_count() == 0
