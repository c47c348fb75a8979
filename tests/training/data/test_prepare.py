import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootleg_bundle.errors import DataError
from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_bundle.sources import open_source
from bootleg_training.data.pack import open_pack, read_index
from bootleg_training.data.prepare import Options, write_pack
from bootleg_training.data.statistics import histogram
from tests import images
from tests.training.data.files import pictures, silent, write, write_tar

SPEC = PreprocessSpec(height=16, width=16)
LENIENT = Options(max_corrupt=1)
LABELLED = {
    "cats/1.png": images.png(images.scene(seed=1)),
    "cats/2.jpg": images.jpeg(images.scene(seed=2)),
    "dogs/1.webp": images.webp(images.scene(seed=3)),
}
write_16 = partial(write_pack, side=16, progress=silent)


def prepare(folder, out, options=LENIENT, **more):
    """Write a pack and open it: the pack and its index."""
    index = write_16(open_source(folder), out, options=options, **more)
    assert read_index(out) == index
    return open_pack(out), index


def test_images_are_packed_upright_and_resized_in_the_order_of_their_names(tmp_path):
    files = {**LABELLED, "cats/0.PNG": images.png(images.scene(seed=4), orientation=6)}
    pack, index = prepare(write(tmp_path / "data", files), tmp_path / "pack")
    assert index.skipped == {}
    assert pack.side == 16
    assert index.files == sorted(files)
    for name, picture in zip(index.files, pack.images, strict=True):
        np.testing.assert_array_equal(picture, apply(SPEC, decode(files[name])))


def test_directories_give_labels_at_any_depth(tmp_path):
    pack, _ = prepare(write(tmp_path / "data", LABELLED), tmp_path / "pack")
    assert pack.classes == ("cats", "dogs")
    assert pack.labels.tolist() == [0, 0, 1]
    assert pack.labels.dtype == np.int64
    deep, _ = prepare(write(tmp_path / "deep" / "train", LABELLED).parent, tmp_path / "deep-pack")
    assert deep.classes == ("cats", "dogs")


@pytest.mark.parametrize("files", [{"1.png": images.png(), "2.png": images.png()}, {"a/1.png": images.png()}])
def test_images_without_class_directories_have_no_labels(tmp_path, files):
    pack, _ = prepare(write(tmp_path / "data", files), tmp_path / "pack")
    assert pack.labels is None
    assert pack.classes == ()


def test_an_image_beside_the_class_directories_takes_all_labels_away_unless_it_is_corrupt(tmp_path):
    pack, _ = prepare(write(tmp_path / "data", {**LABELLED, "stray.png": images.png()}), tmp_path / "pack")
    assert pack.labels is None
    pack, _ = prepare(write(tmp_path / "data", {"stray.png": b"no"}), tmp_path / "pack-2")
    assert pack.labels.tolist() == [0, 0, 1]


def test_archives_and_lists_are_packed_like_the_folder_they_hold(tmp_path):
    folder = write(tmp_path / "data", LABELLED)
    expected, index = prepare(folder, tmp_path / "pack")
    write_tar(tmp_path / "a.tar", LABELLED)
    (tmp_path / "data" / "list.csv").write_text(
        "path,label\n" + "".join(f"{file},{file.split('/')[0]}\n" for file in index.files)
    )
    for name in ("a.tar", "data/list.csv"):
        pack, _ = prepare(tmp_path / name, tmp_path / "packs" / name)
        np.testing.assert_array_equal(pack.images, expected.images)
    np.testing.assert_array_equal(pack.labels, expected.labels)  # of the list
    assert (pack.classes, pack.fingerprint) == (expected.classes, expected.fingerprint)


# ---- corrupt images ------------------------------------------------------------------------------------------------


def test_a_corrupt_file_is_left_out_and_listed_with_its_reason(tmp_path):
    files = {**LABELLED, "cats/1a.jpg": images.jpeg()[:200], "dogs/0.png": b"", "dogs/2.png": images.apng()}
    pack, index = prepare(write(tmp_path / "data", files), tmp_path / "pack")
    assert set(index.skipped) == {"cats/1a.jpg", "dogs/0.png", "dogs/2.png"}
    assert "corrupt" in index.skipped["cats/1a.jpg"]
    assert "0 bytes" in index.skipped["dogs/0.png"]
    assert "2 frames" in index.skipped["dogs/2.png"]
    assert pack.images.shape == (3, 16, 16, 3)
    assert pack.labels.tolist() == [0, 0, 1]
    clean, clean_index = prepare(write(tmp_path / "clean", LABELLED), tmp_path / "clean-pack")
    np.testing.assert_array_equal(pack.images, clean.images)
    assert (index.mean, index.std) == (clean_index.mean, clean_index.std)
    assert index.fingerprint == clean_index.fingerprint


