import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootleg_training.data.recommend import RULES, recommend
from bootleg_training.presets import PRESETS

KNOWN = [rule for rule in RULES if rule.preset in PRESETS]


@pytest.mark.parametrize("rule", KNOWN, ids=lambda rule: rule.preset)
def test_a_preset_is_named_where_its_rule_begins_and_can_be_trained_there(rule):
    assert recommend(rule.images, rule.side, cuda=rule.cuda) == rule.preset
    assert recommend(rule.images - 1, rule.side, cuda=rule.cuda) != rule.preset
    assert recommend(rule.images, rule.side - 1, cuda=rule.cuda) != rule.preset
    config = PRESETS[rule.preset]
    assert config.encoder.image_size <= rule.side
    assert config.batch_size <= rule.images


def test_every_small_preset_has_a_rule():
    assert {"cpu-smoke", "nano", "tiny-cpu", "tiny", "small"} <= {rule.preset for rule in KNOWN}


@given(images=st.integers(0, 10**8), side=st.integers(8, 1024), cuda=st.booleans())
def test_a_recommendation_never_asks_for_more_than_there_is(images, side, cuda):
    preset = recommend(images, side, cuda=cuda)
    if preset is None:
        assert images < RULES[-1].images or side < RULES[-1].side
        return
    rule = next(rule for rule in RULES if rule.preset == preset)
    assert images >= rule.images
    assert side >= rule.side
    assert cuda or not rule.cuda


@pytest.mark.parametrize(
    ("images", "side", "cpu", "cuda"),
    [
        (127, 64, None, None),
        (5_000, 16, None, None),
        (5_000, 64, "tiny-cpu", "tiny-cpu"),
        (60_000, 224, "tiny-cpu", "small"),
    ],
)
def test_examples(images, side, cpu, cuda):
    assert recommend(images, side, cuda=False) == cpu
    assert recommend(images, side, cuda=True) == cuda
