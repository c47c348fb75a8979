import pytest
import torch
from safetensors.torch import save_file

from bootleg_bundle.errors import CheckpointError
from bootleg_training.foreign.convert import read_foreign
from bootleg_training.vit import Encoder, resize_positions, sincos_positions
from tests.training.foreign import made
from tests.training.foreign.made import GRID, HEADS, PATCH, SIDE, WIDTH

MADE = {
    "ijepa": made.ijepa(),
    "mae": made.mae(),
    "mae, learned positions": made.mae(positions="learned"),
    "dinov2": made.dinov2(),
    "dinov2 without registers": made.dinov2(registers=0),
    "dinov2, sin-cos positions": made.dinov2(positions="sincos"),
    "dinov2 in chunks": made.dinov2(chunks=2),
    "dinov2, teacher": made.dinov2(teacher=True, chunks=1),
}


@pytest.fixture
def write(tmp_path):
    def write(content, name="weights.pth"):
        if name.endswith(".safetensors"):
            save_file(content, tmp_path / name)
        else:
            torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


def encoder_of(foreign):
    encoder = Encoder(foreign.config).eval()
    encoder.load_state_dict(foreign.weights)
    return encoder


@torch.no_grad()
def outputs(foreign, images_BCHW):
    encoded = encoder_of(foreign)(images_BCHW.permute(0, 2, 3, 1).contiguous())
    return encoded.patches, encoded.globals


def some_images(side=SIDE):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("told", [False, True])
def test_the_outputs_are_those_of_the_foreign_encoder(name, told, write):
    content, state = MADE[name]
    layout = name.split()[0].strip(",")
    foreign = read_foreign(write(content), heads=HEADS, layout=layout if told else "auto")
    assert foreign.layout == layout
    patches, tokens = outputs(foreign, some_images())
    expected_patches, expected_tokens = made.forward(state, some_images())
    assert expected_patches.std() > 0.5  # neither is degenerate
    torch.testing.assert_close(patches, expected_patches, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(tokens, expected_tokens, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "cls", "registers", "positions"),
    [
        ("ijepa", False, 0, "sincos"),
        ("mae", True, 0, "sincos"),
        ("mae, learned positions", True, 0, "learned"),
        ("dinov2", True, 4, "learned"),
        ("dinov2, sin-cos positions", True, 4, "sincos"),
    ],
)
def test_the_shape_is_read_off_the_tensors(name, cls, registers, positions, write):
    config = read_foreign(write(MADE[name][0]), heads=HEADS).config
    assert config.model_dump() == {
        "image_size": SIDE,
        "patch_size": PATCH,
        "width": WIDTH,
        "depth": 3,
        "heads": HEADS,
        "cls_token": cls,
        "registers": registers,
        "mlp_ratio": 3.0,
        "positions": positions,
        "initial": "fixed",
    }


def test_a_ratio_that_no_float_holds_gives_the_hidden_width_all_the_same(write):
    content, _ = made.mae(hidden=139)
    foreign = read_foreign(write(content), heads=HEADS)
    assert encoder_of(foreign).blocks[0].fc1.out_features == 139


def test_every_pixel_of_a_patch_meets_its_own_weight(write):
    content, state = made.ijepa()
    weight = read_foreign(write(content), heads=HEADS).weights["patch_embed.weight"]
    for row, column, channel in ((0, 0, 0), (0, 1, 2), (3, 2, 1), (3, 3, 2)):
        place = (row * PATCH + column) * 3 + channel
        assert torch.equal(weight[:, place], state["patch_embed.proj.weight"][:, channel, row, column])


def test_the_class_token_takes_its_position_along_and_registers_have_none(write):
    content, state = made.dinov2()
    tokens = read_foreign(write(content), heads=HEADS).weights["global_tokens"]
    assert torch.equal(tokens[0], state["cls_token"][0, 0] + state["pos_embed"][0, 0])
    assert torch.equal(tokens[1:], state["register_tokens"][0])


