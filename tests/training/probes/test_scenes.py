import numpy as np
import pytest
from PIL import Image

from bootleg_bundle.errors import DataError
from bootleg_training.probes.scenes import read_scenes
from tests.training.probes import scenery


@pytest.fixture
def folder(tmp_path):
    return scenery.write(tmp_path / "set" / "train", scenery.scenes(4))


def test_images_and_masks_at_their_own_size_come_back_as_they_are(folder):
    made, found = scenery.scenes(4), read_scenes(folder, 32)
    np.testing.assert_array_equal(found.images, made.images)
    np.testing.assert_array_equal(found.masks, made.masks)
    assert (found.classes, found.ignore) == (3, 255)


def test_a_mask_is_resized_to_the_nearest_label_and_squeezed_with_its_image(tmp_path):
    labels = 2 * np.random.default_rng(0).integers(0, 2, (18, 36)).astype(np.uint8)  # a mean of 0 and 2 would be 1
    for part, picture in (("images", scenery.COLOURS[labels]), ("masks", labels)):
        (tmp_path / part).mkdir()
        Image.fromarray(picture).save(
            tmp_path / part / ("wide.webp" if part == "images" else "wide.png"), lossless=True
        )
    found = read_scenes(tmp_path, 12)
    assert found.images.shape == (1, 12, 12, 3)
    centres = [int((index + 0.5) * 1.5) for index in range(12)], [3 * index + 1 for index in range(12)]
    np.testing.assert_array_equal(found.masks[0], labels[np.ix_(*centres)])


def test_the_indices_of_a_palette_are_the_labels(folder):
    mask = Image.fromarray(scenery.scenes(4).masks[1])
    mask.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    mask.save(folder / "masks" / "001.png")
    np.testing.assert_array_equal(read_scenes(folder, 32).masks, scenery.scenes(4).masks)


@pytest.mark.parametrize("place", ["train", "."])
def test_a_file_of_names_says_how_many_classes_there_are(folder, place):
    (folder.parent / place / "classes.txt").write_text("red\ngreen\nblue\nwhite\n\n")
    assert read_scenes(folder, 32).classes == 4


def test_the_ignored_label_is_no_class_by_its_size(folder):
    assert read_scenes(folder, 32, ignore=2).classes == 2
    assert read_scenes(folder, 32, ignore=None).classes == 3


def test_the_fingerprint_follows_images_and_masks(folder, tmp_path):
    before = read_scenes(folder, 32).fingerprint
    assert read_scenes(scenery.write(tmp_path / "copy", scenery.scenes(4)), 32).fingerprint == before
    Image.fromarray(scenery.scenes(4, seed=5).masks[0]).save(folder / "masks" / "000.png")
    assert read_scenes(folder, 32).fingerprint != before


def test_a_label_that_is_no_class_is_refused_with_its_file(folder):
    (folder / "classes.txt").write_text("red\ngreen\n")
    with pytest.raises(DataError, match=r"00\d.png holds label 2; there are 2 classes, 0 to 1"):
        read_scenes(folder, 32)
    with pytest.raises(DataError, match="holds label 2"):
        read_scenes(folder, 32, classes=2)


def test_without_partner_or_twice_is_refused(folder):
    mask = folder / "masks" / "002.png"
    content = mask.read_bytes()
    mask.unlink()
    with pytest.raises(DataError, match="the image 002 has no mask"):
        read_scenes(folder, 32)
    mask.write_bytes(content)
    (folder / "masks" / "stray.png").write_bytes(content)
    with pytest.raises(DataError, match="the mask stray has no image"):
        read_scenes(folder, 32)
    (folder / "masks" / "stray.png").unlink()
    Image.new("RGB", (32, 32)).save(folder / "images" / "002.jpg")
    with pytest.raises(DataError, match="two images named 002"):
        read_scenes(folder, 32)


def test_a_mask_of_another_size_is_refused(folder):
    Image.new("L", (31, 32)).save(folder / "masks" / "001.png")
    with pytest.raises(DataError, match=r"001.png is 31 x 32 pixels, its image 32 x 32"):
        read_scenes(folder, 32)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "1", "I;16"])
def test_a_mask_that_is_no_8_bit_label_map_is_refused(folder, mode):
    Image.new(mode, (32, 32)).save(folder / "masks" / "001.png")
    with pytest.raises(DataError, match=r"001.png has colour mode"):
        read_scenes(folder, 32)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n"], ids=["empty", "another format", "cut"])
def test_a_damaged_mask_is_refused_by_name(folder, content):
    (folder / "masks" / "001.png").write_bytes(content)
    with pytest.raises(DataError, match=r"001.png is truncated or no PNG"):
        read_scenes(folder, 32)


def test_a_truncated_mask_is_refused(folder):
    path = folder / "masks" / "001.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (32, 32)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(DataError, match=r"001.png is truncated"):
        read_scenes(folder, 32)


def test_a_damaged_image_is_refused_by_name(folder):
    (folder / "images" / "001.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"001.png: .*no accepted image format"):
        read_scenes(folder, 32)


def test_a_folder_of_another_kind_is_refused(tmp_path):
    with pytest.raises(DataError, match="has no folder images/"):
        read_scenes(tmp_path, 32)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        read_scenes(tmp_path, 32)
