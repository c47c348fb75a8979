import sys

import pytest

from bootleg_bundle.errors import DataError
from bootleg_bundle.sources import open_source
from tests.training.data.files import write

FILES = {"img/1.png": b"1", "img/deep/2.jpg": b"22", "img/3": b"333"}


def listed(tmp_path, name, text):
    write(tmp_path, {**FILES, name: text if isinstance(text, bytes) else text.encode()})
    return open_source(tmp_path / name)


def rows(source):
    return [(source.file(n), source.label(n)) for n in range(len(source))]


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("a.csv", "path,label\nimg/1.png,cat\nimg/3,dog\n", ["cat", "dog"]),
        ("a.csv", "\ufeffid, Label ,FILE_NAME\r\n9,cat, img/1.png\r\n\r\n8,,img/3\r\n", ["cat", None]),
        ("a.csv", 'path,class\n"img/1.png","a, b"\nimg/3,c\n', ["a, b", "c"]),
        ("a.csv", "image\nimg/1.png\nimg/3\n", [None, None]),
        ("a.csv", "path,label\nimg/1.png\nimg/3,x\n", [None, "x"]),
        ("a.tsv", "path\tlabel\nimg/1.png\t1\nimg/3\t2\n", ["1", "2"]),
        ("a.txt", "img/1.png\n\n  img/3\n", [None, None]),
    ],
)
def test_lists_name_files_relative_to_themselves(tmp_path, name, text, labels):
    source = listed(tmp_path, name, text)
    assert rows(source) == list(zip(["img/1.png", "img/3"], labels, strict=True))
    assert [sample.data for sample in source] == [b"1", b"333"]
    assert [source.size(n) for n in range(2)] == [1, 3]
    assert source.name == "a"


def test_the_order_is_the_lists(tmp_path):
    source = listed(tmp_path, "a.csv", "path\nimg/3\nimg/deep/2.jpg\nimg/1.png\n")
    assert [sample.data for sample in source] == [b"333", b"22", b"1"]


def test_an_absolute_path_is_taken_as_it_is(tmp_path):
    write(tmp_path / "elsewhere", {"x.png": b"x"})
    source = listed(tmp_path / "lists", "a.csv", f"path\n{tmp_path}/elsewhere/x.png\n")
    assert source.read(0) == b"x"


def test_a_missing_file_is_found_out_when_it_is_read(tmp_path):
    source = listed(tmp_path, "a.csv", "path\nimg/1.png\nimg/none.png\n")
    assert source.read(0) == b"1"
    with pytest.raises(FileNotFoundError):
        source.read(1)


def test_numbers_as_labels_give_classes_in_the_order_of_their_values(tmp_path):
    source = listed(tmp_path, "a.csv", "path,label\nimg/1.png,10\nimg/3,9\n")
    assert source.classes == ("9", "10")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "no column of paths: call it one of path, .*; its columns are none"),
        ("a.csv", "x,y\n1,2\n", "its columns are x, y"),
        ("a.csv", "path\n", "lists no images"),
        ("a.txt", "\n", "lists no images"),
        ("a.csv", "path,label\nimg/1.png,a\n,b\n", "image 2 has no path"),
        ("a.csv", "path\na\nb\na\n", "lists a twice, as image 1 and image 3"),
        ("a.csv", b"path\n\xff\xfe\n", "no UTF-8 list"),
        ("a.csv", 'path\n"a\n', "no UTF-8 list of columns"),
        ("a.txt", b"\xff", "no UTF-8 list"),
        ("a.parquet", b"not parquet", "no parquet file"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(tmp_path, name, text, message):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="needs bootleg-vision[parquet]")
    with pytest.raises(DataError, match=message):
        listed(tmp_path, name, text)


@pytest.fixture
def parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="needs bootleg-vision[parquet]")
    from pyarrow import parquet

    def make(columns):
        write(tmp_path, FILES)
        parquet.write_table(arrow.table(columns), tmp_path / "a.parquet")
        return open_source(tmp_path / "a.parquet")

    return make


def test_parquet_is_read_like_csv(parquet):
    source = parquet({"id": [1, 2], "path": ["img/3", "img/1.png"], "label": ["b", None]})
    assert rows(source) == [("img/3", "b"), ("img/1.png", None)]
    assert [sample.data for sample in source] == [b"333", b"1"]


def test_parquets_labels_may_be_numbers_or_absent(parquet):
    assert rows(parquet({"path": ["img/3", "x"], "class": [10, 9]})) == [("img/3", "10"), ("x", "9")]
    assert rows(parquet({"file": ["img/3"]})) == [("img/3", None)]


def test_a_parquet_list_that_cannot_be_used_says_why(parquet):
    with pytest.raises(DataError, match="its columns are x"):
        parquet({"x": [1]})
    with pytest.raises(DataError, match="image 2 has no path"):
        parquet({"path": ["a", None]})
    with pytest.raises(DataError, match="lists no images"):
        parquet({"path": []})


@pytest.mark.parametrize("values", [[1, 2], [["a.png"]], [{"a": "b"}], [True]])
def test_a_column_of_paths_that_holds_no_text_is_refused_without_its_content(parquet, values):
    with pytest.raises(DataError, match=r"the column path holds .*, not paths in text"):
        parquet({"path": values})


def test_a_null_character_in_a_path_is_refused_by_its_place(tmp_path):
    with pytest.raises(DataError, match="the path of image 2 holds a null character"):
        open_source(listed(tmp_path, "list.txt", "a.png\nb\0.png\n"))


def test_without_pyarrow_the_answer_is_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"needs pyarrow: pip install 'bootleg-vision\[parquet\]'"):
        listed(tmp_path, "a.parquet", b"")
