import sys

import numpy as np
import pytest

from bootleg_bundle.errors import DataError, EmptyImageError
from bootleg_bundle.sources import open_source
from bootleg_bundle.sources.hub import HubSource
from tests import images

JPEGS = [images.jpeg(images.scene(seed=seed)) for seed in range(5)]


@pytest.fixture(scope="module")
def datasets():
    return pytest.importorskip("datasets", reason="needs bootleg-vision[hf]")


@pytest.fixture
def make(datasets):
    def dataset(rows=JPEGS, label=None, kind=None, **more):
        columns = {"picture": [{"bytes": row, "path": None} if isinstance(row, bytes) else row for row in rows]}
        features = {"picture": datasets.Image(), **{name: datasets.Image() for name in more}}
        if label is not None:
            columns["label"], features["label"] = label, kind
        return datasets.Dataset.from_dict({**columns, **more}, features=datasets.Features(features))

    return dataset


def test_a_saved_data_set_gives_its_bytes_as_they_are_stored(make, tmp_path):
    make().save_to_disk(tmp_path / "flowers")
    source = open_source(tmp_path / "flowers")
    assert source.name == "flowers"
    assert [sample.data for sample in source] == JPEGS
    assert [source.size(n) for n in range(5)] == [len(data) for data in JPEGS]
    assert [sample.file for sample in source] == [f"{n:08}" for n in range(5)]
    assert [sample.label for sample in source] == [None] * 5


def test_a_shuffled_data_set_is_read_in_its_own_order(make):
    order = [3, 0, 4, 1, 2]
    source = HubSource(make().select(order), "s")
    assert [sample.data for sample in source] == [JPEGS[n] for n in order]
    assert [source.size(n) for n in range(5)] == [len(JPEGS[n]) for n in order]


def test_class_labels_keep_their_names_and_their_order(make, datasets):
    names = ("tulip", "rose", "never seen")
    source = HubSource(make(label=[1, 0, 0, 1, 1], kind=datasets.ClassLabel(names=list(names))), "s")
    assert [source.label(n) for n in range(5)] == ["rose", "tulip", "tulip", "rose", "rose"]
    assert source.classes == names


def test_the_hidden_labels_of_a_test_split_are_none(make, datasets):
    source = HubSource(make(label=[-1] * 5, kind=datasets.ClassLabel(names=["a", "b"])), "s")
    assert [source.label(n) for n in range(5)] == [None] * 5


def test_a_plain_column_called_label_counts_too(make, datasets):
    source = HubSource(make(label=[10, 9, 10, 9, None], kind=datasets.Value("int64")), "s")
    assert [source.label(n) for n in range(5)] == ["10", "9", "10", "9", None]
    assert source.classes == ("9", "10")


def test_rows_may_name_files_and_may_be_empty(make, tmp_path):
    (tmp_path / "x.jpg").write_bytes(JPEGS[1])
    rows = [JPEGS[0], {"bytes": None, "path": str(tmp_path / "x.jpg")}, None]
    source = HubSource(make(rows), "s")
    assert [source.read(n) for n in range(2)] == JPEGS[:2]
    assert source.size(1) == len(JPEGS[1])
    with pytest.raises(EmptyImageError, match="the row holds no image"):
        source.read(2)


def test_pixels_in_the_data_set_are_encoded_by_the_library_once_when_it_is_made(datasets, tmp_path):
    pixels = images.scene(8, 8)
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": [pixels]}, features=features).save_to_disk(tmp_path / "d")
    from bootleg_bundle.images import decode

    np.testing.assert_array_equal(decode(open_source(tmp_path / "d").read(0)), pixels)


def test_a_data_set_without_rows_or_with_other_than_one_column_of_images_is_refused(make, datasets):
    with pytest.raises(DataError, match="it has 5 rows, and picture, other"):
        HubSource(make(other=[{"bytes": data, "path": None} for data in JPEGS]), "s")
    with pytest.raises(DataError, match="it has 1 rows, and none"):
        HubSource(datasets.Dataset.from_dict({"x": [1]}), "s")
    with pytest.raises(DataError, match="it has 0 rows, and picture"):
        HubSource(make([]), "s")


def test_several_splits_are_answered_with_their_names(make, datasets, tmp_path):
    datasets.DatasetDict({"train": make(), "test": make(JPEGS[:1])}).save_to_disk(tmp_path / "d")
    with pytest.raises(DataError, match=r"holds the splits test, train: name one, such as .*d/test"):
        open_source(tmp_path / "d")
    assert len(open_source(tmp_path / "d" / "test")) == 1


def test_a_damaged_data_set_is_refused(make, tmp_path):
    make().save_to_disk(tmp_path / "d")
    (tmp_path / "d" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="the datasets library answers with"):
        open_source(tmp_path / "d")


def test_a_data_set_is_opened_by_name_and_split(make, datasets, monkeypatch):
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return make()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = open_source("hf:owner/flowers:train")
    assert asked == [("owner/flowers", "train")]
    assert source.name == "owner/flowers:train"
    assert source.read(2) == JPEGS[2]


def test_a_data_set_that_cannot_be_had_is_refused(datasets, monkeypatch):
    def load_dataset(name, split):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"hf:x:train cannot be opened: the datasets library answers with Connection"):
        open_source("hf:x:train")


def test_without_the_library_the_answer_is_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "state.json").write_text("{}")
    for spec in (tmp_path, "hf:x:train"):
        with pytest.raises(DataError, match=r"needs datasets: pip install 'bootleg-vision\[hf\]'"):
            open_source(spec)
