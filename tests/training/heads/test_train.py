import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from bootleg_bundle.errors import CheckpointError, ConfigError, DataError, ManifestError
from bootleg_training.checkpoint import CONFIG_NAME
from bootleg_training.heads.train import check_name, train_head
from tests.training.heads.blocks import QUICK
from tests.training.tiny import CPU


def fault(parts, part, change):
    mask = getattr(parts, part) / "masks" / "001.png"
    labels = np.array(Image.open(mask))
    change(labels)
    Image.fromarray(labels).save(mask)


@pytest.mark.parametrize(("kind", "least"), [("linear", 0.7), ("layers", 0.8)])
def test_a_head_on_a_random_encoder_segments_coloured_blocks_it_has_not_seen(saved, parts, kind, least):
    result = train_head(saved, parts, "blocks", dataclasses.replace(QUICK, kind=kind), CPU)
    assert result.trained.miou > least
    assert 0 < result.twin.miou <= 1
    assert len(result.trained.class_iou) == 3
    assert result.config.kind == kind
    probe = result.probe
    assert (probe.probe, probe.dataset, probe.metric) == ("segmentation:blocks", "blocks", "mIoU")
    assert (probe.value, probe.random_init) == (result.trained.miou, result.twin.miou)
    assert "8 train, 3 val, 4 test images, centre square at 32 px" in probe.detail
    count = sum(weight.numel() for weight in result.trained.head.parameters())
    assert f"{count:,} parameters, 3 classes" in probe.detail


def test_labels_of_other_pictures_are_not_learnt(saved, parts):
    """What makes the test above pass is the picture, not the protocol."""
    masks = sorted((parts.test / "masks").iterdir())
    contents = [mask.read_bytes() for mask in masks]
    for mask, content in zip(masks, contents[1:] + contents[:1], strict=True):
        mask.write_bytes(content)
    assert train_head(saved, parts, "blocks", QUICK, CPU).trained.miou < 0.4


def test_the_result_repeats_and_the_checkpoint_is_only_read(saved, parts):
    before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    quick = dataclasses.replace(QUICK, fit=dataclasses.replace(QUICK.fit, iterations=10))
    one, two = (train_head(saved, parts, "blocks", quick, CPU) for _ in range(2))
    assert one.probe == two.probe
    weights = one.trained.head.state_dict(), two.trained.head.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == before


def test_the_test_part_has_no_say_in_what_is_chosen(saved, parts):
    quick = dataclasses.replace(QUICK, fit=dataclasses.replace(QUICK.fit, iterations=20))
    before = train_head(saved, parts, "blocks", quick, CPU).trained
    for mask in (parts.test / "masks").iterdir():
        Image.fromarray(2 - np.array(Image.open(mask))).save(mask)
    after = train_head(saved, parts, "blocks", quick, CPU).trained
    assert (before.balance, before.validation) == (after.balance, after.validation)
    weights = before.head.state_dict(), after.head.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert before.miou != after.miou


def test_the_best_on_validation_is_chosen(saved, parts):
    fit = dataclasses.replace(QUICK.fit, iterations=10)
    alone = {
        balance: train_head(
            saved, parts, "blocks", dataclasses.replace(QUICK, fit=fit, balances=(balance,)), CPU
        ).trained.validation
        for balance in (0.0, 4.0)
    }
    assert alone[0.0] != alone[4.0]
    for order in (sorted, lambda found, key: sorted(found, key=key, reverse=True)):
        balances = tuple(order(alone, key=alone.__getitem__))
        chosen = train_head(saved, parts, "blocks", dataclasses.replace(QUICK, fit=fit, balances=balances), CPU).trained
        assert chosen.balance == max(alone, key=alone.__getitem__)
        assert chosen.validation == max(alone.values())


def test_a_larger_input_is_that_of_the_head(saved, parts):
    quick = dataclasses.replace(QUICK, size=48, fit=dataclasses.replace(QUICK.fit, iterations=2))
    result = train_head(saved, parts, "blocks", quick, CPU)
    assert result.config.size == 48
    assert "at 48 px" in result.probe.detail


def test_names_and_colours_come_from_the_file_beside_the_parts(saved, parts):
    (parts.train.parent / "classes.txt").write_text("red 200 40 40\ngreen\nblue 0 0 255\nnothing\n")
    quick = dataclasses.replace(QUICK, fit=dataclasses.replace(QUICK.fit, iterations=2))
    result = train_head(saved, parts, "blocks", quick, CPU)
    assert [entry.name for entry in result.config.classes] == ["red", "green", "blue", "nothing"]
    assert result.config.classes[0].color == (200, 40, 40)
    assert result.trained.head.classify.out_channels == 4


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_label_out_of_range_is_refused_by_its_mask_before_any_training(saved, parts, part):
    (parts.train.parent / "classes.txt").write_text("red\ngreen\nblue\n")
    fault(parts, part, lambda labels: labels.fill(3))
    with pytest.raises(DataError, match=rf"{part}/masks/001.png holds label 3; there are 3 classes, 0 to 2"):
        train_head(saved, parts, "blocks", QUICK, CPU)


def test_a_missing_part_is_refused_by_its_folder(saved, parts):
    away = dataclasses.replace(parts, val=parts.val.parent / "away")
    with pytest.raises(DataError, match="away is no segmentation set"):
        train_head(saved, away, "blocks", QUICK, CPU)


@pytest.mark.parametrize(("one", "other"), [("--data", "--val"), ("--data", "--test"), ("--val", "--test")])
def test_parts_that_are_the_same_are_refused(saved, parts, one, other):
    fields = {"--data": "train", "--val": "val", "--test": "test"}
    same = dataclasses.replace(parts, **{fields[other]: getattr(parts, fields[one])})
    with pytest.raises(DataError, match=f"{one} and {other} hold the same images"):
        train_head(saved, same, "blocks", QUICK, CPU)


def test_one_class_is_none(saved, parts):
    for mask in (parts.train / "masks").iterdir():
        Image.new("L", (48, 48)).save(mask)
    with pytest.raises(DataError, match="the largest label is 0; a head has 2 to 255 classes"):
        train_head(saved, parts, "blocks", QUICK, CPU)


def test_a_side_that_patches_do_not_fill_is_refused(saved, parts):
    with pytest.raises(ConfigError, match="size 50"):
        train_head(saved, parts, "blocks", dataclasses.replace(QUICK, size=50), CPU)


def test_a_name_is_checked_before_any_work(saved, tmp_path):
    check_name(saved, "fine", replace=False)
    with pytest.raises(ManifestError, match="name"):
        check_name(saved, "Not A Name", replace=False)
    with pytest.raises(CheckpointError, match=CONFIG_NAME):
        check_name(tmp_path / "none", "fine", replace=False)
