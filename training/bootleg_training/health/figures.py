"""The health figures of an encoder: what the monitor measures, the verdict judges and the record keeps.

Everything is measured on one fixed batch, in float32 and without a random draw, so that a figure moves
only when the weights do.

Shapes: B images, H and W sides, C channels, N patch tokens, D width, Q target layers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.nn import functional as F

from bootleg_training.health.spectrum import alpha_req, mean_cosine, mean_std, rank_me
from bootleg_training.objective import TARGET_EPS
from bootleg_training.probes.features import TOKENS, network_input

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bootleg_bundle.preprocess import PreprocessSpec
    from bootleg_training.vit import Encoder


@dataclass(frozen=True)
class Health:
    """Figures of an encoder at one step; None where the record does not hold one.

    Two populations. **Pooled**: the mean patch token of each image, which is what the encoder is used for; if these
    are alike, images are no longer told apart, however much tokens differ by position. **Tokens**: all patch tokens
    of all images, which is what is predicted; if these are alike, the targets are a constant. Tokens of a hidden
    layer are normalised over their channels as targets are by default, so that no figure depends on a layer's scale.

    Attributes:
        step: steps taken.
        rank_me: RankMe of the embedding: the pooled last layer behind the final norm.
        alpha_req: alpha-ReQ of the embedding.
        feature_std: mean standard deviation of an embedding's channel over images.
        cosine: mean cosine of two images' embeddings.
        rank_me_layers: the same of each target layer, pooled.
        alpha_req_layers: the same of each target layer, pooled.
        feature_std_layers: the same of each target layer, pooled.
        cosine_layers: the same of each target layer, pooled.
        token_std_layers: mean standard deviation of a channel over tokens; 1 at most.
        student_layers: mean cosine between the teacher's token and the student's, for whole images.
        knn: k-NN accuracy of the embedding, on labelled data.
        knn_queries: images that ``knn`` is a share of.
    """

    step: int
    rank_me: float | None = None
    alpha_req: float | None = None
    feature_std: float | None = None
    cosine: float | None = None
    rank_me_layers: tuple[float, ...] = ()
    alpha_req_layers: tuple[float, ...] = ()
    feature_std_layers: tuple[float, ...] = ()
    cosine_layers: tuple[float, ...] = ()
    token_std_layers: tuple[float, ...] = ()
    student_layers: tuple[float, ...] = ()
    knn: float | None = None
    knn_queries: int | None = None

    def record(self) -> dict[str, Any]:
        """The figures that there are, with six digits."""
        return {name: _short(value) for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """Figures of a record, also of an older one that lacks some; a null in it was not finite."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: _long(value) for name, value in record.items() if name in names})


@torch.no_grad()
def measure(
    step: int,
    teacher: Encoder,
    student: Encoder,
    layers: tuple[int, ...],
    images: NDArray[np.uint8],
    spec: PreprocessSpec,
) -> Health:
    """Measure a teacher, and its student beside it; both may be the same encoder. Modes are not changed.

    Args:
        step: for the record.
        teacher: what is measured.
        student: compared with it, token by token.
        layers: 1-based blocks: the target layers.
        images: uint8 ``[images, h, w, 3]``, two at least.
        spec: preprocessing, that of the service.
    """
    device = next(teacher.parameters()).device
    batch = max(1, TOKENS // teacher.config.patches)
    embedding: list[Tensor] = []
    pooled: list[Tensor] = []
    tokens = _Tokens()
    for start in range(0, len(images), batch):
        x_BHWC = network_input(spec, images[start : start + batch], device)
        seen = teacher(x_BHWC, taps=layers)
        other = seen if student is teacher else student(x_BHWC, taps=layers)
        teacher_QBND, student_QBND = (
            torch.stack([F.layer_norm(z.float(), z.shape[2:], eps=TARGET_EPS) for z in one.taps])
            for one in (seen, other)
        )
        tokens.add(teacher_QBND, student_QBND)
        pooled.append(teacher_QBND.mean(dim=2).cpu())
        embedding.append(seen.patches.float().mean(dim=1).cpu())
    x_BD, z_QBD = torch.cat(embedding), torch.cat(pooled, dim=1)
    return Health(
        step,
        rank_me=rank_me(x_BD),
        alpha_req=alpha_req(x_BD),
        feature_std=mean_std(x_BD),
        cosine=mean_cosine(x_BD),
        rank_me_layers=tuple(map(rank_me, z_QBD)),
        alpha_req_layers=tuple(map(alpha_req, z_QBD)),
        feature_std_layers=tuple(map(mean_std, z_QBD)),
        cosine_layers=tuple(map(mean_cosine, z_QBD)),
        token_std_layers=tokens.std(),
        student_layers=tokens.agreement(),
    )


class _Tokens:
    """Sums over patch tokens, so that a data set's tokens are never held at once."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0
        self._cosines: Tensor | float = 0.0

    def add(self, teacher_QBND: Tensor, student_QBND: Tensor) -> None:
        self._count += teacher_QBND.shape[1] * teacher_QBND.shape[2]
        z_QBND = teacher_QBND.double()  # a constant's variance cancels out to the last digit
        self._sums = self._sums + z_QBND.sum(dim=(1, 2))
        self._squares = self._squares + z_QBND.square().sum(dim=(1, 2))
        self._cosines = self._cosines + F.cosine_similarity(teacher_QBND, student_QBND, dim=3).double().sum(dim=(1, 2))

    def std(self) -> tuple[float, ...]:
        variance_QD = self._squares / self._count - torch.as_tensor(self._sums / self._count).square()
        return tuple(torch.as_tensor(variance_QD).clamp_min(0).sqrt().mean(dim=1).tolist())

    def agreement(self) -> tuple[float, ...]:
        return tuple(torch.as_tensor(self._cosines / self._count).tolist())


def _short(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_short(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _long(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_long(item) for item in value)
    return float("nan") if value is None else value
