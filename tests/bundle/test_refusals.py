"""What a reader must refuse, for every kind of file a bundle may hold: graphs, external data, heads, golden, card."""

import json
import shutil

import pytest

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.errors import BundleFileError, FormatVersionError, ManifestError
from bootleg_bundle.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, parse_manifest
from tests.bundle.transfer.conftest import DATA_NAME, FILES, HEAD_NAME, write_full_bundle


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    return write_full_bundle(tmp_path / "bundle", tiny_bundle).path


def edit(folder, change):
    fields = json.loads((folder / MANIFEST_NAME).read_text())
    change(fields)
    (folder / MANIFEST_NAME).write_text(json.dumps(fields))


def test_a_bundle_with_head_and_external_data_is_read(folder):
    bundle = open_bundle(folder)
    assert bundle.head("road") == folder / HEAD_NAME
    assert bundle.manifest.graphs["fp32"].external_data == (DATA_NAME,)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, -1])
def test_a_flipped_bit_is_refused_by_the_files_name(folder, name, place):
    data = bytearray((folder / name).read_bytes())
    data[place] ^= 0x80
    (folder / name).write_bytes(data)
    with pytest.raises(BundleFileError, match=f"^{name} .*SHA-256"):
        open_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_its_name(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleFileError, match=f"^{name} is missing"):
        open_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_link_is_refused_by_its_name(folder, tmp_path, name):
    shutil.move(folder / name, tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleFileError, match=f"^{name} is a link"):
        open_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_the_place_of_a_file_is_refused_by_its_name(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(BundleFileError, match=f"^{name} is missing"):
        open_bundle(folder)


@pytest.mark.parametrize("path", ["../outside.onnx", "/etc/passwd", "heads/../../x", "heads//road.onnx"])
@pytest.mark.parametrize(
    "point",
    [
        lambda fields, path: fields["graphs"]["fp32"].update(file=path),
        lambda fields, path: fields["graphs"]["fp32"].update(external_data=[path]),
        lambda fields, path: fields["heads"]["road"]["graph"].update(file=path),
        lambda fields, path: fields["heads"]["road"]["graph"].update(external_data=[path]),
        lambda fields, path: fields.update(golden=path),
    ],
)
def test_a_path_outside_is_refused_with_the_path_wherever_it_stands(folder, point, path):
    edit(folder, lambda fields: point(fields, path))
    with pytest.raises(ManifestError, match="is not a plain path") as refused:
        open_bundle(folder)
    assert repr(path) in refused.value.message


@pytest.mark.parametrize(
    "point",
    [
        lambda fields: fields["graphs"]["fp32"].update(external_data=["not-listed"]),
        lambda fields: fields["heads"]["road"]["graph"].update(file="not-listed"),
        lambda fields: fields["heads"]["road"]["graph"].update(external_data=["not-listed"]),
    ],
)
def test_a_file_that_is_named_but_not_listed_is_refused_by_its_name(folder, point):
    edit(folder, point)
    with pytest.raises(ManifestError, match="'not-listed' is named by the manifest but has no entry"):
        open_bundle(folder)


def test_a_newer_format_is_refused_with_the_manifests_name(folder):
    edit(folder, lambda fields: fields.update(format_version=2, heads="of another kind"))
    with pytest.raises(FormatVersionError, match=r"^manifest\.json has format version 2"):
        open_bundle(folder)


@pytest.mark.parametrize("path", [MANIFEST_NAME, "heads", f"{DATA_NAME}/more"])
def test_files_that_cannot_lie_side_by_side_are_refused(folder, path):
    edit(folder, lambda fields: fields["files"].update({path: {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(ManifestError, match="cannot"):
        open_bundle(folder)


def test_a_manifest_over_the_limit_is_refused_unread(folder):
    raw = (folder / MANIFEST_NAME).read_bytes()
    padded = raw + b" " * (MAX_MANIFEST_BYTES - len(raw))
    assert parse_manifest(padded)
    (folder / MANIFEST_NAME).write_bytes(padded + b" " * 10**6)
    with pytest.raises(ManifestError, match="4,194,304 bytes"):
        open_bundle(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields["preprocess"].update(height="8"),
        lambda fields: fields["graphs"]["fp32"].update(opset=18.5),
        lambda fields: fields["files"][HEAD_NAME].update(bytes="5000"),
    ],
)
def test_a_text_in_the_place_of_a_number_is_refused(folder, change):
    edit(folder, change)
    with pytest.raises(ManifestError):
        open_bundle(folder)
