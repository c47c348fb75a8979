import json
import shutil

import numpy as np
import pytest

from bootleg_bundle.bundle import default_bundle_path, file_sha256, open_bundle, write_bundle
from bootleg_bundle.errors import BundleFileError, FormatVersionError, ManifestError
from bootleg_bundle.manifest import (
    GOLDEN_NAME,
    MANIFEST_NAME,
    Manifest,
    Probe,
    embedding_space_id,
    parse_manifest,
)
from bootleg_bundle.preprocess import PreprocessSpec
from tests import bundles

FILES = [bundles.GRAPH_NAME, GOLDEN_NAME]
SPEC = PreprocessSpec(height=32, width=32)


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(tiny_bundle.path, tmp_path / "bundle")


def edit(folder, change):
    """Rewrite ``manifest.json`` after ``change`` has seen its fields."""
    path = folder / MANIFEST_NAME
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def test_a_bundle_is_read_as_it_was_written(folder):
    fields = bundles.manifest_fields(probes=(Probe(probe="knn", dataset="d", value=0.5),))
    written = write_bundle(folder, fields, FILES)
    read = open_bundle(folder)
    assert read.manifest == written.manifest
    assert read.sha256 == written.sha256 == file_sha256(folder / MANIFEST_NAME)
    for name, value in fields.items():
        assert getattr(read.manifest, name) == value


def test_a_bundle_names_its_files(tiny_bundle):
    assert tiny_bundle.graph("fp32") == tiny_bundle.path / bundles.GRAPH_NAME
    with np.load(tiny_bundle.file(GOLDEN_NAME)) as golden:
        assert set(golden) == {"pixels", "embedding", "patch_tokens", "layers"}
    with pytest.raises(AssertionError, match=r"other\.onnx"):
        tiny_bundle.file("other.onnx")


def test_files_in_directories_of_the_bundle_are_read(folder):
    (folder / "heads").mkdir()
    (folder / "heads" / "road.onnx").write_bytes(b"head")
    written = write_bundle(folder, bundles.manifest_fields(), [*FILES, "heads/road.onnx"])
    assert written.file("heads/road.onnx").read_bytes() == b"head"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_one_flipped_bit_in_any_file_is_refused_by_the_files_name(folder, name, place):
    data = bytearray((folder / name).read_bytes())
    data[place if isinstance(place, int) else int(place * len(data))] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleFileError, match=f"^{name} .*SHA-256"):
        open_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_length_is_refused_with_both_lengths(folder, name):
    size = (folder / name).stat().st_size
    with (folder / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleFileError, match=f"{name} has {size + 1:,} bytes; the manifest says {size:,}"):
        open_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_its_name(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleFileError, match=f"{name} is missing"):
        open_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_link_is_refused_even_to_the_right_content(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleFileError, match=f"{name} is a link"):
        open_bundle(folder)


def test_a_file_below_a_linked_directory_is_refused(folder, tmp_path):
    (folder / "heads").mkdir()
    (folder / "heads" / "road.onnx").write_bytes(b"head")
    write_bundle(folder, bundles.manifest_fields(), [*FILES, "heads/road.onnx"])
    (folder / "heads").rename(tmp_path / "heads")
    (folder / "heads").symlink_to(tmp_path / "heads")
    with pytest.raises(BundleFileError, match=r"heads/road\.onnx is a link"):
        open_bundle(folder)


def test_a_linked_manifest_is_refused(folder, tmp_path):
    (folder / MANIFEST_NAME).rename(tmp_path / "elsewhere")
    (folder / MANIFEST_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match=MANIFEST_NAME):
        open_bundle(folder)


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "a/../../b", "a\\b", "./a", "a//b", "a/", ""])
def test_a_path_outside_or_not_plain_is_refused(folder, path):
    edit(folder, lambda fields: fields["files"].update({path: fields["files"][GOLDEN_NAME]}))
    with pytest.raises(ManifestError, match=r"files.*is not a plain path inside the bundle"):
        open_bundle(folder)


@pytest.mark.parametrize("path", [".", "nul\0byte", "long" * 100])
def test_a_strange_path_is_refused_like_any_other(folder, path):
    edit(folder, lambda fields: fields["files"].update({path: fields["files"][GOLDEN_NAME]}))
    with pytest.raises((ManifestError, BundleFileError)):
        open_bundle(folder)


