"""What an operator may set: one frozen object per concern, composed once by the command line.

Nothing below the entry point reads the environment.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bootleg_bundle.engine_cache import default_engine_cache
from bootleg_bundle.engine_key import BATCHES, Batches
from bootleg_bundle.images import ImageLimits

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]

_ORIGIN: Final = re.compile(r"https?://([a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?")


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise ValueError("an origin is a scheme, a host and perhaps a port: https://app.example.org; there is no '*'")
    return text


Network = Annotated[str, AfterValidator(_network)]
Origin = Annotated[str, AfterValidator(_origin)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RequestLimits(_Settings):
    """What one request may cost."""

    image: ImageLimits = ImageLimits()
    max_images: Count = Field(32, description="images in one request")
    max_body_bytes: Count = Field(64 * 2**20, description="body of a request with several images")
    max_held_bytes: Count = Field(512 * 2**20, description="bodies of all requests that are being received or answered")
    max_connections: Count = Field(1024, description="open at the same time; one more is answered with 503")
    max_header_bytes: Count = Field(64 * 2**10, description="request line and headers")
    header_seconds: Seconds = Field(10.0, description="from a connection or a request's first byte to the headers' end")
    receive_seconds: Seconds = Field(10.0, description="from the first byte of the body to its last")
    request_seconds: Seconds = Field(10.0, description="from the body's last byte to the answer")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max_held_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_held_bytes: {self.max_held_bytes:,} are less than one body may have, {self.max_body_bytes:,}"
            )
        return self


class BatchSettings(_Settings):
    """How requests are merged into batches."""

    max_batch: Count = Field(8, description="images of one forward pass")
    max_wait_seconds: Annotated[float, Field(ge=0)] = Field(
        0.004, description="longest wait for images that are still being decoded, when the device is free"
    )
    max_queue_items: Count = Field(512, description="decoded images waiting for the device")
    max_queue_bytes: Count = Field(256 * 2**20, description="pixels of those images")
    bulk_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.25, description="of the places, for bulk images that have waited for long while interactive ones wait too"
    )
    bulk_patience_seconds: Seconds = Field(0.5, description="after which a bulk image has waited for long")
    stall_seconds: Seconds = Field(30.0, description="without progress, with work to do: then the model is stuck")
    max_failures: Count = Field(8, description="images in a row the model may fail on before nothing is taken")


class DecodeSettings(_Settings):
    """Who decodes images, and what one may cost them."""

    threads: Count = Field(2, description="that decode, when no processes do")
    processes: int = Field(0, ge=0, le=256, description="that decode; 0: threads of the server")
    max_waiting: Count = Field(512, description="images in or before decode")
    seconds: Seconds = Field(10.0, description="of decoding one image, after which its process is killed")
    memory_bytes: Annotated[int, Field(ge=256 * 2**20)] = Field(
        2 * 2**30, description="address space of a decoding process, where the system can limit it"
    )


class CacheSettings(_Settings):
    """Where results are kept: in the process, and in Redis behind it when that is set."""

    memory_bytes: int = Field(
        64 * 2**20, ge=0, description="in-process cache; responses take up to a quarter as much again; 0: neither"
    )
    redis_url: str | None = None
    redis_get_seconds: Seconds = Field(0.05, description="deadline of one look-up")
    redis_set_seconds: Seconds = Field(0.2, description="deadline of one store")
    redis_ttl_seconds: Seconds = Field(7 * 86_400.0, description="expiry, shortened at random by up to a tenth")
    breaker_failures: Count = Field(3, description="failures in a row that stop all Redis calls for a while")
    breaker_seconds: Seconds = 5.0

    @property
    def response_bytes(self) -> int:
        """For whole responses, which are kept beside what they were made of: a quarter as much again."""
        return self.memory_bytes // 4


class EngineSettings(_Settings):
    """Where the model runs."""

    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    precision: str = Field("auto", description="a graph of the bundle; auto: fp16 on a GPU if there, else fp32")
    threads: int = Field(0, ge=0, description="ONNX Runtime's own threads; 0: one per core")
    engine_cache: Path = Field(default_factory=default_engine_cache, description="where TensorRT engines lie")
    gpu_memory_bytes: int = Field(
        0, ge=0, description="most that ONNX Runtime's arena takes on a GPU, for each model and head; 0: all there is"
    )
    canary_seconds: Seconds = Field(60.0, description="between runs of the golden images")
    tensorrt_batches: Batches = Field(BATCHES, description="batch buckets of the engine, as it was built")


class MaskSettings(_Settings):
    """What making masks may cost."""

    threads: Count = Field(1, description="that cluster, enlarge and write masks")
    max_waiting: Count = Field(64, description="masks waiting for such a thread")
    max_pixels: Count = Field(2**24, description="of all masks of one answer")
    max_vertices: Count = Field(200_000, description="of the polygons of one mask")


class AccessSettings(_Settings):
    """Who may ask."""

    keys_file: Path | None = Field(None, description="API keys, hashed; None: everybody may ask")
    admin_keys_file: Path | None = Field(None, description="keys of operators, hashed; None: no admin routes")
    show_documents: bool | None = Field(None, description="/docs and /openapi.json; None: only without keys")
    show_page: bool = Field(default=True, description="the page at /; its files hold nothing and are open to everybody")
    show_metrics: bool | None = Field(
        None, description="/metrics, for everybody or for nobody; when unset, as the other routes"
    )
    trusted_proxies: tuple[Network, ...] = Field((), description="whose X-Forwarded-For is believed")
    cors_origins: tuple[Origin, ...] = Field((), description="of web pages that may ask")

    @property
    def documents(self) -> bool:
        """Whether they are shown."""
        return self.keys_file is None if self.show_documents is None else self.show_documents


class LifecycleSettings(_Settings):
    """How the service ends, and when it asks to be spared."""

    grace_seconds: float = Field(5.0, ge=0, description="of serving on after a stop signal, with readiness red")
    drain_seconds: Count = Field(20, description="then, for requests in flight, before they are refused")
    saturated_seconds: Seconds = Field(60.0, description="of refusing images for the load, before readiness turns red")


class Settings(_Settings):
    """All of them."""

    limits: RequestLimits = RequestLimits()
    batch: BatchSettings = BatchSettings()
    cache: CacheSettings = CacheSettings()
    engine: EngineSettings = EngineSettings()
    access: AccessSettings = AccessSettings()
    masks: MaskSettings = MaskSettings()
    lifecycle: LifecycleSettings = LifecycleSettings()
    decode: DecodeSettings = DecodeSettings()
