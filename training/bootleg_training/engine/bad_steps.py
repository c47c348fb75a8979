"""Steps that were not finite: counted on the device, and too many in a row end the run.

The loop counts every step and asks at log points only, so that no step waits for the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bootleg_bundle.errors import DivergedError
from bootleg_training.engine.divergence import save_reproduction

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from bootleg_training.engine.batch import Batch
    from bootleg_training.engine.progress import Progress
    from bootleg_training.engine.trainer import Trainer

MAX_BAD_STEPS = 10


class BadSteps:
    """Counts of steps that were not taken, kept on the device.

    Attributes:
        skipped: scalar, of the whole run.
    """

    def __init__(self, skipped: int, device: torch.device) -> None:
        self._row = torch.zeros((), device=device)
        self._longest_row = torch.zeros((), device=device)
        self.skipped = torch.full((), float(skipped), device=device)

    def count(self, taken: Tensor) -> None:
        """Count a step: ``taken`` is 1, or 0 where something was not finite."""
        self._row = (self._row + 1) * (1 - taken)
        self._longest_row = torch.maximum(self._longest_row, self._row)
        self.skipped = self.skipped + 1 - taken

    def check(self, trainer: Trainer, batch: Batch, progress: Progress, out: Path) -> None:
        """End the run if too many steps in a row were bad since the last call; waits for the device.

        Raises:
            DivergedError: they were; ``out/diverged`` reproduces the last of them.
        """
        row = int(self._longest_row)
        self._longest_row = torch.zeros_like(self._row)
        if row < MAX_BAD_STEPS:
            return
        kept = save_reproduction(out / "diverged", trainer, batch, progress)
        raise DivergedError(
            f"{row} steps in a row had a non-finite loss or gradient (seen at step {progress.step}); the weights are "
            f"those of the last good step. `bootleg replay {kept}` names the first module at fault. "
            "Lower optim.base_lr or use precision fp32"
        )