def test_a_position_table_without_a_row_for_the_class_token_is_one_too(write):
    content, state = made.dinov2()
    content["pos_embed"] = content["pos_embed"][:, 1:]
    content["reg_token"] = content.pop("register_tokens")  # timm's own name
    foreign = read_foreign(write(content), heads=HEADS)
    assert torch.equal(foreign.weights["global_tokens"][0], state["cls_token"][0, 0])
    assert torch.equal(foreign.weights["positions_ND"], state["pos_embed"][0, 1:])


@pytest.mark.parametrize(("error", "positions"), [(9e-5, "sincos"), (2e-4, "learned")])
def test_a_table_is_the_fixed_one_within_a_ten_thousandth(error, positions, write):
    content, _ = made.ijepa()
    content["target_encoder"]["module.pos_embed"][0, 5, 3] += error
    foreign = read_foreign(write(content), heads=HEADS)
    assert foreign.config.positions == positions
    assert ("positions_ND" in foreign.weights) == (positions == "learned")


def test_the_moving_average_is_preferred_to_the_student(write):
    content, state = made.ijepa()
    assert torch.equal(read_foreign(write(content), heads=HEADS).weights["norm.bias"], state["norm.bias"])
    student = content["encoder"]["module.norm.bias"]
    del content["target_encoder"]
    foreign = read_foreign(write(content), heads=HEADS)
    assert torch.equal(foreign.weights["norm.bias"], student)
    assert any("read encoder as I-JEPA's" in note for note in foreign.notes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_become_float32(dtype, write):
    _, state = made.mae()
    foreign = read_foreign(write({name: tensor.to(dtype) for name, tensor in state.items()}), heads=HEADS)
    assert {tensor.dtype for tensor in foreign.weights.values()} == {torch.float32}
    assert torch.equal(foreign.weights["norm.bias"], state["norm.bias"].to(dtype).float())


def test_safetensors_hold_the_same(write):
    content, state = made.dinov2()
    one = read_foreign(write(content), heads=HEADS)
    two = read_foreign(write(content, "WEIGHTS.safetensors"), heads=HEADS)
    assert one.config == two.config
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)
    assert torch.equal(two.weights["norm.weight"], state["norm.weight"])


# ---- heads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "heads"), [(64, 1), (192, 3), (1280, 16), (1408, 16)])
def test_heads_are_those_that_were_published_and_it_is_said_that_they_are_a_guess(width, heads, write):
    content, _ = made.mae(width=width, hidden=4, depth=1)
    foreign = read_foreign(write(content))
    assert foreign.config.heads == heads
    assert f"{heads} heads of {width // heads}, the custom at width {width}: the file does not say" in foreign.notes


def test_heads_that_are_given_are_taken_and_no_guess_is_noted(write):
    foreign = read_foreign(write(made.mae(width=64)[0]), heads=2)
    assert foreign.config.heads == 2
    assert not any("heads" in note for note in foreign.notes)


def test_heads_of_an_unusual_width_must_be_given(write):
    with pytest.raises(CheckpointError, match=r"width 32 .* --heads"):
        read_foreign(write(made.mae()[0]))
    with pytest.raises(CheckpointError, match=r"width 32 .* heads \(5\)"):
        read_foreign(write(made.mae()[0]), heads=5)


# ---- another image size --------------------------------------------------------------------------------------------


def test_learned_positions_are_resampled_for_another_size(write):
    content, state = made.dinov2()
    foreign = read_foreign(write(content), heads=HEADS, image_size=10 * PATCH)
    expected = resize_positions(state["pos_embed"][0, 1:], 10)
    assert foreign.config.grid == 10
    assert torch.equal(foreign.weights["positions_ND"], expected)
    assert any("resampled bicubically" in note and "40 instead of 28" in note for note in foreign.notes)
    wide = {**state, "pos_embed": torch.cat([state["pos_embed"][:, :1], expected[None]], dim=1)}
    patches, _ = outputs(foreign, some_images(40))
    torch.testing.assert_close(patches, made.forward(wide, some_images(40))[0], atol=2e-5, rtol=1e-5)


