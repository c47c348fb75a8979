import pytest

from bootleg_training.config import RunConfig
from bootleg_training.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_named_after_its_key_and_resolves(name):
    config = PRESETS[name]
    assert config.name == name
    resolved = config.resolved()
    assert resolved.predictor.width * 2 == config.encoder.width
    assert resolved.predictor.width % 4 == 0
    assert resolved.predictor.width % resolved.predictor.heads == 0
    assert len(resolved.target.layers) == 4


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    config = PRESETS[name].resolved()
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_the_imagenet_preset_follows_the_published_recipe():
    config = PRESETS["small"].resolved()
    assert config.peak_lr == pytest.approx(1e-3 / 2)  # a quarter of the published batch, by the square root
    assert config.optim.ema_start == 0.996
    assert (config.optim.weight_decay, config.optim.final_weight_decay) == (0.04, 0.4)
    assert (config.optim.warmup, config.optim.clip) == (0.15, None)
    assert (config.encoder.image_size, config.encoder.patch_size) == (224, 16)
    assert config.predictor.depth == 10
