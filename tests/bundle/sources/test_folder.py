import os
import sys
from pathlib import Path

import pytest

from bootleg_bundle.errors import ImageLimitError
from bootleg_bundle.sources import open_source
from bootleg_bundle.sources.base import LIMITS, listing_fingerprint
from bootleg_bundle.sources.folder import find_images
from tests.training.data.files import write

FILES = {"b/1.png": b"1", "a-b/2.JPG": b"22", "a/x/3.webp": b"333", "a/4.jpeg": b"4444", "top.png": b"5"}


def test_images_are_found_at_any_depth_directory_by_directory(tmp_path):
    write(tmp_path / "data", {**FILES, "a/notes.txt": b"x", "labels.tiff": b"y", ".png": b"", "empty/gif.gif": b""})
    assert find_images(tmp_path / "data") == [".png", "a/4.jpeg", "a/x/3.webp", "a-b/2.JPG", "b/1.png", "top.png"]
    paths = sorted(p for p in (tmp_path / "data").rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    below = [path.relative_to(tmp_path / "data").as_posix() for path in paths]
    assert below == find_images(tmp_path / "data")[1:]  # as packs of the first format were ordered


def test_a_folder_is_read_by_number(tmp_path):
    source = open_source(write(tmp_path / "data", FILES))
    assert source.name == "data"
    assert len(source) == len(FILES)
    assert {sample.file: sample.data for sample in source} == FILES
    assert [source.size(n) for n in range(len(source))] == [len(sample.data) for sample in source]
    labels = {sample.file: sample.label for sample in source}
    assert labels == {"b/1.png": "b", "a-b/2.JPG": "a-b", "a/x/3.webp": "x", "a/4.jpeg": "a", "top.png": None}


def test_the_name_is_the_folders_own_even_when_it_is_given_as_a_dot(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path / "flowers", FILES))
    assert open_source(Path()).name == "flowers"


def test_links_to_files_are_followed_and_links_to_directories_are_not(tmp_path):
    write(tmp_path / "data", {"a/1.png": b"1"})
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "2.png").symlink_to(tmp_path / "data" / "a" / "1.png")
    (tmp_path / "data" / "3.png").symlink_to(tmp_path / "nowhere")
    assert find_images(tmp_path / "data") == ["2.png", "a/1.png"]


def test_a_file_over_the_limit_is_not_read(tmp_path, monkeypatch):
    source = open_source(write(tmp_path / "data", FILES))
    monkeypatch.setattr("bootleg_bundle.sources.base.LIMITS", LIMITS.model_copy(update={"max_bytes": 3}))
    with pytest.raises(ImageLimitError, match="4 bytes; the limit is 3"):
        source.read(0)


def test_a_file_that_went_away_is_an_error_of_the_system(tmp_path):
    source = open_source(write(tmp_path / "data", FILES))
    (tmp_path / "data" / "a" / "4.jpeg").unlink()
    with pytest.raises(FileNotFoundError):
        source.read(0)


def test_a_name_that_is_no_utf8_is_read_and_written_in_ascii(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"1")
    source = open_source(tmp_path)
    assert source[0] == ("caf\\xe9/\\xff.png", b"1", "caf\\xe9")
    assert len(listing_fingerprint(source)) == 64


def test_folders_may_be_nested_deeper_than_calls_may(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    depth = sys.getrecursionlimit() + 50
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    Path("1.png").write_bytes(b"1")
    found = find_images(tmp_path)
    Path("1.png").unlink()
    for _ in range(depth):  # pytest's own clearing calls itself for each
        os.chdir("..")
        Path("d").rmdir()
    assert found == ["d/" * depth + "1.png"]


def test_a_link_to_itself_is_no_image(tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "1.png").write_bytes(b"1")
    assert find_images(tmp_path) == ["1.png"]
