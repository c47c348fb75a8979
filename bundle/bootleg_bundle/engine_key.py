"""What a TensorRT engine is named by: bundle, precision, GPU, TensorRT and how it was built.

``bootleg engine`` and the service make the same key of the same machine; an engine whose key differs
in anything is another engine.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bootleg_bundle.errors import ConfigError

if TYPE_CHECKING:
    from bootleg_bundle.bundle import Bundle

BATCHES: Final = (1, 8, 32)
"""An engine's batch buckets: largest sizes of its optimisation profiles."""

BUILDER_FLAGS: Final = ("no_tf32",)
"""What ``bootleg engine`` sets beside the defaults. TF32 would round float32 products to 10 bits, more than the golden
check of fp32 allows. Never the refit flag: TensorRT 11.3 can zero biases of refittable engines."""

LARGEST_BATCH: Final = 4096


def _ascending(batches: tuple[int, ...]) -> tuple[int, ...]:
    if not batches or list(batches) != sorted(set(batches)) or not 1 <= batches[0] <= batches[-1] <= LARGEST_BATCH:
        raise ValueError(f"{','.join(map(str, batches))}: give sizes in ascending order, each 1 to {LARGEST_BATCH}")
    return batches


Batches = Annotated[tuple[int, ...], AfterValidator(_ascending)]


class EngineKey(BaseModel):
    """Everything that decides whether an engine may be run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str = Field(pattern=r"^[0-9a-f]{64}$", description="the bundle's sha256")
    precision: str
    gpu: str = Field(description="the GPU's name, as its driver gives it")
    compute_capability: str = Field(pattern=r"^\d+\.\d+$")
    tensorrt: str = Field(description="TensorRT's whole version")
    batches: Batches
    flags: tuple[str, ...] = Field(description="of the builder, where they differ from its defaults")

    @property
    def stem(self) -> str:
        """The name of its files: readable first, then a hash of the whole key."""
        digest = hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
        return f"{self.bundle[:12]}-{self.precision}-{self.machine}-{digest[:12]}"

    @property
    def machine(self) -> str:
        """GPU and TensorRT alone: the name of what all bundles share here, such as a timing cache."""
        gpu = re.sub(r"[^a-z0-9]+", "-", self.gpu.lower()).strip("-")[:40]
        return f"{gpu}-sm{self.compute_capability.replace('.', '')}-trt{self.tensorrt}"


def engine_key(
    bundle: Bundle,
    precision: str,
    *,
    gpu: str,
    compute_capability: str,
    tensorrt: str,
    batches: tuple[int, ...],
    flags: tuple[str, ...] = BUILDER_FLAGS,
) -> EngineKey:
    """The key of a bundle's engine on this machine, the same for who builds it and who runs it."""
    return EngineKey(
        bundle=bundle.sha256,
        precision=precision,
        gpu=gpu,
        compute_capability=compute_capability,
        tensorrt=tensorrt,
        batches=batches,
        flags=flags,
    )


def parse_batches(text: str) -> tuple[int, ...]:
    """Read a list such as ``1,8,32``.

    Raises:
        ConfigError: it is none, not ascending, or out of bounds.
    """
    try:
        return _ascending(tuple(int(part) for part in text.split(",")))
    except ValueError as error:
        reason = str(error) if "ascending" in str(error) else f"{text!r} is no list of numbers such as 1,8,32"
        raise ConfigError(f"batches: {reason}") from None
