from concurrent.futures import ThreadPoolExecutor

import pytest

from bootleg_bundle.errors import DataError, EmptyImageError, ImageLimitError
from bootleg_bundle.sources import open_source
from bootleg_bundle.sources.base import LIMITS
from bootleg_bundle.sources.embedded import ParquetSource

pa = pytest.importorskip("pyarrow", reason="needs bootleg-vision[parquet]")
pq = pytest.importorskip("pyarrow.parquet", reason="needs bootleg-vision[parquet]")

BYTES = [b"1", b"22", b"", b"4444", b"5"]


def written(tmp_path, *, group=2, **columns):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return open_source(path)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_column_of_bytes_is_read_by_row(tmp_path, kind):
    source = written(tmp_path, image=pa.array(BYTES, kind), label=["a", "b", "a", None, "b"])
    assert isinstance(source, ParquetSource)
    assert [source.read(n) for n in (4, 0, 3, 1, 2)] == [b"5", b"1", b"4444", b"22", b""]
    assert [source.size(n) for n in range(5)] == [1, 2, 0, 4, 1]
    assert [source.file(n) for n in range(2)] == ["00000000", "00000001"]
    assert [source.label(n) for n in range(5)] == ["a", "b", "a", None, "b"]
    assert source.classes == ("a", "b")


def test_the_layout_of_hugging_face_is_read(tmp_path):
    rows = [{"bytes": data, "path": "image.jpg"} for data in BYTES]
    source = written(tmp_path, image=rows)
    assert [source.read(n) for n in range(5)] == BYTES


def test_a_column_of_names_is_used_where_they_differ(tmp_path):
    source = written(tmp_path, image=BYTES, id=[9, 8, 7, 6, 5])
    assert [source.file(n) for n in range(5)] == ["9", "8", "7", "6", "5"]
    source = written(tmp_path, image=BYTES, id=[9, 8, 7, 6, 6])
    assert source.file(4) == "00000004"


def test_a_row_without_an_image_says_so(tmp_path):
    with pytest.raises(EmptyImageError):
        written(tmp_path, image=pa.array([b"1", None])).read(1)
    with pytest.raises(EmptyImageError):
        written(tmp_path, image=[{"bytes": b"1", "path": None}, {"bytes": None, "path": "x"}]).read(1)


def test_the_limit_on_bytes_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("bootleg_bundle.sources.base.LIMITS", LIMITS.model_copy(update={"max_bytes": 3}))
    source = written(tmp_path, image=BYTES)
    assert source.read(1) == b"22"
    with pytest.raises(ImageLimitError):
        source.read(3)


def test_threads_share_one_source(tmp_path):
    rows = [str(n).encode() for n in range(300)]
    source = written(tmp_path, group=7, image=rows)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, range(300))) == rows
    assert len(source._held) <= 2


def test_two_columns_of_bytes_and_an_empty_file_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"2 columns of bytes \(image, mask\)"):
        written(tmp_path, image=BYTES, mask=BYTES)
    with pytest.raises(DataError, match="holds no images"):
        written(tmp_path, image=pa.array([], pa.binary()))


def test_a_list_of_paths_is_still_a_list(tmp_path):
    assert not isinstance(written(tmp_path, image=["a.png", "b.png"]), ParquetSource)
