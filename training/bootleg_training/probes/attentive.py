"""Attentive probe, light form: one learned query looks at frozen patch tokens, a linear classifier at what it sees.

CAPI's protocol: a grid of learning rates and weight decays is trained at once on the same batches, the best
on a held-out tenth of the training part is read on the test part once. Here the tokens are cached, so there are no
random crops and flips, and the length is 10 passes over the data (CAPI: 12,500 iterations, 10 of ImageNet).

Shapes: B images, N patch tokens, W width, M members of the grid, h heads, d = W / h, C classes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bootleg_training.probes.split import held_out_tenth
from bootleg_training.probes.steps import shuffled, warm_cosine
from bootleg_training.progress import meter

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATES = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)
"""CAPI's ten begin at 1e-5 and end at 1e-2; short trainings want the upper end (CIFAR-10, 500 iterations: 5e-2)."""
DECAYS = (5e-4, 1e-3, 5e-2)
BETAS = (0.9, 0.95)
HEAD_WIDTH = 64
PASSES = 10
FEWEST, MOST = 500, 12_500
SCORE_BATCH = 512


@dataclass(frozen=True)
class AttentiveSettings:
    """How an attentive probe is trained.

    Attributes:
        iterations: None for ``PASSES`` over the training images, between ``FEWEST`` and ``MOST``.
        batch: images.
        rates: learning rates of the grid, for a batch of 256; scaled in proportion.
        decays: weight decays of the grid.
        warmup: share of the iterations; then cosine to zero.
        seed: of weights, order and held-out tenth.
    """

    iterations: int | None = None
    batch: int = 128
    rates: tuple[float, ...] = RATES
    decays: tuple[float, ...] = DECAYS
    warmup: float = 0.1
    seed: int = 0

    def steps(self, images: int) -> int:
        """Iterations for a number of training images."""
        return self.iterations or min(MOST, max(FEWEST, PASSES * images // self.batch))


DEFAULTS = AttentiveSettings()


@dataclass(frozen=True)
class AttentiveProbe:
    """Result of an attentive probe; ``rate`` (for a batch of 256) and ``decay`` are the chosen ones."""

    accuracy: float
    rate: float
    decay: float
    iterations: int


class AttentiveHeads(nn.Module):
    """M heads side by side, from one initialisation; each has tensors of its own, for an optimiser group of its own.

    A score is ``query . (K x)`` and an output ``sum of attention * (V x)``: both are linear in the token x, so keys and
    values are never formed. The query is folded into K and V is applied to the pooled tokens, which gives the same
    function for 1 / d of the work. The key's bias shifts all scores alike and cancels in the softmax; it is left out.
    """

    def __init__(self, width: int, classes: int, members: int, generator: torch.Generator) -> None:
        super().__init__()
        heads = max(1, width // HEAD_WIDTH)
        while width % heads:  # widths that are no multiple of 64
            heads -= 1

        def draw(*shape: int) -> Tensor:
            return 0.02 * torch.randn(*shape, generator=generator)

        first = {
            "query": draw(heads, width // heads),
            "key": draw(heads, width // heads, width) * width**-0.5 / 0.02,
            "value": draw(heads, width, width // heads) * width**-0.5 / 0.02,
            "value_bias": torch.zeros(width),
            "classifier": draw(width, classes),
            "classifier_bias": torch.zeros(classes),
        }
        self.heads = heads
        self.members = nn.ModuleList(
            nn.ParameterDict({name: tensor.clone() for name, tensor in first.items()}) for _ in range(members)
        )

    def stacked(self, name: str) -> Tensor:
        """One parameter of all members, ``[M, ...]``."""
        return torch.stack([member[name] for member in self.members])  # type: ignore[index]

    def forward(self, tokens_BNW: Tensor) -> Tensor:
        """Logits of every member, ``[B, M, C]``."""
        B, _, W = tokens_BNW.shape
        M, h = len(self.members), self.heads
        scale = (W // h) ** -0.5
        probes_MhW = torch.einsum("mhd,mhdw->mhw", self.stacked("query"), self.stacked("key")) * scale
        attention_BNP = (tokens_BNW @ probes_MhW.flatten(0, 1).T).softmax(dim=1)
        pooled_BMhW = (attention_BNP.transpose(1, 2) @ tokens_BNW).view(B, M, h, W)
        seen_BMW = torch.einsum("bmhw,mhwd->bmhd", pooled_BMhW, self.stacked("value")).flatten(2)
        seen_BMW = seen_BMW + self.stacked("value_bias")
        return torch.einsum("bmw,mwc->bmc", seen_BMW, self.stacked("classifier")) + self.stacked("classifier_bias")


@dataclass(frozen=True)
class Tokens:
    """Patch tokens ``[n, N, W]``, perhaps memory-mapped and read a batch at a time, and int64 labels ``[n]``."""

    values: NDArray[np.floating]
    labels: Tensor

    def rows(self, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Tokens float32 ``[B, N, W]`` and labels ``[B]`` of the given rows, rising: a file is read forwards."""
        rows = rows.sort().values
        x_BNW = torch.from_numpy(self.values[rows.numpy()].astype(np.float32))
        return x_BNW.to(device), self.labels[rows].to(device)


def attentive_probe(
    train: Tokens, test: Tokens, settings: AttentiveSettings = DEFAULTS, *, device: torch.device | None = None
) -> AttentiveProbe:
    """Train the grid on nine tenths of ``train``, choose on the rest, score the chosen member on ``test``.

    Args:
        train: patch tokens to learn from and to choose by.
        test: patch tokens to score on.
        settings: of the training.
        device: that trains; the CPU when None.

    Raises:
        DataError: fewer than two training images.
    """
    device = device or torch.device("cpu")
    classes = int(torch.max(train.labels.max(), test.labels.max())) + 1
    held, kept = held_out_tenth(len(train.labels), settings.seed)
    grid = list(itertools.product(settings.rates, settings.decays))
    generator = torch.Generator().manual_seed(settings.seed)
    heads = AttentiveHeads(train.values.shape[2], classes, len(grid), generator).to(device)
    _train(heads, train, kept, grid, settings, generator)
    best = int(_accuracies(heads, train, held).argmax())
    heads.members = nn.ModuleList([heads.members[best]])
    accuracy = float(_accuracies(heads, test, torch.arange(len(test.labels)))[0])
    return AttentiveProbe(accuracy, *grid[best], iterations=settings.steps(len(kept)))


def _train(
    heads: AttentiveHeads,
    data: Tokens,
    rows: Tensor,
    grid: list[tuple[float, float]],
    settings: AttentiveSettings,
    generator: torch.Generator,
) -> None:
    batch, steps = min(settings.batch, len(rows)), settings.steps(len(rows))
    device = next(heads.parameters()).device
    groups = [
        {"params": list(member.parameters()), "lr": rate * batch / 256, "weight_decay": decay}
        for member, (rate, decay) in zip(heads.members, grid, strict=True)
    ]
    optimiser = torch.optim.AdamW(groups, betas=BETAS, fused=True)
    schedule = warm_cosine(optimiser, steps, settings.warmup)
    with meter("attentive probe", steps) as shown:
        for done, chosen in enumerate(itertools.islice(shuffled(rows, batch, generator), steps), start=1):
            x_BNW, y_B = data.rows(chosen, device)
            logits_BCM = heads(x_BNW).transpose(1, 2)
            # Each member's gradient is that of its own mean loss: members share nothing but the batch.
            loss = F.cross_entropy(logits_BCM, y_B[:, None].expand(-1, len(grid)), reduction="sum") / len(y_B)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            shown.update(done)


@torch.no_grad()
def _accuracies(heads: AttentiveHeads, data: Tokens, rows: Tensor) -> Tensor:
    """Accuracy of each member on the given rows, ``[M]``."""
    device = next(heads.parameters()).device
    correct = torch.zeros(len(heads.members))
    for part in torch.split(rows, SCORE_BATCH):
        x_BNW, y_B = data.rows(part, device)
        correct += (heads(x_BNW).argmax(dim=2) == y_B[:, None]).sum(dim=0).cpu()
    return correct / len(rows)
