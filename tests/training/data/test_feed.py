import re
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bootleg_bundle.errors import ConfigError, DataError
from bootleg_bundle.sources import open_source
from bootleg_training.data import feed as module
from bootleg_training.data.decode import DecodedImages, open_data
from bootleg_training.data.feed import choose_mode, feed
from bootleg_training.data.images import LazyImages
from bootleg_training.data.order import sample_indices
from bootleg_training.data.pack import open_pack
from bootleg_training.data.prepare import Options, write_pack
from tests.training.data.files import pictures, silent, write
from tests.training.tiny import tiny_pack

CPU = torch.device("cpu")
COUNT, SIDE = 20, 8


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The same images in every form: packed in shards, decoded when wanted, in memory."""
    folder = tmp_path_factory.mktemp("feed")
    write(folder / "data", pictures(COUNT))
    source = open_source(folder / "data")
    write_pack(source, folder / "pack", SIDE, options=Options(shard_bytes=6 * SIDE * SIDE * 3), progress=silent)
    packed = open_pack(folder / "pack")
    return {
        "packed": packed,
        "decoded": open_data(folder / "data", SIDE),
        "memory": replace(packed, images=packed.images[:]),
    }


EVERY_WAY = [
    ("packed", "mapped"),
    ("packed", "resident"),
    ("packed", "auto"),
    ("decoded", "decode"),
    ("decoded", "resident"),
    ("decoded", "auto"),
    ("memory", "mapped"),
    ("memory", "resident"),
]


def feeding():
    return [thread for thread in threading.enumerate() if thread.name.startswith("feed")]


@pytest.mark.parametrize(("form", "mode"), EVERY_WAY)
@settings(max_examples=10, deadline=None)
@given(wanted=st.lists(st.lists(st.integers(0, COUNT - 1), max_size=9), max_size=6))
def test_every_mode_yields_the_bytes_that_were_wanted_in_that_order(opened, form, mode, wanted):
    arrays = [np.array(index, np.int64) for index in wanted]
    batches = list(feed(opened[form], arrays, CPU, mode=mode))
    assert len(batches) == len(arrays)
    for index, batch in zip(arrays, batches, strict=True):
        assert (batch.dtype, batch.device) == (torch.uint8, CPU)
        assert batch.shape == (len(index), SIDE, SIDE, 3)
        np.testing.assert_array_equal(batch.numpy(), opened["memory"].images[index])
    assert not feeding()


@pytest.mark.parametrize(("form", "mode"), EVERY_WAY)
def test_an_endless_order_can_be_left_at_any_time(opened, form, mode):
    def endless():
        seen = 0
        while True:
            yield sample_indices(COUNT, 0, seen, 4)
            seen += 4

    batches = feed(opened[form], endless(), CPU, mode=mode)
    for step in range(7):
        np.testing.assert_array_equal(
            next(batches).numpy(), opened["memory"].images[sample_indices(COUNT, 0, 4 * step, 4)]
        )
    batches.close()
    assert not feeding()
    with pytest.raises(StopIteration):
        next(batches)


def test_a_batch_that_was_yielded_stays_as_it_was(opened):
    batches = list(feed(opened["packed"], [np.arange(4), np.arange(4, 8)], CPU, mode="mapped"))
    batches[1].zero_()
    np.testing.assert_array_equal(batches[0].numpy(), opened["memory"].images[:4])
    np.testing.assert_array_equal(opened["packed"].images[4:8], opened["memory"].images[4:8])


class Watched(LazyImages):
    """Images that tell which batches were read and in what thread, and fail where they are told to."""

    def __init__(self, fail=None):
        super().__init__(COUNT, SIDE)
        self.read, self.threads, self.fail = [threading.Event() for _ in range(COUNT)], set(), fail

    def take(self, index):
        first = int(index[0])
        self.threads.add(threading.current_thread().name)
        self.read[first].set()
        if first == self.fail:
            raise DataError("image 2 is beyond the ceiling")
        return np.full((len(index), SIDE, SIDE, 3), first, np.uint8)


@pytest.fixture
def watched(opened):
    return lambda **options: replace(opened["packed"], images=Watched(**options))


ONE_BY_ONE = [np.array([n]) for n in range(6)]


def test_one_batch_is_read_ahead_in_the_background_and_no_more(watched):
    pack = watched()
    batches = feed(pack, ONE_BY_ONE, CPU, mode="mapped")
    next(batches)
    assert pack.images.read[1].wait(10)  # nobody asked for it yet
    assert not pack.images.read[2].is_set()
    next(batches)
    assert pack.images.read[2].wait(10)
    assert not pack.images.read[3].is_set()
    batches.close()
    assert all(name.startswith("feed") for name in pack.images.threads)


def test_an_error_in_the_thread_reaches_the_consumer_in_its_place(watched):
    batches = feed(watched(fail=2), ONE_BY_ONE, CPU, mode="mapped")
    assert [int(next(batches)[0, 0, 0, 0]) for _ in range(2)] == [0, 1]
    with pytest.raises(DataError, match="image 2 is beyond the ceiling"):
        next(batches)
    assert not feeding()


def test_an_error_of_the_order_reaches_the_consumer(opened):
    def broken():
        yield np.arange(3)
        raise RuntimeError("the order is broken")

    with pytest.raises(RuntimeError, match="the order is broken"):
        list(feed(opened["packed"], broken(), CPU, mode="mapped"))
    assert not feeding()


def test_too_many_corrupt_images_stop_the_feed(tmp_path):
    files = {name: b"no" if n % 2 else data for n, (name, data) in enumerate(pictures(10).items())}
    pack = open_data(write(tmp_path / "data", files), SIDE)
    with pytest.raises(DataError, match="5 of the 10 images of data seen so far"):
        list(feed(pack, [np.arange(10)], CPU))
    assert not feeding()


def test_letting_the_iterator_go_stops_the_thread(opened):
    batches = feed(opened["packed"], ONE_BY_ONE, CPU, mode="mapped")
    next(batches)
    assert feeding()
    del batches
    assert not feeding()


# ---- the choice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "mode", "why"),
    [
        (4 * COUNT * SIDE * SIDE * 3, "resident", r"fit into 25 % of the .* GiB free on cpu"),
        (4 * COUNT * SIDE * SIDE * 3 - 1, "mapped", "are more than 25 %"),
        (None, "mapped", "how much memory is free on cpu is not known"),
    ],
)
def test_auto_keeps_in_memory_what_fits_into_its_share(opened, monkeypatch, free, mode, why):
    monkeypatch.setattr(module, "free_memory", lambda device: free)
    chosen, reason = choose_mode(opened["packed"], CPU)
    assert chosen == mode
    assert re.search(why, reason)


def test_a_source_without_a_pack_is_decoded(opened):
    mode, why = choose_mode(opened["decoded"], CPU)
    assert isinstance(opened["decoded"].images, DecodedImages)
    assert (mode, "not packed" in why) == ("decode", True)


def test_a_mode_that_was_asked_for_is_taken(opened):
    assert choose_mode(opened["packed"], CPU, "mapped") == ("mapped", "as asked for")
    assert choose_mode(opened["decoded"], CPU, "resident") == ("resident", "as asked for")


@pytest.mark.parametrize(("form", "mode"), [("decoded", "mapped"), ("packed", "decode"), ("memory", "decode")])
def test_a_mode_that_does_not_fit_is_refused_at_once(opened, form, mode):
    with pytest.raises(ConfigError, match=f"reading = '{mode}'"):
        feed(opened[form], [], CPU, mode=mode)


def test_an_array_in_memory_is_not_copied_to_become_resident():
    pack = tiny_pack(4)
    batches = feed(pack, [np.arange(2)] * 2, CPU, mode="resident")
    next(batches)
    pack.images[0] = 7
    assert (next(batches)[0] == 7).all()


def test_a_read_only_array_is_copied_without_a_warning():
    pack = tiny_pack(4)
    pack.images.flags.writeable = False
    (batch,) = feed(pack, [np.arange(2)], CPU, mode="resident")
    np.testing.assert_array_equal(batch.numpy(), pack.images[:2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("form", "mode"), EVERY_WAY)
def test_batches_arrive_unchanged_on_a_cuda_device(opened, form, mode):
    cuda = torch.device("cuda", torch.cuda.current_device())
    arrays = [sample_indices(COUNT, 0, 4 * step, 4) for step in range(50)]
    for index, batch in zip(arrays, feed(opened[form], arrays, cuda, mode=mode), strict=True):
        assert batch.device == cuda
        np.testing.assert_array_equal(batch.cpu().numpy(), opened["memory"].images[index])
