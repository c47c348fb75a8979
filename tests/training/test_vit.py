import math

import pytest
import torch

from bootleg_training.config import EncoderConfig
from bootleg_training.vit import TAPS, Block, Encoder, sincos_positions
from tests.training.tiny import ENCODER

# docs/method.md, section 3.4: width, depth, heads, millions of parameters
PAPER = {
    "Ti": (192, 12, 3, 5.5),
    "S": (384, 12, 6, 21.6),
    "B": (768, 12, 12, 85.7),
    "L": (1024, 24, 16, 303),
    "H": (1280, 32, 16, 631),
}


def tiny(**changes):
    torch.manual_seed(0)
    return Encoder(EncoderConfig(**{**ENCODER, **changes})).eval()


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", PAPER)
def test_the_encoder_has_the_published_number_of_parameters(name):
    width, depth, heads, millions = PAPER[name]
    with torch.device("meta"):
        encoder = Encoder(EncoderConfig(width=width, depth=depth, heads=heads))
    digits = 1 if millions < 100 else 0
    assert round(parameters(encoder) / 1e6, digits) == millions


@pytest.mark.parametrize(("width", "depth", "heads", "millions"), [(64, 6, 4, 0.3), (128, 6, 4, 1.2), (192, 9, 3, 4.0)])
def test_small_encoders_have_the_number_of_parameters_of_the_table(width, depth, heads, millions):
    shape = EncoderConfig(image_size=32, patch_size=4, width=width, depth=depth, heads=heads, registers=0)
    assert round(parameters(Encoder(shape)) / 1e6, 1) == millions


@pytest.mark.parametrize(("cls_token", "registers"), [(False, 0), (True, 0), (True, 3)])
def test_the_encoder_returns_patches_globals_and_taps(cls_token, registers):
    encoder = tiny(cls_token=cls_token, registers=registers)
    whole = encoder(torch.randn(2, 32, 32, 3), taps=(1, 3))
    assert whole.patches.shape == (2, 64, 32)
    assert whole.globals.shape == (2, int(cls_token) + registers, 32)
    assert [tap.shape for tap in whole.taps] == [(2, 64, 32)] * 2
    seen = encoder(torch.randn(2, 32, 32, 3), torch.arange(19).expand(2, -1))
    assert seen.patches.shape == (2, 19, 32)
    assert seen.taps == []


def by_hand(encoder, x):
    """The stream before the first block and behind each, global tokens last."""
    tokens = encoder.patch_embed(encoder.patchify(x)) + encoder.positions_ND
    streams = [torch.cat([tokens, encoder.global_tokens.expand(len(x), -1, -1)], dim=1)]
    for block in encoder.blocks:
        streams.append(block(streams[-1]))
    return streams


def test_taps_are_the_streams_behind_the_blocks_in_their_order():
    encoder = tiny()
    x = torch.randn(2, 32, 32, 3)
    streams = by_hand(encoder, x)[1:]
    for tap, stream in zip(encoder(x, taps=(1, 2, 3)).taps, streams, strict=True):
        assert torch.equal(tap, stream[:, :64])
    (second,) = encoder(x, taps=(2,)).taps
    assert torch.equal(second, streams[1][:, :64])


def test_branches_and_the_stream_between_them_can_be_tapped():
    encoder = tiny()
    x = torch.randn(2, 32, 32, 3)
    attention, mid, mlp, block = (encoder(x, taps=(1, 2), tap=tap).taps[1] for tap in TAPS)
    before, after = (stream[:, :64] for stream in by_hand(encoder, x)[1:3])
    torch.testing.assert_close(before + attention, mid)
    torch.testing.assert_close(mid + mlp, block)
    assert torch.equal(block, after)
    assert mlp.abs().max() > 0


def test_the_last_tap_is_taken_before_the_final_norm():
    encoder = tiny()
    encoded = encoder(torch.randn(2, 32, 32, 3), taps=(3,))
    torch.testing.assert_close(encoder.norm(encoded.taps[0]), encoded.patches)