def test_files_that_a_list_names_and_nobody_has_are_left_out_with_the_corrupt_ones(tmp_path):
    write(tmp_path, {**LABELLED, "list.csv": b"path,label\ncats/1.png,c\nnone.png,d\ndogs/1.webp,d\n"})
    pack, index = prepare(tmp_path / "list.csv", tmp_path / "pack")
    assert index.skipped == {"none.png": "the file cannot be read: No such file or directory"}
    assert index.files == ["cats/1.png", "dogs/1.webp"]
    assert pack.labels.tolist() == [0, 1]


@pytest.mark.parametrize(("bad", "share", "passes"), [(1, 0.05, True), (2, 0.05, False), (0, 0, True), (1, 0, False)])
def test_more_corrupt_files_than_allowed_end_the_preparation(tmp_path, bad, share, passes):
    folder = write(tmp_path / "data", {**pictures(20 - bad), **{f"bad{n}.png": b"no" for n in range(bad)}})
    if passes:  # the share itself is allowed
        assert len(prepare(folder, tmp_path / "pack", Options(max_corrupt=share))[1].skipped) == bad
        return
    with pytest.raises(DataError, match=rf"{bad} of the first 20 images .* --max-corrupt {share} allows") as error:
        prepare(folder, tmp_path / "pack", Options(max_corrupt=share))
    assert "bad0.png: the content is no accepted image format" in error.value.message
    assert list(tmp_path.iterdir()) == [folder]


def test_a_hopeless_set_is_given_up_before_all_of_it_is_read(tmp_path):
    folder = write(tmp_path / "data", {f"{n:03}.png": b"no" for n in range(200)})
    with pytest.raises(DataError, match=r"11 of the first 11 images cannot be decoded; of all 200, .* allows 10"):
        prepare(folder, tmp_path / "pack", Options())


def test_a_folder_of_corrupt_images_alone_is_refused_and_leaves_no_pack(tmp_path):
    with pytest.raises(DataError, match=r"none of the 2 images of data can be decoded; a\.png: .*; b\.jpg: "):
        prepare(write(tmp_path / "data", {"a.png": b"no", "b.jpg": b"no"}), tmp_path / "pack")
    with pytest.raises(DataError, match="is no pack"):
        open_pack(tmp_path / "pack")


# ---- duplicates and statistics -------------------------------------------------------------------------------------

TWINS = {"a.png": LABELLED["cats/1.png"], "b.jpg": LABELLED["cats/2.jpg"], "c.png": LABELLED["cats/1.png"]}
TWINS |= {"d.jpg": LABELLED["cats/2.jpg"], "e.webp": LABELLED["dogs/1.webp"], "f.png": LABELLED["cats/1.png"]}
GROUPS = [["a.png", "c.png", "f.png"], ["b.jpg", "d.jpg"]]


def test_byte_identical_files_are_listed_and_kept(tmp_path):
    pack, index = prepare(write(tmp_path / "data", TWINS), tmp_path / "pack", Options())
    assert index.files == sorted(TWINS)
    assert (index.duplicates, index.duplicates_dropped) == (GROUPS, False)
    np.testing.assert_array_equal(pack.images[0], pack.images[5])


def test_or_all_but_the_first_are_left_out(tmp_path):
    pack, index = prepare(write(tmp_path / "data", TWINS), tmp_path / "pack", Options(drop_duplicates=True))
    assert index.files == ["a.png", "b.jpg", "e.webp"]
    assert (index.duplicates, index.duplicates_dropped) == (GROUPS, True)
    alone = {name: TWINS[name] for name in index.files}
    clean, clean_index = prepare(write(tmp_path / "clean", alone), tmp_path / "clean-pack")
    np.testing.assert_array_equal(pack.images, clean.images)
    assert index.fingerprint == clean_index.fingerprint
    assert (index.mean, index.std) == (clean_index.mean, clean_index.std)
    assert clean_index.duplicates == []


def test_the_same_picture_in_other_bytes_is_no_duplicate(tmp_path):
    scene = images.scene()
    files = {"a.png": images.png(scene), "b.png": images.png(scene, compress_level=0)}
    assert prepare(write(tmp_path / "data", files), tmp_path / "pack")[1].duplicates == []