def test_fixed_positions_are_computed_for_another_size(write):
    content, state = made.ijepa()
    foreign = read_foreign(write(content), heads=HEADS, image_size=10 * PATCH)
    assert foreign.config.positions == "sincos"
    assert any("fixed table for 40 instead of 28" in note for note in foreign.notes)
    wide = {**state, "pos_embed": made.sincos(WIDTH, 10)[None]}
    patches, _ = outputs(foreign, some_images(40))
    torch.testing.assert_close(patches, made.forward(wide, some_images(40))[0], atol=2e-5, rtol=1e-5)


def test_the_files_own_size_changes_nothing(write):
    content, state = made.dinov2()
    foreign = read_foreign(write(content), heads=HEADS, image_size=SIDE)
    assert torch.equal(foreign.weights["positions_ND"], state["pos_embed"][0, 1:])
    assert not any("positions" in note for note in foreign.notes)


def test_a_size_that_patches_do_not_fill_is_refused(write):
    with pytest.raises(CheckpointError, match="image_size 30 is no multiple of patch_size 4"):
        read_foreign(write(made.mae()[0]), heads=HEADS, image_size=30)


def test_the_made_table_is_ours():
    torch.testing.assert_close(made.sincos(), sincos_positions(WIDTH, GRID), atol=1e-6, rtol=0)


# ---- what does not fit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ijepa", "mae", "dinov2"])
def test_a_tensor_that_would_be_lost_is_refused_by_its_name(name, write):
    _, state = MADE[name]
    with pytest.raises(CheckpointError, match=r"beyond this layout, 'blocks.1.attn.q_norm.weight'"):
        read_foreign(write({**state, "blocks.1.attn.q_norm.weight": torch.ones(8)}), heads=HEADS)


def test_only_five_are_listed_and_the_others_counted(write):
    _, state = made.mae()
    more = {f"head.{i}": torch.ones(1) for i in range(7)}
    with pytest.raises(CheckpointError, match=r"'head.0', .*'head.4' and 2 more$"):
        read_foreign(write({**state, **more}), heads=HEADS)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("ijepa", "pos_embed"),
        ("ijepa", "norm.weight"),
        ("mae", "patch_embed.proj.weight"),
        ("mae", "blocks.1.attn.qkv.bias"),
        ("dinov2", "blocks.2.ls2.gamma"),
        ("dinov2", "blocks.0.mlp.fc1.bias"),
    ],
)
def test_a_missing_tensor_is_named(name, missing, write):
    state = dict(MADE[name][1])
    del state[missing]
    with pytest.raises(CheckpointError, match=f"lacks '{missing}'"):
        read_foreign(write(state), heads=HEADS)


def test_a_missing_block_is_named(write):
    _, state = made.mae()
    state = {name: tensor for name, tensor in state.items() if not name.startswith("blocks.1.")}
    with pytest.raises(CheckpointError, match=r"lacks 'blocks.1.attn.proj.bias', .* and 7 more"):
        read_foreign(write(state), heads=HEADS)


def test_a_file_without_blocks_lacks_them(write):
    with pytest.raises(CheckpointError, match=r"lacks 'blocks\.0"):
        read_foreign(write({"cls_token": torch.zeros(1, 1, 8), "pos_embed": torch.zeros(1, 50, 8)}))


def test_a_name_cannot_claim_a_billion_blocks(write):
    _, state = made.mae()
    for index in ("9999", "999999999999"):
        with pytest.raises(CheckpointError, match="the file"):
            read_foreign(write({**state, f"blocks.{index}.norm1.bias": torch.ones(1)}), heads=HEADS)


