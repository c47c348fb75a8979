import pytest

from bootleg_bundle.errors import ConfigError, DataError
from bootleg_training.config import EncoderConfig
from bootleg_training.probes.encoders import Comparison
from bootleg_training.probes.pixel_head import HeadSettings
from bootleg_training.probes.segment import SegmentationSettings, default_side, segment_checkpoint
from tests.training.probes import scenery
from tests.training.tiny import CPU

ALL = SegmentationSettings(
    heads=("knn", "linear", "pixel-head"), side=48, pixels=HeadSettings(iterations=5, batch=4, rate=0.05)
)


@pytest.fixture
def folders(tmp_path):
    return tuple(
        scenery.write(tmp_path / "blocks" / part, scenery.scenes(count, side=48, seed=seed))
        for seed, (part, count) in enumerate((("train", 8), ("test", 3)))
    )


def test_every_head_is_scored_beside_the_untrained_twin_at_another_size(saved, folders):
    results = segment_checkpoint(saved, *folders, CPU, ALL)
    assert [result.probe for result in results] == [f"segmentation-{head}" for head in ALL.heads]
    for result in results:
        assert result.dataset == "blocks"
        assert result.metric == "mIoU"
        assert 0 < result.random_init <= 1
        assert "8 train, 3 test images at 48 px" in result.detail
    assert results[0].value == results[1].value == 1.0  # colours in whole patches: any encoder sees them


def test_the_result_repeats_with_and_without_a_cache(saved, folders, tmp_path):
    kept = Comparison(cache=tmp_path / "cache", which=("student",))
    first = segment_checkpoint(saved, *folders, CPU, ALL, comparison=kept)
    assert segment_checkpoint(saved, *folders, CPU, ALL, comparison=kept) == first
    assert segment_checkpoint(saved, *folders, CPU, ALL, comparison=Comparison(which=("student",))) == first
    assert first[0].probe == "segmentation-knn-student"
    assert len(list(kept.cache.iterdir())) == 2 * 4


def test_a_test_label_that_training_does_not_know_is_refused(saved, folders):
    made = scenery.scenes(3, side=48, seed=1)
    made.masks[2, 0, 0] = 3
    strange = scenery.write(folders[0].parent / "strange", made)
    with pytest.raises(DataError, match=r"002.png holds label 3; there are 3 classes"):
        segment_checkpoint(saved, folders[0], strange, CPU, ALL)


def test_a_side_that_patches_do_not_fill_is_refused_before_anything_is_read(saved, tmp_path):
    with pytest.raises(ConfigError, match="size 50"):
        segment_checkpoint(saved, tmp_path / "none", tmp_path / "none", CPU, SegmentationSettings(side=50))


@pytest.mark.parametrize(("patch", "side"), [(4, 112), (8, 224), (14, 224), (16, 224), (32, 224), (256, 256)])
def test_the_side_is_224_unless_that_is_too_many_patches(patch, side):
    assert default_side(EncoderConfig(patch_size=patch, image_size=patch * 4)) == side


def test_a_name_that_is_given_is_taken(saved, folders):
    settings = SegmentationSettings(heads=("linear",), side=48, name="Blocks")
    assert [result.dataset for result in segment_checkpoint(saved, *folders, CPU, settings)] == ["Blocks"]
