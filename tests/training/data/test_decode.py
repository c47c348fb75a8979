import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bootleg_bundle.errors import DataError
from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_bundle.sources import open_source
from bootleg_training.data.decode import DecodedImages, open_data
from bootleg_training.data.order import sample_indices
from bootleg_training.data.prepare import write_pack
from tests import images
from tests.training.data.files import pictures, silent, write

SPEC = PreprocessSpec(height=8, width=8)
COUNT = 24


def files(*corrupt):
    return {name: b"no image" if n in corrupt else data for n, (name, data) in enumerate(pictures(COUNT).items())}


def decoded(folder, *corrupt, **options):
    source = open_source(write(folder / "data", files(*corrupt)))
    return DecodedImages(source, SPEC, **{"workers": 2, "max_corrupt": 1, **options})


@pytest.fixture
def expected():
    return np.stack([apply(SPEC, decode(data)) for data in pictures(COUNT).values()])


def test_images_are_those_that_a_pack_would_hold(tmp_path, expected):
    read = decoded(tmp_path)
    assert (read.shape, read.dtype, len(read)) == (expected.shape, np.uint8, COUNT)
    np.testing.assert_array_equal(read[:], expected)
    index = np.array([5, 0, 5, 23, 5])
    np.testing.assert_array_equal(read[index], expected[index])
    np.testing.assert_array_equal(read[3:7], expected[3:7])
    assert read[np.array([], np.int64)].shape == (0, 8, 8, 3)
    assert read.quarantined == {}


def replacement(number, corrupt):
    """The first sound image of the corrupt one's own order."""
    order = sample_indices(COUNT, number, 0, COUNT).tolist()
    return next(n for n in order if n not in corrupt)


def test_a_corrupt_image_is_replaced_by_another_that_depends_on_its_index_alone(tmp_path, expected):
    corrupt = (1, 4, 9, 10, 11, 20)
    alone = decoded(tmp_path, *corrupt)
    shuffled = decoded(tmp_path, *corrupt)
    everything = shuffled[sample_indices(COUNT, 3, 0, COUNT)][np.argsort(sample_indices(COUNT, 3, 0, COUNT))]
    for number in range(COUNT):
        source = replacement(number, corrupt) if number in corrupt else number
        np.testing.assert_array_equal(alone[np.array([number])][0], expected[source])
        np.testing.assert_array_equal(everything[number], expected[source])
    assert len({replacement(number, corrupt) for number in corrupt}) > 1  # no image is shown for all of them


def test_the_quarantine_counts_each_once_and_logs_it_once_with_the_reason(tmp_path, caplog):
    read = decoded(tmp_path, 2, 7)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            read[np.array([2, 7, 2, 3])]
    assert set(read.quarantined) == {"002.png", "007.png"}
    assert "no accepted image format" in read.quarantined["002.png"]
    assert sorted(record.message.split(":")[0] for record in caplog.records) == [
        "quarantined 002.png",
        "quarantined 007.png",
    ]


def test_a_corrupt_image_is_not_read_again(tmp_path, monkeypatch):
    read = decoded(tmp_path, 2)
    read[np.array([2])]
    (tmp_path / "data" / "002.png").write_bytes(pictures(1)["000.png"])
    read[np.array([2])]
    assert set(read.quarantined) == {"002.png"}


def test_a_file_that_went_away_is_quarantined_too(tmp_path):
    read = decoded(tmp_path)
    (tmp_path / "data" / "005.png").unlink()
    read[:]
    assert read.quarantined == {"005.png": "the file cannot be read: No such file or directory"}


def test_over_the_ceiling_the_run_is_stopped(tmp_path):
    read = decoded(tmp_path, 0, 1, 2, max_corrupt=0.1, seen_before_judging=20)
    read[np.arange(3)]  # all corrupt, but too few to judge by
    with pytest.raises(DataError, match=r"3 of the \d+ images of data seen so far .* the share 0\.1; the first is 000"):
        read[np.arange(COUNT)]


@pytest.mark.parametrize(("share", "stops"), [(2 / COUNT, False), (2 / COUNT - 1e-9, True)])
def test_the_ceiling_is_a_share_of_the_different_images_seen(tmp_path, share, stops):
    read = decoded(tmp_path, 3, 8, max_corrupt=share, seen_before_judging=COUNT)
    if not stops:
        for _ in range(3):
            read[:]  # seen again, counted once
        return
    with pytest.raises(DataError, match="2 of the 24"):
        read[:]


def test_a_set_smaller_than_the_least_number_is_judged_when_all_of_it_was_seen(tmp_path):
    read = decoded(tmp_path, 3, 8, max_corrupt=0.05, seen_before_judging=1000)
    read[np.array([3, 8])]
    with pytest.raises(DataError, match="2 of the 24"):
        read[:]


def test_a_set_without_a_single_sound_image_is_refused(tmp_path):
    with pytest.raises(DataError, match="none of the 24 images of data can be decoded"):
        decoded(tmp_path, *range(COUNT))[np.array([0])]


def test_threads_may_index_at_once(tmp_path, expected):
    corrupt = (1, 4, 9)
    read = decoded(tmp_path, *corrupt)
    wanted = [sample_indices(COUNT, seed, 0, 10) for seed in range(20)]
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(read.__getitem__, wanted))
    for index, batch in zip(wanted, batches, strict=True):
        sources = [replacement(n, corrupt) if n in corrupt else n for n in index.tolist()]
        np.testing.assert_array_equal(batch, expected[sources])
    assert len(read.quarantined) == 3


def test_its_threads_end_with_it(tmp_path):
    read = decoded(tmp_path)
    read[:]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert threads
    del read
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


# ---- open_data -----------------------------------------------------------------------------------------------------


def test_a_source_is_opened_in_the_place_of_a_pack(tmp_path):
    scenes = {f"{kind}/{n}.png": images.png(images.scene(seed=n)) for kind in ("cat", "dog") for n in range(3)}
    folder = write(tmp_path / "pets", scenes)
    opened = open_data(folder, 16)
    index = write_pack(open_source(folder), tmp_path / "pack", 16, progress=silent)
    packed = open_data(tmp_path / "pack", 999)  # a pack has its own side
    np.testing.assert_array_equal(opened.images[:], packed.images[:])
    np.testing.assert_array_equal(opened.labels, packed.labels)
    assert (opened.side, opened.classes, opened.name) == (16, ("cat", "dog"), "pets")
    assert opened.preprocess == packed.preprocess
    assert packed.fingerprint == index.fingerprint
    assert not isinstance(packed.images, DecodedImages)


def test_its_fingerprint_is_that_of_names_and_sizes(tmp_path):
    first = open_data(write(tmp_path / "a", files()), 8).fingerprint
    assert open_data(write(tmp_path / "b", files()), 16).fingerprint == first
    assert open_data(write(tmp_path / "b", {"000.png": b"another size"}), 8).fingerprint != first
    assert open_data(write(tmp_path / "a", {"new.png": b"x"}), 8).fingerprint != first


def test_what_is_neither_is_refused(tmp_path):
    with pytest.raises(DataError, match="is no folder, tar archive, list"):
        open_data(tmp_path / "none", 8)
