import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootleg_training.data.shards import MAX_SHARDS, Shards, ShardWriter, rows_per_shard, shard_name


def pixels(count, side=2):
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def written(folder, images, rows):
    with ShardWriter(folder, images.shape[1], rows) as writer:
        for image in images:
            writer.append(image)
    return Shards(folder, len(images), images.shape[1], rows)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 25), rows=st.integers(1, 9), data=st.data())
def test_what_was_appended_is_read_back_across_every_boundary(count, rows, data):
    images = pixels(count)
    with tempfile.TemporaryDirectory() as folder:
        shards = written(Path(folder), images, rows)
        assert len(list(Path(folder).iterdir())) == -(-count // rows)
        np.testing.assert_array_equal(shards[:], images)
        index = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=30)), np.int64)
        np.testing.assert_array_equal(shards[index], images[index])
        start = data.draw(st.integers(0, count))
        np.testing.assert_array_equal(shards[start : start + rows + 1], images[start : start + rows + 1])


def test_every_shard_is_a_plain_npy_file_of_a_bounded_size(tmp_path):
    images = pixels(10)
    written(tmp_path, images, 4)
    read = [np.load(tmp_path / shard_name(n), allow_pickle=False) for n in range(3)]
    assert [len(array) for array in read] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(read), images)


def test_a_full_shard_is_finished_before_the_next_begins(tmp_path):
    with ShardWriter(tmp_path, 2, 3) as writer:
        for image in pixels(3):
            writer.append(image)
        assert len(np.load(tmp_path / shard_name(0))) == 3
        assert not (tmp_path / shard_name(1)).exists()


def test_a_read_only_or_turned_image_is_written_as_it_looks(tmp_path):
    image = pixels(1)[0].transpose(1, 0, 2)
    image.flags.writeable = False
    np.testing.assert_array_equal(written(tmp_path, image[None], 4)[0], image)


def test_shards_that_do_not_belong_together_are_refused(tmp_path):
    written(tmp_path, pixels(5), 2)
    with pytest.raises(ValueError, match="images-00002"):
        Shards(tmp_path, 6, 2, 2)
    with pytest.raises(ValueError, match="images-00000"):
        Shards(tmp_path, 5, 3, 2)
    (tmp_path / shard_name(1)).unlink()
    with pytest.raises(FileNotFoundError):
        Shards(tmp_path, 5, 2, 2)


def test_shards_have_a_fixed_size_until_there_would_be_too_many():
    assert rows_per_shard(10, 32, 3 * 32 * 32 * 7 + 1) == 7
    assert rows_per_shard(10, 1024, 1) == 1
    assert rows_per_shard(100_000, 256) == 2**30 // (3 * 256 * 256)
    huge = 50_000_000
    assert -(-huge // rows_per_shard(huge, 256)) <= MAX_SHARDS
