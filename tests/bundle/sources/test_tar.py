import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootleg_bundle.errors import DataError, ImageLimitError
from bootleg_bundle.sources import open_source
from bootleg_bundle.sources.base import LIMITS
from tests.training.data.files import write, write_tar

BYTES = st.binary(max_size=1500)  # tar pads to 512


def samples(source):
    return {sample.file: (sample.data, sample.label) for sample in source}


@settings(max_examples=25, deadline=None)
@given(contents=st.lists(BYTES, min_size=1, max_size=12), shards=st.integers(1, 3), order=st.randoms())
def test_every_image_is_read_by_its_place_in_any_order(tmp_path_factory, contents, shards, order):
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(shards):
        write_tar(folder / f"{shard}.tar", {f"{n}.jpg": data for n, data in enumerate(contents) if n % shards == shard})
    filled = range(min(shards, len(contents)))
    expected = [data for shard in filled for data in contents[shard::shards]]
    source = open_source(folder)
    numbers = list(range(len(source)))
    assert len(source) == len(contents)
    order.shuffle(numbers)
    assert [source.read(n) for n in numbers] == [expected[n] for n in numbers]
    assert [source.size(n) for n in numbers] == [len(expected[n]) for n in numbers]


def test_many_threads_read_at_once(tmp_path):
    rng = np.random.default_rng(0)
    contents = {f"{n:03}.png": rng.bytes(int(rng.integers(1, 4000))) for n in range(60)}
    source = open_source(write_tar(tmp_path / "a.tar", contents))
    numbers = rng.integers(0, 60, 1000).tolist()
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(source.read, numbers))
    assert read == [contents[f"{n:03}.png"] for n in numbers]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read_in_every_form_of_tar(tmp_path, form):
    long = "/".join(["a" * 60] * 2) if form == tarfile.USTAR_FORMAT else "b" * 300
    files = {f"{long}/ü-1.png": b"one", "2.png": b"two"}
    source = open_source(write_tar(tmp_path / "a.tar", files, format=form))
    assert samples(source) == {f"a.tar/{name}": (data, None) for name, data in files.items()}


def test_members_that_differ_in_their_extensions_are_one_sample(tmp_path):
    members = {
        "d/1.cls": b"7\n", "d/1.jpg": b"one", "d/1.txt": b"a caption",
        "d/2.JPG": b"two", "d/2.json": json.dumps({"label": "tulip", "x": [1]}).encode(),
        "d/3.json": json.dumps({"label": 5}).encode(), "d/3.seg.png": b"mask", "d/3.webp": b"three", "d/3.cls": b"rose",
        "e/1.jpg": b"other", "e/1.json": b'{"caption": "no label"}',
        "notes.txt": b"no image",
    }  # fmt: skip
    source = open_source(write_tar(tmp_path / "a.tar", members))
    assert samples(source) == {
        "a.tar/d/1.jpg": (b"one", "7"),
        "a.tar/d/2.JPG": (b"two", "tulip"),
        "a.tar/d/3.webp": (b"three", "rose"),
        "a.tar/e/1.jpg": (b"other", None),
    }


def test_a_samples_members_need_not_be_neighbours(tmp_path):
    members = {"1.jpg": b"one", "2.jpg": b"two", "1.cls": b"b", "2.cls": b"a"}
    source = open_source(write_tar(tmp_path / "a.tar", members))
    assert [sample.label for sample in source] == ["b", "a"]


def test_numbers_as_labels_give_classes_in_the_order_of_their_values(tmp_path):
    members = {f"{n}.{kind}": data for n in range(11) for kind, data in (("jpg", b"x"), ("cls", str(n).encode()))}
    assert open_source(write_tar(tmp_path / "a.tar", members)).classes == tuple(str(n) for n in range(11))


def test_the_same_key_in_two_archives_is_two_images(tmp_path):
    for shard in ("x/a.tar", "y/a.tar"):
        write_tar(tmp_path / shard, {"1.jpg": shard.encode()})
    source = open_source(f"{tmp_path}/?/a.tar")
    assert samples(source) == {"x/a.tar/1.jpg": (b"x/a.tar", None), "y/a.tar/1.jpg": (b"y/a.tar", None)}


