import pytest
import torch

from bootleg_bundle.errors import ConfigError
from bootleg_training.config import EncoderConfig
from bootleg_training.resize import at_size
from bootleg_training.vit import Encoder, sincos_positions
from tests.training.tiny import ENCODER


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Encoder(EncoderConfig(**ENCODER)).eval()


def test_at_its_own_size_an_encoder_computes_the_same_to_the_last_bit(encoder):
    images = torch.randn(2, 32, 32, 3)
    with torch.no_grad():
        assert at_size(encoder, 32)(images).patches.equal(encoder(images).patches)


@pytest.mark.parametrize("positions", ["interpolate", "extend"])
def test_a_larger_input_gives_a_larger_grid_of_the_same_weights(encoder, positions):
    resized = at_size(encoder, 48, positions=positions)
    with torch.no_grad():
        assert resized(torch.randn(2, 48, 48, 3)).patches.shape == (2, 144, 32)
    assert resized.config == encoder.config.model_copy(update={"image_size": 48})
    for name, tensor in encoder.state_dict().items():
        assert resized.state_dict()[name].equal(tensor)
    assert not resized.training


def test_the_given_encoder_and_the_random_state_are_left_alone(encoder):
    before, state = encoder.positions_ND.clone(), torch.random.get_rng_state()
    resized = at_size(encoder, 64)
    with torch.no_grad():
        resized.patch_embed.weight.zero_()
    assert encoder.positions_ND.equal(before)
    assert encoder.config.image_size == 32
    assert encoder.patch_embed.weight.abs().sum() > 0
    assert torch.random.get_rng_state().equal(state)


def test_extended_positions_are_the_larger_grids_table(encoder):
    assert at_size(encoder, 64, positions="extend").positions_ND.equal(sincos_positions(32, 16))


def rows_of(resized):
    """A table whose first channel is the row and whose second is the column, as it comes out of the resizing."""
    side = resized.config.grid
    return resized.positions_ND.detach().view(side, side, -1)[..., :2].unbind(-1)


def test_interpolated_positions_stay_in_the_trained_range_and_keep_their_axes(encoder):
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    encoder.positions_ND = torch.stack([y, x], dim=2).view(64, 2).repeat(1, 16)
    rows, columns = rows_of(at_size(encoder, 64))
    torch.testing.assert_close(rows, columns.T)
    assert rows.min() > -0.11  # bicubic reaches a tenth of a spacing over the edge
    assert rows.max() < 7.11
    assert (rows[:, 0].diff() > 0).all()
    torch.testing.assert_close(rows, rows[:, :1].expand(16, 16))
    centres = (torch.arange(16) + 0.5) / 2 - 0.5  # of the new patches, in old patches
    torch.testing.assert_close(rows[:, 0], centres, atol=0.26, rtol=0)


def test_a_constant_stays_constant(encoder):
    encoder.positions_ND = torch.full((64, 32), 0.7)
    torch.testing.assert_close(at_size(encoder, 28).positions_ND, torch.full((49, 32), 0.7))


def test_learned_positions_are_interpolated_and_stay_learned():
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**ENCODER, positions="learned"))
    resized = at_size(encoder, 64)
    assert isinstance(resized.positions_ND, torch.nn.Parameter)
    assert resized.positions_ND.shape == (256, 32)
    assert at_size(encoder, 32).positions_ND is not encoder.positions_ND
    with pytest.raises(ConfigError, match="learned"):
        at_size(encoder, 64, positions="extend")


@pytest.mark.parametrize("size", [0, 3, 30, -8])
def test_a_size_that_patches_do_not_fill_is_refused(encoder, size):
    with pytest.raises(ConfigError, match=f"size {size} .* 4 pixels"):
        at_size(encoder, size)
