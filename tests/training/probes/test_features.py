import numpy as np
import pytest
import torch

from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_training.config import EncoderConfig
from bootleg_training.probes import features
from bootleg_training.probes.features import mean_patch_features, pixels_of, row_of, stream_features
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
    monkeypatch.setattr(features, "TOKENS", 2 * model.config.patches)
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


@pytest.mark.parametrize("side", [32, 40])
@pytest.mark.parametrize("crop_ratio", [1.0, 0.8])
def test_a_batch_is_preprocessed_as_its_images_are(side, crop_ratio):
    spec = PreprocessSpec(height=32, width=32, crop_ratio=crop_ratio)
    pictures = tiny_pack(3, side=side).images
    np.testing.assert_array_equal(pixels_of(spec, pictures), np.stack([apply(spec, picture) for picture in pictures]))


def test_images_of_the_inputs_size_cost_no_preprocessing(monkeypatch):
    monkeypatch.setattr(features, "apply", None)  # not callable
    assert pixels_of(SPEC, tiny_pack(3, side=32).images).shape == (3, 32, 32, 3)


class Sliced:
    """What a pack's images promise and no more."""

    def __init__(self, array):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __len__(self):
        return len(self._array)

    def __getitem__(self, rows):
        assert isinstance(rows, slice | np.ndarray)
        return self._array[rows]


def test_images_need_be_no_array():
    model = encoder()
    assert mean_patch_features(model, Sliced(PICTURES), SPEC).equal(mean_patch_features(model, PICTURES, SPEC))


KINDS = ("mean", "last4", "blocks", "cls", "patches")


def collected(model, kinds=KINDS):
    batches = list(stream_features(model, PICTURES, SPEC, kinds, precision="fp32"))
    return {kind: np.concatenate([batch[kind] for batch in batches]) for kind in kinds}


def test_every_kind_has_the_shape_and_type_it_promises():
    model = encoder()
    for kind, array in collected(model).items():
        shape, dtype = row_of(kind, model.config)
        assert array.shape == (len(PICTURES), *shape)
        assert array.dtype == dtype


def test_every_blocks_row_is_its_mean_patch_token_behind_the_final_norm():
    model = encoder()
    found = collected(model)
    pixels = torch.from_numpy(pixels_of(SPEC, PICTURES)).float() / 255
    with torch.no_grad():
        encoded = model((pixels - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.std), taps=(1, 2, 3))
        expected = torch.stack([model.norm(tap).mean(dim=1) for tap in encoded.taps], dim=1)
    np.testing.assert_allclose(found["blocks"], expected.numpy(), atol=1e-5)
    np.testing.assert_array_equal(found["blocks"][:, -1], found["mean"])
    np.testing.assert_array_equal(
        found["last4"], found["blocks"].reshape(len(PICTURES), -1)
    )  # 3 blocks are all there is
    np.testing.assert_array_equal(found["cls"], encoded.globals[:, 0].numpy())
    np.testing.assert_allclose(found["patches"], encoded.patches.numpy(), atol=2e-3)


def test_a_kind_does_not_depend_on_what_else_is_asked_for():
    model = encoder()
    together = collected(model)
    for kind in KINDS:
        np.testing.assert_array_equal(collected(model, (kind,))[kind], together[kind])


def test_the_last_four_of_a_deeper_encoder_are_its_last_four():
    torch.manual_seed(0)
    model = Encoder(EncoderConfig(**{**ENCODER, "depth": 6})).eval()
    found = collected(model, ("last4", "blocks"))
    np.testing.assert_array_equal(found["last4"], found["blocks"][:, 2:].reshape(len(PICTURES), -1))
    np.testing.assert_array_equal(collected(model, ("last4",))["last4"], found["last4"])
