import pytest
import torch

from bootleg_training.config import EncoderConfig, RunConfig
from bootleg_training.predictor import Predictor
from tests.training.tiny import tiny_config

# docs/method.md, section 3.4: width, depth, heads, millions of parameters at four target layers
PAPER = {
    "Ti": (192, 12, 3, 1.2),
    "S": (384, 12, 6, 4.8),
    "B": (768, 12, 12, 19.2),
    "L": (1024, 24, 16, 34.2),
    "H": (1280, 32, 16, 53.3),
}


def build(config):
    torch.manual_seed(0)
    return Predictor(config.predictor, config.encoder, len(config.target.layers))


def inputs(config, rectangles=4, size=9):
    torch.manual_seed(1)
    visible = torch.stack([torch.randperm(64)[:19].sort().values for _ in range(2)])
    return (
        torch.randn(2, 19, config.encoder.width),
        torch.randn(2, config.encoder.global_tokens, config.encoder.width),
        visible,
        torch.randint(64, (2, rectangles, size)),
    )


@pytest.mark.parametrize("name", PAPER)
def test_ten_blocks_of_half_width_have_the_parameters_of_the_table(name):
    width, depth, heads, millions = PAPER[name]
    encoder = EncoderConfig(width=width, depth=depth, heads=heads)
    config = RunConfig(encoder=encoder, predictor={"depth": 10}).resolved()
    with torch.device("meta"):
        predictor = Predictor(config.predictor, encoder, 4)
    assert round(sum(p.numel() for p in predictor.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("layers", [(3,), (1, 3), (1, 2, 3)])
def test_the_output_has_one_slot_for_each_target_layer(layers, joint):
    config = tiny_config(target={"layers": layers}, predictor={"joint": joint})
    assert build(config)(*inputs(config)).shape == (2, 4, 9, len(layers), 32)


def test_slots_follow_the_order_of_the_target_layers(config):
    predictor = build(config)
    with torch.no_grad():
        predictor.head.weight.zero_()
        predictor.head.bias.copy_(torch.arange(3).repeat_interleave(32).float())
    out = predictor(*inputs(config))
    for slot in range(3):
        assert (out[..., slot, :] == slot).all()


def test_rectangles_do_not_see_each_other(config):
    predictor = build(config)
    patches, tokens, visible, rectangles = inputs(config)
    other = rectangles.clone()
    other[:, 1:] = (other[:, 1:] + 17) % 64
    one, two = predictor(patches, tokens, visible, rectangles), predictor(patches, tokens, visible, other)
    assert torch.equal(one[:, 0], two[:, 0])
    assert not torch.equal(one[:, 1:], two[:, 1:])


def test_joint_rectangles_do_see_each_other():
    config = tiny_config(predictor={"joint": True})
    predictor = build(config)
    patches, tokens, visible, rectangles = inputs(config)
    other = rectangles.clone()
    other[:, 1:] = (other[:, 1:] + 17) % 64
    one, two = predictor(patches, tokens, visible, rectangles), predictor(patches, tokens, visible, other)
    assert not torch.equal(one[:, 0], two[:, 0])


def test_joint_equals_separate_for_a_single_rectangle(config):
    joint = tiny_config(predictor={"joint": True})
    given = inputs(config, rectangles=1)
    torch.testing.assert_close(build(joint)(*given), build(config)(*given), atol=1e-6, rtol=1e-5)


def test_predictions_depend_on_where_the_rectangle_lies(config):
    predictor = build(config)
    patches, tokens, visible, rectangles = inputs(config)
    out = predictor(patches, tokens, visible, rectangles)
    moved = predictor(patches, tokens, visible, (rectangles + 1) % 64)
    assert (out != moved).any(dim=-1).all()


def test_global_tokens_reach_the_predictions(config):
    predictor = build(config)
    patches, tokens, visible, rectangles = inputs(config)
    out = predictor(patches, tokens, visible, rectangles)
    assert not torch.equal(out, predictor(patches, tokens + 1, visible, rectangles))
