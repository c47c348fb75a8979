import pytest
import torch
from pydantic import ValidationError

from bootleg_training.heads.classes import numbered_classes
from bootleg_training.heads.config import HeadConfig
from bootleg_training.heads.model import build_head

WIDTH, LAYERS, GRID, CLASSES = 12, 3, 4, 5


def config(kind, **changes):
    return HeadConfig(kind=kind, size=32, classes=numbered_classes(CLASSES), **changes)


def made(kind, **changes):
    torch.manual_seed(0)
    head = build_head(config(kind, **changes), WIDTH, LAYERS)
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return head.eval()


def tokens(kind, batch=2, grid=GRID):
    layers = () if kind == "linear" else (LAYERS,)
    return torch.randn(batch, *layers, grid, grid, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("kind", "upscale"), [("linear", 1), ("layers", 1), ("layers", 2), ("layers", 3)])
@torch.no_grad()
def test_logits_have_a_channel_a_class_and_upscale_rows_a_patch(kind, upscale):
    head = made(kind, upscale=upscale, channels=8)
    assert head(tokens(kind)).shape == (2, CLASSES, GRID * upscale, GRID * upscale)
    assert head(tokens(kind, grid=7)).shape[2:] == (7 * upscale, 7 * upscale)


@torch.no_grad()
def test_a_linear_head_is_one_linear_map_of_each_patch():
    head, x = made("linear"), tokens("linear")
    expected = x[1, 2, 3] @ head.project.weight.T + head.project.bias
    torch.testing.assert_close(head(x)[1, :, 2, 3], expected)


@torch.no_grad()
def test_an_answer_does_not_depend_on_the_others_of_the_batch():
    head, x = made("layers", upscale=2, channels=8), tokens("layers", 3)
    torch.testing.assert_close(head(x)[1:2], head(x[1:2]), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_the_scale_and_offset_of_a_hidden_layer_do_not_matter():
    head, x = made("layers", upscale=2, channels=8), tokens("layers")
    moved = x.clone()
    moved[:, 1] = 30 * x[:, 1] + 7
    torch.testing.assert_close(head(moved), head(x), rtol=1e-4, atol=1e-4)
    moved[:, 1] = x[:, 1].flip(-1)
    assert not torch.allclose(head(moved), head(x), atol=1e-2)


@torch.no_grad()
def test_rows_of_logits_are_rows_of_the_image():
    """Whatever the sub-patch shuffle does, a change in one patch is strongest there."""
    head, x = made("layers", upscale=2, channels=8), tokens("layers", 1)
    changed = x.clone()
    changed[0, :, 0, 3] = changed[0, :, 0, 3].flip(-1)
    strength = (head(changed) - head(x))[0].norm(dim=0)
    row, column = divmod(int(strength.argmax()), 2 * GRID)
    assert (row // 2, column // 2) == (0, 3)


@pytest.mark.parametrize("kind", ["linear", "layers"])
@torch.no_grad()
def test_absorbing_the_standardisation_changes_no_answer(kind):
    head, x = made(kind, channels=8), tokens(kind)
    features = head.features(x)
    mean, std = torch.randn(features.shape[-1]), torch.rand(features.shape[-1]) + 0.1
    before = head.decode((features - mean) / std)
    head.absorb(mean, std)
    torch.testing.assert_close(head(x), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "linear", "upscale": 2}, "upscale 2"),
        ({"kind": "linear", "classes": numbered_classes(1)}, "at least 2"),
        ({"kind": "linear", "surprise": 1}, "surprise"),
        ({"kind": "deep"}, "kind"),
    ],
)
def test_a_description_that_is_off_is_refused(fields, said):
    with pytest.raises(ValidationError, match=said):
        HeadConfig.model_validate({"size": 32, "classes": numbered_classes(CLASSES), **fields})


def test_the_kind_says_what_feeds_it():
    assert config("linear").input == "patch_tokens"
    assert config("layers").input == "layer_tokens"
