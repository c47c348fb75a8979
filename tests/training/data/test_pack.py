import json
from functools import partial

import numpy as np
import pytest

from bootleg_bundle.errors import DataError
from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_training.data.pack import find_images, open_pack, write_pack
from tests import images


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


prepare = partial(write_pack, side=16, progress=lambda items, total: items)
LABELLED = {
    "cats/1.png": images.png(images.scene(seed=1)),
    "cats/2.jpg": images.jpeg(images.scene(seed=2)),
    "dogs/1.webp": images.webp(images.scene(seed=3)),
}


def test_images_are_packed_upright_and_resized_in_the_order_of_their_names(tmp_path):
    files = {**LABELLED, "cats/0.PNG": images.png(images.scene(seed=4), orientation=6)}
    pack, skipped = prepare(write(tmp_path / "data", files), tmp_path / "pack")
    spec = PreprocessSpec(height=16, width=16)
    assert skipped == {}
    assert pack.side == 16
    names = json.loads((tmp_path / "pack" / "pack.json").read_text())["files"]
    assert names == sorted(files)
    for name, picture in zip(names, pack.images, strict=True):
        np.testing.assert_array_equal(picture, apply(spec, decode(files[name])))


def test_directories_give_labels(tmp_path):
    pack, _ = prepare(write(tmp_path / "data", LABELLED), tmp_path / "pack")
    assert pack.classes == ("cats", "dogs")
    assert pack.labels.tolist() == [0, 0, 1]
    assert pack.labels.dtype == np.int64


def test_the_nearest_directory_is_the_label_at_any_depth(tmp_path):
    files = {f"train/{name}": data for name, data in LABELLED.items()}
    pack, _ = prepare(write(tmp_path / "data", files), tmp_path / "pack")
    assert pack.classes == ("cats", "dogs")


@pytest.mark.parametrize("files", [{"1.png": images.png(), "2.png": images.png()}, {"a/1.png": images.png()}])
def test_images_without_class_directories_have_no_labels(tmp_path, files):
    pack, _ = prepare(write(tmp_path / "data", files), tmp_path / "pack")
    assert pack.labels is None
    assert pack.classes == ()


def test_an_image_beside_the_class_directories_takes_all_labels_away(tmp_path):
    pack, _ = prepare(write(tmp_path / "data", {**LABELLED, "stray.png": images.png()}), tmp_path / "pack")
    assert pack.labels is None


def test_a_corrupt_file_is_left_out_and_listed_with_its_reason(tmp_path):
    files = {**LABELLED, "cats/1a.jpg": images.jpeg()[:200], "dogs/0.png": b"", "dogs/2.png": images.apng()}
    pack, skipped = prepare(write(tmp_path / "data", files), tmp_path / "pack")
    assert set(skipped) == {"cats/1a.jpg", "dogs/0.png", "dogs/2.png"}
    assert "corrupt" in skipped["cats/1a.jpg"]
    assert "0 bytes" in skipped["dogs/0.png"]
    assert "2 frames" in skipped["dogs/2.png"]
    assert pack.images.shape == (3, 16, 16, 3)
    assert pack.labels.tolist() == [0, 0, 1]
    assert json.loads((tmp_path / "pack" / "pack.json").read_text())["skipped"] == skipped
    clean, _ = prepare(write(tmp_path / "clean", LABELLED), tmp_path / "clean-pack")
    np.testing.assert_array_equal(pack.images, clean.images)


def test_files_that_are_no_images_by_name_are_not_looked_at(tmp_path):
    folder = write(tmp_path / "data", {**LABELLED, "cats/notes.txt": b"x", "labels.csv": b"y"})
    assert [path.name for path in find_images(folder)] == ["1.png", "2.jpg", "1.webp"]


def test_a_pack_reads_back_as_it_was_written(tmp_path):
    written, _ = prepare(write(tmp_path / "data", LABELLED), tmp_path / "pack", name="pets")
    read = open_pack(tmp_path / "pack")
    np.testing.assert_array_equal(read.images, written.images)
    np.testing.assert_array_equal(read.labels, written.labels)
    assert (read.name, read.classes, read.fingerprint) == ("pets", written.classes, written.fingerprint)


def test_the_name_is_the_folders_unless_given(tmp_path):
    assert prepare(write(tmp_path / "data", LABELLED), tmp_path / "pack")[0].name == "data"


def test_the_fingerprint_is_that_of_names_and_content(tmp_path):
    def fingerprint(name, files, **options):
        return write_pack(
            write(tmp_path / name, files),
            tmp_path / f"{name}-pack",
            **{"side": 16, **options},
            progress=lambda items, total: items,
        )[0].fingerprint

    first = fingerprint("a", LABELLED)
    assert fingerprint("elsewhere", LABELLED) == first
    assert fingerprint("larger", LABELLED, side=32) == first
    assert fingerprint("content", {**LABELLED, "cats/1.png": images.png(images.scene(seed=9))}) != first
    renamed = {("cats/0.png" if name == "cats/1.png" else name): data for name, data in LABELLED.items()}
    assert fingerprint("renamed", renamed) != first
    assert fingerprint("fewer", dict(list(LABELLED.items())[:2])) != first


def test_an_existing_pack_is_not_overwritten(tmp_path):
    folder = write(tmp_path / "data", LABELLED)
    prepare(folder, tmp_path / "pack")
    with pytest.raises(DataError, match="exists already"):
        prepare(folder, tmp_path / "pack")


def test_a_folder_that_is_none_or_empty_is_refused(tmp_path):
    with pytest.raises(DataError, match="is no folder"):
        prepare(tmp_path / "none", tmp_path / "pack")
    with pytest.raises(DataError, match=r"holds no images; looked for \.jpeg, \.jpg, \.png, \.webp"):
        prepare(write(tmp_path / "data", {"a.txt": b""}), tmp_path / "pack")


def test_a_folder_of_corrupt_images_alone_is_refused_and_leaves_no_pack(tmp_path):
    with pytest.raises(DataError, match="none of the 2 images"):
        prepare(write(tmp_path / "data", {"a.png": b"no", "b.jpg": b"no"}), tmp_path / "pack")
    assert not (tmp_path / "pack").exists()
    with pytest.raises(DataError, match="is no pack"):
        open_pack(tmp_path / "pack")


def test_an_interrupted_pack_is_never_taken_for_a_whole_one(tmp_path):
    def broken(items, total):
        yield next(iter(items))
        raise KeyboardInterrupt

    folder = write(tmp_path / "data", LABELLED)
    with pytest.raises(KeyboardInterrupt):
        write_pack(folder, tmp_path / "pack", 16, progress=broken)
    assert not (tmp_path / "pack").exists()
    pack, _ = prepare(folder, tmp_path / "pack")
    assert len(pack.images) == 3


def test_progress_sees_every_file(tmp_path):
    seen = []

    def watched(items, total):
        seen.append(total)
        for item in items:
            seen.append(item.name)
            yield item

    write_pack(write(tmp_path / "data", LABELLED), tmp_path / "pack", 16, progress=watched)
    assert seen == [3, "1.png", "2.jpg", "1.webp"]
