"""What a run will need, for a person: memory, speed and hours, from a short trial and arithmetic.

:mod:`bootleg_training.engine.fit` makes it for ``bootleg train --plan``. Nothing is measured here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootleg_training.engine.begin import describe

if TYPE_CHECKING:
    from bootleg_training.config import RunConfig
    from bootleg_training.engine.trial import Trial

WAITS = 0.1
"""Share of the time spent waiting for images from which it is said."""


@dataclass(frozen=True)
class Plan:
    """What a run will need. Rates and memory are measured, the rest is arithmetic.

    Attributes:
        config: resolved settings that were asked about.
        hardware: each process's.
        processes: of the run.
        data_images: images of the data set.
        encoder_parameters: of the student; the teacher has as many.
        predictor_parameters: of the predictor.
        state_bytes: weights, both moments and the teacher, in each process.
        free_bytes: free on the device before the trial; None where that cannot be told.
        accumulate: micro-batches with which the trial fitted; None if with none.
        trial: what it gave; None if nothing fitted.
        peak_bytes: the most memory in use during the trial; None where that cannot be told.
    """

    config: RunConfig
    hardware: str
    processes: int
    data_images: int
    encoder_parameters: int
    predictor_parameters: int
    state_bytes: int
    free_bytes: int | None
    accumulate: int | None = None
    trial: Trial | None = None
    peak_bytes: int | None = None

    @property
    def fits(self) -> bool:
        """Whether the settings fit as they are."""
        return self.accumulate == self.config.accumulate

    @property
    def epochs(self) -> float:
        """How often the run sees each image."""
        return self.config.images / self.data_images

    @property
    def hours(self) -> float | None:
        """Of the whole run; checks and saves come on top."""
        return None if self.trial is None else self.config.images / self.trial.images_per_s / 3600

    @property
    def tflops(self) -> float | None:
        """TFLOP/s of each process, of the model's own arithmetic; see :mod:`bootleg_training.engine.flops`."""
        trial = self.trial
        return None if trial is None else trial.flops_per_image * trial.images_per_s / self.processes / 1e12

    def lines(self) -> list[str]:
        """The plan for a person."""
        encoder, predictor = self.encoder_parameters / 1e6, self.predictor_parameters / 1e6
        return [
            describe(self.config, self.hardware, self.processes),
            f"parameters: encoder {encoder:.2f} M, predictor {predictor:.2f} M",
            self._memory(),
            *self._measured(),
            self._verdict(),
        ]

    def _memory(self) -> str:
        parts = [f"memory: {_size(self.state_bytes)} of weights, moments and teacher"]
        if self.peak_bytes is not None:
            parts.append(f"{_size(self.peak_bytes)} at the peak of the trial")
        if self.free_bytes is not None:
            parts.append(f"{_size(self.free_bytes)} free before it")
        return "; ".join(parts)

    def _measured(self) -> list[str]:
        trial, hours, tflops = self.trial, self.hours, self.tflops
        if trial is None or hours is None or tflops is None:
            return []
        speed = f"{trial.images_per_s:,.1f} images/s in {trial.steps} steps"
        waiting = f"{100 * trial.data_wait:.0f} % of the time waiting for images"
        work = f"{trial.flops_per_image / 1e9:.3g} GFLOP an image, {tflops:.3g} TFLOP/s"
        length = f"{self.config.images:,} images, {self.epochs:,.1f} epochs of {self.data_images:,}"
        lines = [
            f"speed: {speed}, {waiting}; {work}",
            f"whole run: {_duration(hours)} for {length}; checks and saves come on top",
        ]
        if trial.data_wait > WAITS:
            lines.append("the model waits for images: pack them once with `bootleg prepare`, or give it more cores")
        return lines

    def _verdict(self) -> str:
        if self.fits:
            return "it fits"
        each = self.config.batch_size // self.processes
        if self.accumulate is None:
            return "it does not fit, not even one image at a time: take a smaller preset or another device"
        return (
            f"it does not fit: {each // self.config.accumulate} images at a time are too many; the numbers above are "
            f"those of {each // self.accumulate} at a time, with --set accumulate={self.accumulate}"
        )


def _size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.1f} minutes"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