def test_the_wrong_layout_is_refused(write):
    with pytest.raises(CheckpointError, match=r"I-JEPA's layout, .* 'cls_token'"):
        read_foreign(write(made.mae()[1]), heads=HEADS, layout="ijepa")
    with pytest.raises(CheckpointError, match=r"MAE's layout, .* lacks 'cls_token'"):
        read_foreign(write(made.ijepa()[1]), heads=HEADS, layout="mae")
    with pytest.raises(CheckpointError, match=r"DINOv2's layout, .* 'blocks.0.ls1.gamma'"):
        read_foreign(write(made.mae()[1]), heads=HEADS, layout="dinov2")


@pytest.mark.parametrize("layout", ["auto", "dinov2"])
def test_a_swiglu_feed_forward_is_refused_for_what_it_is(layout, write):
    _, state = made.dinov2()
    state = {name: tensor for name, tensor in state.items() if ".mlp." not in name}
    state |= {f"blocks.{i}.mlp.{part}.weight": torch.ones(8, 8) for i in range(3) for part in ("w12", "w3")}
    with pytest.raises(CheckpointError, match="SwiGLU"):
        read_foreign(write(state), heads=HEADS, layout=layout)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("patch_embed.proj.weight", (WIDTH, 1, PATCH, PATCH), r"\(32, 1, 4, 4\), \(32, 3, 4, 4\) is expected"),
        ("patch_embed.proj.weight", (WIDTH, 3, 2, PATCH, PATCH), "patch_embed.proj.weight"),
        ("patch_embed.proj.weight", (), "patch_embed.proj.weight"),
        ("patch_embed.proj.bias", (8,), r"patch_embed.bias: its shape is \(8,\), \(32,\)"),
        ("pos_embed", (1, 51, WIDTH), "51 rows are no square of patches and a class token"),
        ("pos_embed", (1, 0, WIDTH), "0 rows"),
        ("pos_embed", (49, WIDTH), "pos_embed"),
        ("cls_token", (1, 2, WIDTH), "cls_token"),
        ("register_tokens", (4, WIDTH), "register_tokens"),
        ("register_tokens", (5,), "register_tokens"),
        ("norm.weight", (), "patch_embed.proj.weight"),
        ("norm.weight", (0,), "patch_embed.proj.weight"),
        ("blocks.1.ls1.gamma", (1,), r"blocks.1.ls1.gamma: its shape is \(1,\)"),
        ("blocks.2.attn.qkv.weight", (WIDTH, WIDTH), "blocks.2.qkv.weight"),
        ("blocks.2.mlp.fc1.bias", (7,), "blocks.2.fc1.bias"),
    ],
)
def test_a_tensor_of_another_shape_is_named(name, shape, message, write):
    _, state = made.dinov2()
    with pytest.raises(CheckpointError, match=message):
        read_foreign(write({**state, name: torch.ones(shape)}), heads=HEADS)


def test_positions_of_a_class_token_that_is_not_there_are_refused(write):
    _, state = made.ijepa()
    with pytest.raises(CheckpointError, match=r"50 rows are no square of patches$"):
        read_foreign(write({**state, "pos_embed": torch.zeros(1, 50, WIDTH)}), heads=HEADS)


@pytest.mark.parametrize("name", ["norm.bias", "blocks.0.ls1.gamma", "pos_embed", "cls_token"])
def test_numbers_that_are_not_finite_are_refused(name, write):
    _, state = made.dinov2()
    broken = state[name].clone()
    broken.view(-1)[-1] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        read_foreign(write({**state, name: broken}), heads=HEADS)


def test_a_tensor_that_is_there_twice_is_refused(write):
    _, state = made.mae()
    with pytest.raises(CheckpointError, match="1 tensors twice"):
        read_foreign(write({**state, "module.norm.bias": torch.ones(WIDTH)}), heads=HEADS)