def test_a_newer_format_is_refused_with_both_versions(folder):
    edit(folder, lambda fields: fields.update(format_version=2, invented_later=True))
    with pytest.raises(FormatVersionError, match="format version 2; this program reads up to 1"):
        open_bundle(folder)


@pytest.mark.parametrize("version", [0, -1, "1", 1.5, None, []])
def test_a_format_version_that_never_was_is_refused(folder, version):
    edit(folder, lambda fields: fields.update(format_version=version))
    with pytest.raises(ManifestError, match="format_version"):
        open_bundle(folder)


@pytest.mark.parametrize("where", [None, "architecture", "preprocess", "outputs", "provenance"])
def test_an_unknown_field_is_refused_by_its_name(folder, where):
    edit(folder, lambda fields: (fields if where is None else fields[where]).update(surprise=1))
    with pytest.raises(ManifestError, match="surprise"):
        open_bundle(folder)


@pytest.mark.parametrize("name", sorted(set(Manifest.model_fields) - {"golden", "heads", "probes", "tasks"}))
def test_a_missing_field_is_refused_by_its_name(folder, name):
    edit(folder, lambda fields: fields.pop(name))
    with pytest.raises(ManifestError, match=name):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: f.update(name="Not A Name"), "name"),
        (lambda f: f.update(name=""), "name"),
        (lambda f: f["graphs"].clear(), "fp32"),
        (lambda f: f["graphs"]["fp32"].update(file="other.onnx"), r"other\.onnx"),
        (lambda f: f.update(golden="other.npz"), r"other\.npz"),
        (lambda f: f["files"][GOLDEN_NAME].update(sha256="F" * 64), "sha256"),
        (lambda f: f["files"][GOLDEN_NAME].update(bytes=-1), "bytes"),
        (lambda f: f["outputs"].update(grid=[0, 2]), "grid"),
        (lambda f: f["architecture"].update(width=0), "width"),
        (lambda f: f["preprocess"].update(height=4), "height"),
    ],
)
def test_a_field_out_of_bounds_is_refused_by_its_name(folder, change, named):
    edit(folder, change)
    with pytest.raises(ManifestError, match=named):
        open_bundle(folder)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[]", b"1", b"null", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(raw):
    with pytest.raises(ManifestError, match="manifest"):
        parse_manifest(raw)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ManifestError, match=MANIFEST_NAME):
            open_bundle(path)


def test_files_that_the_manifest_does_not_list_are_left_alone(folder):
    (folder / "notes.txt").write_text("mine")
    assert open_bundle(folder).manifest.name == "tiny"


def test_the_bundles_hash_changes_with_any_file(folder, tiny_bundle):
    with (folder / bundles.GRAPH_NAME).open("ab") as file:
        file.write(b"\0")
    assert write_bundle(folder, bundles.manifest_fields(), FILES).sha256 != tiny_bundle.sha256


def test_the_embedding_space_never_changes_for_the_same_vectors():
    assert embedding_space_id("0" * 64, SPEC, "mean") == "es1-ff38fae197c59bca92a5d062393d8540"


def test_the_embedding_space_changes_with_weights_preprocessing_and_pooling():
    spaces = [
        embedding_space_id("0" * 64, SPEC, "mean"),
        embedding_space_id("1" * 64, SPEC, "mean"),
        embedding_space_id("0" * 64, SPEC.model_copy(update={"crop_ratio": 0.9}), "mean"),
        embedding_space_id("0" * 64, SPEC, "cls"),
    ]
    assert len(set(spaces)) == len(spaces)


def test_the_embedding_space_outlives_everything_else(folder, tiny_bundle):
    # Another name, another file layout, another parity report: the same vectors.
    fields = bundles.manifest_fields(name="renamed", parity=())
    with (folder / bundles.GRAPH_NAME).open("ab") as file:
        file.write(b"\0")
    again = write_bundle(folder, fields, FILES)
    assert again.manifest.embedding_space == tiny_bundle.manifest.embedding_space
    assert again.sha256 != tiny_bundle.sha256


def test_the_default_bundle_lies_in_the_package():
    assert default_bundle_path().parent.name == "bootleg_bundle"
