"""A short trial of a run's steps: how fast they are once everything is warm.

``--plan`` calls it with a real trainer's step and real batches. It trains nothing that is kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch

from bootleg_training.engine.flops import image_flops
from bootleg_training.engine.trainer import compiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bootleg_training.config import RunConfig
    from bootleg_training.engine.batch import Batch
    from bootleg_training.engine.world import World

WARM_STEPS = 2
WARM_STEPS_COMPILED = 8
"""In a row and without a new length of sequence, as each of those is compiled when it first comes."""
LAPS = 20
"""Laps of a trial; the device is waited for at the end of each, as the loop does at each of its log points."""


@dataclass(frozen=True)
class Trial:
    """What a trial gave.

    Attributes:
        steps: timed.
        images_per_s: of all processes; the median over laps.
        data_wait: share of the time spent waiting for images, as in ``metrics.jsonl``.
        flops_per_image: mean over the timed steps.
    """

    steps: int
    images_per_s: float
    data_wait: float
    flops_per_image: float


@dataclass(frozen=True)
class Stopwatch:
    """How time is told, so that tests can tell it otherwise.

    Attributes:
        device: of the flags that processes exchange.
        world: the processes, which must take the same number of steps.
        clock: seconds.
        shown: told the seconds that have passed.
    """

    device: torch.device
    world: World
    clock: Callable[[], float] = time.monotonic
    shown: Callable[[float], None] = lambda _: None

    def wait(self) -> float:
        """Seconds, once the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock()

    def over(self, begun: float, seconds: float) -> bool:
        """Whether the time is up in any process."""
        passed = self.clock() - begun
        self.shown(passed)
        return self.world.any(flag=passed >= seconds, device=self.device)

    def shared(self, seconds: float) -> float:
        """The processes' average."""
        return float(self.world.mean(torch.tensor(seconds, device=self.device)))


def measure(
    step: Callable[[Batch], object],
    source: Iterator[Batch],
    config: RunConfig,
    seconds: float,
    watch: Stopwatch,
) -> Trial:
    """Warm up for at most ``seconds``, then time steps for ``seconds``, at least one lap of them.

    Args:
        step: computes a batch.
        source: this process's batches.
        config: resolved settings.
        seconds: of the timed part.
        watch: tells the time.
    """
    one_step = _warm_up(step, source, config, seconds, watch)
    per_lap = max(1, round(seconds / LAPS / max(one_step, 1e-6)))
    rates: list[float] = []
    waited, flops, steps = 0.0, 0, 0
    begun = watch.wait()
    while not rates or not watch.over(begun, seconds):
        lap_begun = watch.clock()
        for _ in range(per_lap):
            asked = watch.clock()
            batch = next(source)
            waited += watch.clock() - asked
            step(batch)
            visible, rectangle = _lengths(batch)
            flops += image_flops(config, visible=visible, rectangle=rectangle).total
        steps += per_lap
        rates.append(per_lap * config.batch_size / max(watch.wait() - lap_begun, 1e-9))
    passed = max(watch.clock() - begun, 1e-9)
    return Trial(steps, median(rates), waited / passed, flops / steps)


def _warm_up(
    step: Callable[[Batch], object],
    source: Iterator[Batch],
    config: RunConfig,
    seconds: float,
    watch: Stopwatch,
) -> float:
    """Take steps until nothing is new; the seconds of the last one."""
    compiled = compiles(config, watch.device)
    wanted = WARM_STEPS_COMPILED if compiled else WARM_STEPS
    begun, seen, quiet = watch.clock(), set[tuple[int, int]](), 0
    while True:
        batch = next(source)
        step_begun = watch.wait()
        step(batch)
        took = watch.wait() - step_begun
        quiet = 0 if compiled and _lengths(batch) not in seen else quiet + 1
        seen.add(_lengths(batch))
        if watch.over(begun, seconds) or quiet >= wanted:
            return watch.shared(took)


def _lengths(batch: Batch) -> tuple[int, int]:
    return batch.visible_BV.shape[1], batch.rectangles_BMT.shape[2]