def test_without_the_norm_the_encoder_stops_behind_the_last_tap():
    encoder = tiny()
    x = torch.randn(2, 32, 32, 3)
    whole = encoder(x, taps=(2,))
    with torch.no_grad():
        encoder.blocks[2].proj.weight.fill_(float("nan"))
        encoder.norm.weight.fill_(float("nan"))
    short = encoder(x, taps=(2,), norm=False)
    assert torch.equal(short.taps[0], whole.taps[0])
    assert torch.equal(short.patches, whole.taps[0])


def test_patches_are_cut_in_raster_order():
    encoder = tiny()
    image = torch.arange(32 * 32 * 3, dtype=torch.float32).view(1, 32, 32, 3)
    patches = encoder.patchify(image)
    for index in (0, 1, 8, 63):
        row, column = divmod(index, 8)
        square = image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert torch.equal(patches[0, index], square.reshape(-1))


def test_changing_hidden_pixels_changes_nothing_to_the_last_bit():
    encoder = tiny()
    visible = torch.tensor([[0, 3, 9, 20, 63]])
    x = torch.randn(1, 32, 32, 3)
    hidden = torch.ones(64, dtype=torch.bool)
    hidden[visible[0]] = False
    other = x.clone()
    for index in hidden.nonzero().flatten().tolist():
        row, column = divmod(index, 8)
        other[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1e6
    one, two = encoder(x, visible), encoder(other, visible)
    assert torch.equal(one.patches, two.patches)
    assert torch.equal(one.globals, two.globals)


def test_permuting_the_visible_patches_only_permutes_the_rows():
    encoder = tiny()
    x, visible = torch.randn(2, 32, 32, 3), torch.randperm(64)[:19].expand(2, -1)
    order = torch.randperm(19)
    straight, permuted = encoder(x, visible), encoder(x, visible[:, order])
    torch.testing.assert_close(permuted.patches, straight.patches[:, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(permuted.globals, straight.globals, atol=1e-5, rtol=1e-5)


def test_seeing_every_patch_equals_seeing_the_image():
    encoder = tiny()
    x = torch.randn(2, 32, 32, 3)
    everything = torch.arange(64).expand(2, -1)
    assert torch.equal(encoder(x, everything).patches, encoder(x).patches)


def test_an_answer_does_not_depend_on_the_other_images_of_its_batch():
    encoder = tiny()
    x = torch.randn(5, 32, 32, 3)
    torch.testing.assert_close(encoder(x).patches[2:3], encoder(x[2:3]).patches, atol=1e-5, rtol=1e-5)


def test_positions_are_sines_then_cosines_of_column_then_row():
    table = sincos_positions(16, 5)
    assert table.shape == (25, 16)
    for index in (0, 7, 24):
        row, column = divmod(index, 5)
        expected = []
        for place in (column, row):
            angles = [place / 10000 ** (i / 4) for i in range(4)]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(table[index], torch.tensor(expected))


def test_positions_are_no_parameter_and_are_not_saved():
    encoder = tiny()
    assert not any("positions" in name for name, _ in encoder.named_parameters())
    assert not any("positions" in name for name in encoder.state_dict())


def test_global_tokens_carry_no_position_and_stand_behind_the_patches():
    encoder = tiny()
    x = torch.randn(2, 32, 32, 3)
    expected = encoder.norm(by_hand(encoder, x)[-1])
    encoded = encoder(x)
    assert torch.equal(encoded.patches, expected[:, :64])
    assert torch.equal(encoded.globals, expected[:, 64:])


@pytest.mark.parametrize(
    ("initial", "width", "std"),
    [("fixed", 96, 0.02), ("scaled", 96, 0.04), ("scaled", 384, 0.02), ("scaled", 512, 0.02)],
)
def test_the_blocks_output_maps_start_divided_by_the_root_of_twice_their_depth(initial, width, std):
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**{**ENCODER, "width": width, "depth": 3, "initial": initial}))
    for depth, block in enumerate(encoder.blocks, start=1):
        expected = std / math.sqrt(2 * depth)
        assert block.proj.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert block.fc2.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert block.qkv.weight.std().item() == pytest.approx(std, rel=0.05)
        assert not block.qkv.bias.any()


def test_attention_written_out_for_the_cpu_equals_the_fused_kernel():
    torch.manual_seed(0)
    block = Block(32, 4)
    x = torch.randn(2, 10, 32)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = block(x)
    torch.testing.assert_close(mixed, block(x), atol=3e-2, rtol=3e-2)