def test_dots_in_a_name_do_no_harm_while_images_stay_apart(tmp_path):
    assert len(open_source(write_tar(tmp_path / "a.tar", {"IMG.2021.jpg": b"x"}))) == 1
    write_tar(tmp_path / "b.tar", {"IMG.2021.01.jpg": b"x", "IMG.2021.02.jpg": b"y"})
    with pytest.raises(DataError, match=r"one sample has 2 images \(IMG\.2021\.01\.jpg, IMG\.2021\.02\.jpg\)"):
        open_source(tmp_path / "b.tar")
    with pytest.raises(DataError, match="one sample has 2 images"):
        open_source(write_tar(tmp_path / "c.tar", {"1.jpg": b"x", "1.png": b"y"}))


def member(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    write_tar(tmp_path / "a.tar", {"1.png": b"x", "2.png": member("2.png", kind, "/etc/passwd")})
    with pytest.raises(DataError, match=r"'2\.png' is a link or no plain file"):
        open_source(tmp_path / "a.tar")


def test_directories_are_passed_over_and_nothing_is_extracted(tmp_path, monkeypatch):
    write_tar(tmp_path / "a.tar", {"d": member("d", tarfile.DIRTYPE), "../../up.png": b"x"})
    monkeypatch.chdir(tmp_path)
    assert open_source("a.tar").read(0) == b"x"
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def whole(tmp_path):
    write_tar(tmp_path / "a.tar", {f"{n}.png": bytes([n + 1]) * 700 for n in range(3)})
    return (tmp_path / "a.tar").read_bytes()


@pytest.mark.parametrize("at", [0, 100, 512, 600, 1024, 1536, 1600, 3 * 1536 - 1, 3 * 1536])
def test_an_archive_that_was_cut_short_is_refused(tmp_path, at):
    data = whole(tmp_path)
    assert len(open_source(tmp_path / "a.tar")) == 3
    (tmp_path / "a.tar").write_bytes(data[:at])
    with pytest.raises(DataError, match=r"a\.tar is damaged"):
        open_source(tmp_path / "a.tar")


@pytest.mark.parametrize("header", [0, 1, 2])
def test_a_damaged_header_is_refused_instead_of_ending_the_archive(tmp_path, header):
    data = bytearray(whole(tmp_path))
    data[1536 * header + 3] ^= 0xFF
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        open_source(tmp_path / "a.tar")


def test_a_size_below_zero_or_beyond_the_end_is_refused(tmp_path):
    for size in (-512, -(2**40), 2**40):
        info = tarfile.TarInfo("1.png")
        info.size = size
        (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
        with pytest.raises(DataError, match="damaged"):
            open_source(tmp_path / "a.tar")


def test_compressed_archives_are_refused_whatever_they_are_called(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("1.png"))
    write(tmp_path, {"a.tar": buffer.getvalue()})
    with pytest.raises(DataError, match="compressed"):
        open_source(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("name", "content"), [("1.cls", b"\xff\xfe"), ("1.json", b"{"), ("1.json", b"[" * 100_000), ("1.json", b"\xff")]
)
def test_a_label_that_cannot_be_read_is_refused(tmp_path, name, content):
    write_tar(tmp_path / "a.tar", {"1.jpg": b"x", name: content})
    with pytest.raises(DataError, match=rf"{name} is no UTF-8 text or no JSON"):
        open_source(tmp_path / "a.tar")


def test_a_label_of_enormous_size_is_refused(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.jpg": b"x", "1.json": b" " * (2**20 + 1)})
    with pytest.raises(DataError, match=r"1\.json has 1,048,577 bytes; the limit is 1,048,576"):
        open_source(tmp_path / "a.tar")


def test_an_image_over_the_limit_is_not_read(tmp_path, monkeypatch):
    source = open_source(write_tar(tmp_path / "a.tar", {"1.jpg": b"1234", "2.jpg": b"123"}))
    monkeypatch.setattr("bootleg_bundle.sources.base.LIMITS", LIMITS.model_copy(update={"max_bytes": 3}))
    with pytest.raises(ImageLimitError, match="4 bytes; the limit is 3"):
        source.read(0)
    assert source.read(1) == b"123"


def test_an_archive_without_images_is_refused(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.txt": b"x"})
    with pytest.raises(DataError, match="a holds no images"):
        open_source(tmp_path / "a.tar")