def test_channel_statistics_are_those_of_the_packed_pixels(tmp_path):
    pack, index = prepare(write(tmp_path / "data", {**LABELLED, **TWINS}), tmp_path / "pack")
    pixels = np.asarray(pack.images, np.float64) / 255
    assert index.mean == pytest.approx(pixels.mean(axis=(0, 1, 2)).tolist(), abs=1e-13)
    assert index.std == pytest.approx(pixels.std(axis=(0, 1, 2)).tolist(), abs=1e-12)
    assert sum(histogram(picture) for picture in pack.images).sum() == pack.images[:].size


def test_a_preset_is_recommended_with_and_without_cuda(tmp_path):
    assert prepare(write(tmp_path / "data", LABELLED), tmp_path / "pack")[1].presets == {"cuda": None, "cpu": None}
    many = write(tmp_path / "many", {f"{n:03}.png": LABELLED["cats/1.png"] for n in range(128)})
    index = write_pack(open_source(many), tmp_path / "many-pack", 32, progress=silent)
    assert index.presets == {"cuda": "cpu-smoke", "cpu": "cpu-smoke"}


# ---- the pack as a whole -------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 9), rows=st.integers(1, 5))
def test_any_number_of_images_goes_into_shards_of_any_size(tmp_path_factory, count, rows):
    folder = tmp_path_factory.mktemp("shards")
    files = pictures(count)
    pack, _ = prepare(write(folder / "data", files), folder / "pack", Options(shard_bytes=rows * 16 * 16 * 3))
    assert len(list((folder / "pack").glob("images-*.npy"))) == -(-count // rows)
    expected = np.stack([decode(files[name]) for name in sorted(files)])
    np.testing.assert_array_equal(pack.images[:], expected)
    np.testing.assert_array_equal(pack.images[np.arange(count)[::-1]], expected[::-1])


def test_the_name_is_the_folders_unless_given(tmp_path):
    folder = write(tmp_path / "data", LABELLED)
    assert prepare(folder, tmp_path / "pack")[0].name == "data"
    assert prepare(folder, tmp_path / "other", name="pets")[0].name == "pets"


def test_the_fingerprint_is_that_of_names_and_content(tmp_path):
    def fingerprint(name, files, **options):
        source = open_source(write(tmp_path / name, files))
        return write_16(source, tmp_path / f"{name}-pack", **options).fingerprint

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


@pytest.mark.parametrize("after", [0, 1, 4])
def test_an_interrupted_pack_is_never_taken_for_a_whole_one(tmp_path, after):
    def broken(items, total):
        for done, item in enumerate(items):
            if done == after:
                raise KeyboardInterrupt
            yield item

    folder = write(tmp_path / "data", pictures(6))
    options = Options(shard_bytes=2 * 16 * 16 * 3)
    with pytest.raises(KeyboardInterrupt):
        write_pack(open_source(folder), tmp_path / "pack", 16, options=options, progress=broken)
    assert list(tmp_path.iterdir()) == [folder]
    assert len(prepare(folder, tmp_path / "pack")[0].images) == 6


def test_what_a_killed_preparation_left_is_no_pack_and_in_nobodys_way(tmp_path):
    folder = write(tmp_path / "data", LABELLED)
    left = write(tmp_path / "pack.partial", {"images-00000.npy": b"half", "images-00007.npy": b"half"})
    with pytest.raises(DataError, match="is no pack"):
        open_pack(left)
    pack, _ = prepare(folder, tmp_path / "pack")
    assert len(pack.images) == 3
    assert sorted(path.name for path in (tmp_path / "pack").iterdir()) == ["images-00000.npy", "pack.json"]
    assert not left.exists()


def test_progress_sees_every_image(tmp_path):
    seen = []

    def watched(items, total):
        for item in items:
            seen.append((item, total))
            yield item

    write_pack(open_source(write(tmp_path / "data", LABELLED)), tmp_path / "pack", 16, progress=watched)
    assert seen == [(0, 3), (1, 3), (2, 3)]


def test_the_index_is_plain_json(tmp_path):
    _, index = prepare(write(tmp_path / "data", LABELLED), tmp_path / "pack")
    fields = json.loads((tmp_path / "pack" / "pack.json").read_text())
    assert fields["format_version"] == 2
    assert fields["files"] == sorted(LABELLED)
    assert fields["mean"] == list(index.mean)
