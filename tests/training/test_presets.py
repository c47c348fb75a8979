import pytest
import torch

from bootleg_training.config import RunConfig
from bootleg_training.objective import Bootleg
from bootleg_training.presets import PRESETS

IMAGENET = 1_281_167


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


@pytest.mark.parametrize(("name", "epochs", "warmup"), [("base", 600, 40), ("large", 600, 40), ("huge", 300, 15)])
def test_the_large_presets_have_the_published_batch_and_length(name, epochs, warmup):
    config = PRESETS[name].resolved()
    assert config.peak_lr == pytest.approx(1e-3)
    assert config.images / IMAGENET == pytest.approx(epochs, rel=2e-3)
    assert config.optim.warmup * epochs == pytest.approx(warmup)
    assert (config.optim.ema_start, config.optim.final_weight_decay, config.optim.clip) == (0.996, 0.4, None)
    assert config.batch_size % (8 * config.accumulate) == 0  # a machine of eight cards can cut it


@pytest.mark.parametrize(
    ("name", "encoder", "predictor", "layers"),
    [
        ("tiny", 5.4, 1.2, (1, 4, 8, 12)),
        ("small", 21.6, 4.8, (1, 4, 8, 12)),
        ("base", 85.7, 19.2, (1, 4, 8, 12)),
        ("large", 303.1, 34.2, (1, 8, 16, 24)),
        ("huge", 630.4, 53.3, (1, 11, 21, 32)),
    ],
)
def test_sizes_are_those_of_the_specification(name, encoder, predictor, layers):
    config = PRESETS[name].resolved()
    with torch.device("meta"):
        model = Bootleg(config)
    assert sum(p.numel() for p in model.student.parameters()) / 1e6 == pytest.approx(encoder, abs=0.15)
    assert sum(p.numel() for p in model.predictor.parameters()) / 1e6 == pytest.approx(predictor, abs=0.1)
    assert config.target.layers == layers
