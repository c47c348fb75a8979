"""Property 7 of docs/method.md: with the last block behind the final norm as its only target, Bootleg is I-JEPA.

I-JEPA is written here a second time, from its paper and with nothing but tensor algebra: one image
and one rectangle at a time, every matrix spelled out.
"""

import numpy as np
import pytest
import torch

from tests.training.tiny import loss_of, tiny_batch, tiny_config, tiny_model

SIDE, PATCH, GRID = 32, 4, 8


def norm(x, weight=1.0, bias=0.0, eps=1e-6):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def gelu(x):
    return x * 0.5 * (1 + torch.erf(torch.from_numpy(x) / 2**0.5).numpy())


def block(w, prefix, x, heads):
    tokens, width = x.shape
    h = norm(x, w[prefix + "norm1.weight"], w[prefix + "norm1.bias"])
    q, k, v = np.split(h @ w[prefix + "qkv.weight"].T + w[prefix + "qkv.bias"], 3, axis=1)
    mixed = np.empty((tokens, width))
    for head in range(heads):
        cut = slice(head * width // heads, (head + 1) * width // heads)
        score = q[:, cut] @ k[:, cut].T / np.sqrt(width // heads)
        score = np.exp(score - score.max(1, keepdims=True))
        mixed[:, cut] = score / score.sum(1, keepdims=True) @ v[:, cut]
    x = x + mixed @ w[prefix + "proj.weight"].T + w[prefix + "proj.bias"]
    h = norm(x, w[prefix + "norm2.weight"], w[prefix + "norm2.bias"])
    h = gelu(h @ w[prefix + "fc1.weight"].T + w[prefix + "fc1.bias"])
    return x + h @ w[prefix + "fc2.weight"].T + w[prefix + "fc2.bias"]


def positions(width):
    table = np.zeros((GRID * GRID, width))
    for place in range(GRID * GRID):
        for axis, coordinate in enumerate((place % GRID, place // GRID)):
            for i in range(width // 4):
                angle = coordinate / 10000 ** (i / (width // 4))
                table[place, axis * width // 2 + i] = np.sin(angle)
                table[place, axis * width // 2 + width // 4 + i] = np.cos(angle)
    return table


def tokens(w, prefix, image):
    width = w[prefix + "patch_embed.bias"].size
    rows = [
        image[y : y + PATCH, x : x + PATCH].reshape(-1) for y in range(0, SIDE, PATCH) for x in range(0, SIDE, PATCH)
    ]
    return np.stack(rows) @ w[prefix + "patch_embed.weight"].T + w[prefix + "patch_embed.bias"] + positions(width)


def ijepa_loss(w, image, visible, rectangles, *, depth, predictor_depth, heads, cost):
    target = tokens(w, "teacher.", image)
    context = tokens(w, "student.", image)[visible]
    for i in range(depth):
        target = block(w, f"teacher.blocks.{i}.", target, heads)
        context = block(w, f"student.blocks.{i}.", context, heads)
    target = norm(target, w["teacher.norm.weight"], w["teacher.norm.bias"])
    target = norm(target, eps=1e-5)
    context = norm(context, w["student.norm.weight"], w["student.norm.bias"])
    context = context @ w["predictor.embed.weight"].T + w["predictor.embed.bias"]
    where = positions(context.shape[1])
    losses = []
    for rectangle in rectangles:
        x = np.concatenate([context + where[visible], w["predictor.mask_token"] + where[rectangle]])
        for i in range(predictor_depth):
            x = block(w, f"predictor.blocks.{i}.", x, heads)
        x = norm(x[len(visible) :], w["predictor.norm.weight"], w["predictor.norm.bias"])
        x = x @ w["predictor.head.weight"].T + w["predictor.head.bias"]
        losses.append(cost(x - target[rectangle]).mean())
    return np.mean(losses)


COSTS = {
    "mse": lambda d: d**2,
    "smooth_l1": lambda d: np.where(np.abs(d) < 1, d**2 / 2, np.abs(d) - 0.5),
    "l1": np.abs,
}


@pytest.mark.parametrize("sampler", ["uniform", "ijepa"])
@pytest.mark.parametrize("cost", COSTS)
def test_the_last_block_alone_gives_the_loss_of_an_independent_ijepa(cost, sampler, pack):
    config = tiny_config(
        encoder={"cls_token": False, "registers": 0},
        target={"layers": (3,), "loss": cost, "final_norm": True},
        mask={"sampler": sampler},
        batch_size=2,
    )
    model, batch = tiny_model(config), tiny_batch(config, pack)
    torch.nn.init.normal_(model.teacher.norm.weight, mean=1.0, std=0.3)  # so that the norm's affine part counts
    torch.nn.init.normal_(model.teacher.norm.bias, std=0.3)
    with torch.no_grad():  # a step into training: norms and biases that are not 1 and 0
        for parameter in model.parameters():
            parameter.add_(
                0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    w = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    expected = np.mean(
        [
            ijepa_loss(
                w,
                image.double().numpy(),
                visible.numpy(),
                rectangles.numpy(),
                depth=config.encoder.depth,
                predictor_depth=config.predictor.depth,
                heads=config.encoder.heads,
                cost=COSTS[cost],
            )
            for image, visible, rectangles in zip(
                batch.images_BHWC, batch.visible_BV, batch.rectangles_BMT, strict=True
            )
        ]
    )
    assert loss_of(model, batch).total.item() == pytest.approx(expected, rel=1e-4)
