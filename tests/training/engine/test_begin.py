"""What a run refuses before it begins, and its record of how it began."""

import json

import pytest

from bootleg_bundle.errors import ConfigError, DataError
from bootleg_training.engine.begin import BEGAN, beginning, check_folder, check_pack, read_beginning, write_beginning
from tests.training.tiny import CPU, tiny_config, tiny_pack


@pytest.mark.parametrize(
    ("name", "what"), [("pack.json", "a pack"), ("encoder.safetensors", "a checkpoint"), ("manifest.json", "a bundle")]
)
def test_a_folder_that_is_something_else_is_refused(tmp_path, name, what):
    (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=f"is {what}: choose another folder"):
        check_folder(tmp_path, None)


def test_the_folder_of_the_images_is_refused_by_any_name(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    with pytest.raises(ConfigError, match="is where the images are"):
        check_folder(tmp_path / "images" / ".." / "images", images)
    check_folder(tmp_path / "run", images)
    check_folder(tmp_path, tmp_path / "no such file")


@pytest.fixture
def begun(tmp_path, pack):
    began = beginning(pack, CPU, data_path=tmp_path, init=None, processes=1)
    write_beginning(tmp_path, began, tiny_config())
    return tmp_path


def test_the_record_is_read_back_and_none_is_none(begun, pack, tmp_path):
    began = read_beginning(begun, pack)
    assert began["data"]["path"] == str(begun)
    assert began["data"]["fingerprint"] == pack.fingerprint
    assert read_beginning(tmp_path / "elsewhere", pack) is None
    assert json.loads((begun / "config.json").read_text()) == tiny_config().model_dump(mode="json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"data": 1}', b'{"data": {"name": "x"}}', b"\xff"])
def test_a_damaged_record_is_refused_by_its_name(begun, pack, content):
    (begun / BEGAN).write_bytes(content)
    with pytest.raises(DataError, match=r"began\.json is damaged"):
        read_beginning(begun, pack)


def test_a_record_without_its_provenance_is_damaged(begun, pack):
    fields = json.loads((begun / BEGAN).read_text())
    del fields["commit"]
    (begun / BEGAN).write_text(json.dumps(fields))
    with pytest.raises(DataError, match=r"began\.json is damaged"):
        read_beginning(begun, pack)


def test_other_images_are_refused(begun, pack):
    with pytest.raises(DataError, match=pack.fingerprint[:12]):
        read_beginning(begun, tiny_pack(39))


def test_one_image_is_no_data_set():
    with pytest.raises(DataError, match="the pack has 1 image: a run needs 2"):
        check_pack(tiny_config(batch_size=1), tiny_pack(1))
