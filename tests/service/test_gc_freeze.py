"""What was alive when it was frozen is left to the end; garbage that comes later is still collected."""

import gc
import weakref

import pytest

from bootleg_service import gc_freeze


class Loop:
    """Refers to itself: only the collector frees it."""

    def __init__(self):
        self.itself = self


@pytest.fixture(autouse=True)
def _thaw():
    yield
    gc.unfreeze()


def test_garbage_is_still_collected():
    gc_freeze.freeze()
    assert gc.isenabled()
    gone = weakref.ref(Loop())
    gc.collect()
    assert gone() is None


def test_what_was_frozen_and_died_is_freed_when_it_is_done_again():
    old = Loop()
    gone = weakref.ref(old)
    gc_freeze.freeze()
    del old
    gc.collect()
    assert gone() is not None
    gc_freeze.freeze_again()
    assert gone() is None
    assert gc.get_freeze_count() > 0


def test_where_nothing_is_frozen_nothing_is_done():
    gc.unfreeze()
    gc_freeze.freeze_again()
    assert gc.get_freeze_count() == 0
