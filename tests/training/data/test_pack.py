import json

import numpy as np
import pytest

from bootleg_bundle.errors import DataError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_bundle.sources import open_source
from bootleg_training.data.pack import open_pack, read_index
from bootleg_training.data.prepare import Options, write_pack
from tests.training.data.files import pictures, silent, write

OLD_FIELDS = {
    "name": "old",
    "fingerprint": "f" * 64,
    "preprocess": PreprocessSpec(height=16, width=16).model_dump(mode="json"),
    "classes": ["a", "b"],
    "labels": [0, 1, 1],
    "files": ["a/1.png", "b/1.png", "b/2.png"],
    "skipped": {"b/3.png": "corrupt"},
}
OLD_IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def old(tmp_path):
    """A pack of the first format: one array, and an index without a version."""
    (tmp_path / "old").mkdir()
    np.save(tmp_path / "old" / "images.npy", OLD_IMAGES)
    (tmp_path / "old" / "pack.json").write_text(json.dumps(OLD_FIELDS))
    return tmp_path / "old"


@pytest.fixture
def new(tmp_path):
    source = open_source(write(tmp_path / "data", pictures(7)))
    write_pack(source, tmp_path / "new", 16, options=Options(shard_bytes=3 * 16 * 16 * 3), progress=silent)
    return tmp_path / "new"


def change(pack, **fields):
    path = pack / "pack.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_pack_of_the_first_format_is_still_read(old):
    pack = open_pack(old)
    np.testing.assert_array_equal(pack.images, OLD_IMAGES)
    np.testing.assert_array_equal(pack.images[np.array([2, 0])], OLD_IMAGES[[2, 0]])
    assert (pack.name, pack.fingerprint, pack.classes, pack.side) == ("old", "f" * 64, ("a", "b"), 16)
    assert pack.labels.tolist() == [0, 1, 1]
    assert isinstance(pack.images, np.memmap)
    index = read_index(old)
    assert (index.format_version, index.rows_per_shard, index.duplicates, index.mean) == (1, None, [], None)


def test_a_new_pack_says_its_format(new):
    assert read_index(new).format_version == 2
    assert len(list(new.glob("images-*.npy"))) == 3
    assert open_pack(new).images.shape == (7, 16, 16, 3)


@pytest.mark.parametrize("fields", [{"format_version": 3}, {"format_version": 4, "field_of_the_future": 1}])
def test_a_later_format_is_refused_by_its_number(new, fields):
    change(new, **fields)
    with pytest.raises(DataError, match=rf"format version {fields['format_version']}; this release reads up to 2"):
        open_pack(new)


@pytest.mark.parametrize("fields", [{"format_version": 0}, {"format_version": "x"}, {"unknown": 1}, {"files": None}])
def test_an_index_that_does_not_fit_the_schema_is_damaged(new, fields):
    change(new, **fields)
    with pytest.raises(DataError, match="is damaged: make it again"):
        open_pack(new)


def test_an_index_that_is_no_json_is_damaged(new):
    (new / "pack.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        open_pack(new)


def test_images_that_do_not_fit_the_index_are_damaged(new, old):
    change(new, files=["one"])
    change(old, files=["one"])
    for pack in (new, old):
        with pytest.raises(DataError, match="is damaged"):
            open_pack(pack)


@pytest.mark.parametrize("damage", ["unlink", "cut", "nonsense"])
def test_a_damaged_or_missing_shard_is_named_damaged(new, old, damage):
    for path in (new / "images-00001.npy", old / "images.npy"):
        content = path.read_bytes()
        path.unlink()
        if damage != "unlink":
            path.write_bytes(content[:-1] if damage == "cut" else b"nonsense")
        with pytest.raises(DataError, match="is damaged"):
            open_pack(path.parent)


def test_a_folder_that_is_no_pack_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="is no pack: make one with `bootleg prepare"):
        open_pack(tmp_path)
