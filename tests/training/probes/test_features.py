import numpy as np
import torch

from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_training.config import EncoderConfig
from bootleg_training.probes import features
from bootleg_training.probes.features import mean_patch_features
from bootleg_training.vit import Encoder
from tests.training.tiny import ENCODER, tiny_pack

SPEC = PreprocessSpec(height=32, width=32)
PICTURES = tiny_pack(5).images


def encoder():
    torch.manual_seed(0)
    return Encoder(EncoderConfig(**ENCODER)).eval()


def test_a_feature_is_the_mean_patch_token_behind_the_final_norm():
    model = encoder()
    pixels = torch.from_numpy(np.stack([apply(SPEC, picture) for picture in PICTURES])).float() / 255
    with torch.no_grad():
        expected = model((pixels - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.std)).patches.mean(dim=1)
    torch.testing.assert_close(mean_patch_features(model, PICTURES, SPEC), expected)


def test_features_do_not_depend_on_the_batch(monkeypatch):
    model = encoder()
    whole = mean_patch_features(model, PICTURES, SPEC)
    monkeypatch.setattr(features, "BATCH", 2)
    torch.testing.assert_close(mean_patch_features(model, PICTURES, SPEC), whole, atol=1e-5, rtol=1e-5)


def test_half_precision_features_are_float32_and_close():
    model = encoder()
    full, half = (
        mean_patch_features(model, PICTURES, SPEC),
        mean_patch_features(model, PICTURES, SPEC, precision="bf16"),
    )
    assert half.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(full, half).min() > 0.999


def test_no_gradient_is_kept():
    assert not mean_patch_features(encoder(), PICTURES, SPEC).requires_grad
