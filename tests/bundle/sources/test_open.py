import pytest

from bootleg_bundle.errors import DataError
from bootleg_bundle.sources import open_source
from tests.training.data.files import pictures, write, write_tar

ONE = pictures(1)


@pytest.mark.parametrize(
    ("files", "spec", "message"),
    [
        ({}, "none", "is no folder, tar archive, list, or hf:NAME:SPLIT"),
        ({}, "none/*.tar", "is no folder"),
        ({"data/a.txt": b""}, "data", r"holds no images; looked for \.jpeg, \.jpg, \.png, \.webp at any depth"),
        ({"a.zip": b""}, "a.zip", "neither a .tar archive"),
        ({"a.tar.gz": b""}, "a.tar.gz", "a compressed one must be unpacked first"),
        ({"a.png": b""}, "a.png", r"nor a list \(\.csv, \.tsv, \.txt, \.parquet\)"),
        ({"a.zip": b""}, "*.zip", "which is no .tar archive"),
        ({}, "{0..3}.tar", "there is no"),
        ({}, "{0..999999}.tar", "more than 100,000 archives"),
        ({}, "{0..999}{0..999}.tar", "more than 100,000 archives"),
        ({}, "hf:", "write hf:NAME:SPLIT"),
        ({}, "hf:flowers", "write hf:NAME:SPLIT"),
        ({}, "hf:flowers:", "write hf:NAME:SPLIT"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path, files, spec, message):
    write(tmp_path, files)
    with pytest.raises(DataError, match=message):
        open_source(spec if spec.startswith("hf:") else f"{tmp_path}/{spec}")


def test_an_empty_name_is_not_the_folder_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path / "data", {"a.png": b"1"}))
    with pytest.raises(DataError, match="empty name"):
        open_source("")


@pytest.fixture
def shards(tmp_path):
    for n in (0, 1, 2, 10):
        write_tar(tmp_path / f"train-{n:02}.tar", {f"{n}.png": ONE["000.png"]})
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("train-01.tar", [1]),
        ("train-*.tar", [0, 1, 2, 10]),
        ("train-0[12].tar", [1, 2]),
        ("train-{00..02}.tar", [0, 1, 2]),
        ("train-{10,01}.tar", [10, 1]),
        ("{train,train}-{10,00}.tar", [10, 0, 10, 0]),
        ("train-{1,0?}*.tar", [10, 0, 1, 2]),
        ("", [0, 1, 2, 10]),
    ],
)
def test_archives_are_named_one_by_one_by_folder_or_by_pattern(shards, pattern, found):
    source = open_source(f"{shards}/{pattern}")
    assert [source.file(n) for n in range(len(source))] == [f"train-{n:02}.tar/{n}.png" for n in found]


def test_braces_that_spell_out_a_missing_archive_name_it(shards):
    with pytest.raises(DataError, match=r"there is no .*train-03\.tar"):
        open_source(f"{shards}/train-{{00..03}}.tar")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    write_tar(tmp_path / "a[1].tar", ONE)
    assert len(open_source(tmp_path / "a[1].tar")) == 1


def test_images_in_a_folder_come_before_archives_beside_them(tmp_path):
    write(tmp_path / "data", ONE)
    write_tar(tmp_path / "data" / "copy.tar", pictures(3))
    assert len(open_source(tmp_path / "data")) == 1
