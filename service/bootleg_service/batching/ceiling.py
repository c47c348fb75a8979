"""How many images a batch may have: the setting, less what the device's memory did not hold, in the sizes it runs.

The batcher asks before it forms a batch. After an out-of-memory error the ceiling is half of what failed, and it rises
by one image after a while without another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootleg_service.batching.latency import LatencyModel

RECOVERY = 100
"""Full batches at the ceiling before it rises by one: memory that was short is tried again once in a while."""


def batch_sizes(device: str, most: int) -> tuple[int, ...]:
    """The sizes to which batches are filled up on a device.

    Powers of two on a GPU, where a size not seen before costs an allocation and new kernels, and where rounding differs
    between sizes; any size on a CPU.
    """
    if device not in {"cuda", "tensorrt"}:
        return ()
    powers = [2**i for i in range(most.bit_length()) if 2**i < most]
    return (*powers, most)


@dataclass
class Ceiling:
    """The largest batch.

    Attributes:
        most: by the settings.
        sizes: the only sizes the device runs, rising, as TensorRT's profiles; empty: any.
    """

    most: int
    sizes: tuple[int, ...] = ()
    now: int = field(init=False)
    _good: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.sizes = tuple(size for size in self.sizes if size <= self.most)
        self.now = self.sizes[-1] if self.sizes else self.most

    def lower(self, failed: int) -> None:
        """A batch of ``failed`` images did not fit the memory."""
        self.now = max(1, min(self.now, failed // 2))
        self._good = 0

    def passed(self, images: int) -> None:
        """A batch ran."""
        if self.now < self.most and images >= self.now:
            self._good += 1
            if self._good >= RECOVERY:
                self.now, self._good = self.now + 1, 0

    def take(self, waiting: int, latency: LatencyModel) -> int:
        """How many of the waiting images the next batch should have.

        With fixed sizes a batch is filled up to the next size, or a smaller full one goes first and the rest after it,
        whichever costs less for each image; filled up while the cost of sizes is not known.
        """
        take = min(waiting, self.now)
        down = max((size for size in self.sizes if size <= take), default=take)
        if latency.fixed is None or down == take:
            return take
        return down if latency.batch(down) / down < latency.batch(self.size(take)) / take else take

    def size(self, images: int) -> int:
        """To what size a batch is filled up."""
        return next((size for size in self.sizes if size >= images), images)
