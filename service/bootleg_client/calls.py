"""The calls themselves, once for threads and asyncio: what is sent together, what becomes of a bad image.

Generators of steps (``steps.py``); no call here blocks, sleeps or opens a connection.
"""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from bootleg_client.answers import (
    NPY,
    SPACE_HEADER,
    Embeddings,
    Info,
    Masks,
    ModelInfo,
    ModelList,
    PatchGrids,
    parsed,
    rows,
)
from bootleg_client.errors import AnswerError, ApiError, ClientError, InputError, RequestRefusedError
from bootleg_client.images import encoded, listed, size_bound
from bootleg_client.retry import Chance, exchange
from bootleg_client.steps import Request, Together, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from bootleg_client.images import ImageInput
    from bootleg_client.settings import ClientSettings
    from bootleg_client.steps import Reply, Steps

OnError: TypeAlias = Literal["raise", "partial"]
PatchDtype: TypeAlias = Literal["float16", "float32"]
MaskMethod: TypeAlias = Literal["kmeans", "ncut", "foreground"]
MaskSize: TypeAlias = Literal["grid", "input"]

FORM_BYTES = 1024
"""What a multipart form adds to each image, at most."""


@dataclass(frozen=True)
class Limits:
    """What one request may hold."""

    images: int = 32
    image_bytes: int = 10 * 2**20
    body_bytes: int = 64 * 2**20
    model: str | None = None


@dataclass
class _Part:
    """The answered images of one request: their numbers, rows and space; and those that failed."""

    numbers: list[int] = field(default_factory=list)
    rows: list[NDArray[Any]] = field(default_factory=list)
    spaces: set[str] = field(default_factory=set)
    failures: dict[int, ClientError] = field(default_factory=dict)


@dataclass(frozen=True)
class _Shape:
    """Of an answer's array: its dimensions, the dtypes it may have, and the number for an image that failed."""

    dimensions: int
    dtypes: tuple[str, ...] = ("float32", "float16")
    absent: float = np.nan


_LABEL_MAPS = _Shape(3, ("uint8",), 255)


@dataclass(frozen=True)
class _Wanted:
    """What every request of one call has in common."""

    path: str
    params: Mapping[str, str]
    shape: _Shape
    on_error: OnError
    expires: float
    limits: Limits


class Calls:
    """The service's calls as generators of steps.

    Args:
        settings: checked.
        chance: time and randomness.
    """

    def __init__(self, settings: ClientSettings, chance: Chance | None = None) -> None:
        self._settings = settings
        self._chance = chance or Chance(time.monotonic, random.uniform, lambda: uuid.uuid4().hex)
        self._limits: Limits | None = None

    def headers(self) -> dict[str, str]:
        """What every request bears."""
        headers = {"User-Agent": "bootleg-client"}
        if self._settings.api_key is not None:
            headers["Authorization"] = f"Bearer {self._settings.api_key.get_secret_value()}"
        if self._settings.priority != "interactive":  # what the service takes a request for that says nothing
            headers["X-Priority"] = self._settings.priority
        return headers

    def info(self) -> Steps[Info]:
        """``GET /info``."""
        reply = yield from self._send(Request("GET", "/info"), self._expires())
        return parsed(reply, Info)

    def models(self) -> Steps[list[ModelInfo]]:
        """``GET /v1/models``."""
        reply = yield from self._send(Request("GET", "/v1/models"), self._expires())
        return list(parsed(reply, ModelList).data)

    def embed(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        dimensions: int | None,
        normalize: bool,
        layer: int | None,
        on_error: OnError,
    ) -> Steps[Embeddings]:
        """``POST /v1/images/embeddings``, in as many requests as it takes."""
        params = _given(dimensions=dimensions, layer=layer) | ({"normalize": "true"} if normalize else {})
        array, model, space, failures = yield from self._rows(
            listed(images), "/v1/images/embeddings", params, _Shape(2), on_error
        )
        return Embeddings(array.astype(np.float32, copy=False), model, space, failures)

    def patches(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        dtype: PatchDtype,
        layer: int | None,
        on_error: OnError,
    ) -> Steps[PatchGrids]:
        """``POST /v1/images/patches``, likewise."""
        params = {"dtype": dtype} | _given(layer=layer)
        found = yield from self._rows(listed(images), "/v1/images/patches", params, _Shape(4), on_error)
        return PatchGrids(*found)

    def segment(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        head: str | None,
        method: MaskMethod | None,
        clusters: int | None,
        size: MaskSize,
        on_error: OnError,
    ) -> Steps[Masks]:
        """``POST /v1/images/segment``, likewise."""
        params = {"size": size} | _given(head=head, method=method, clusters=clusters)
        return Masks(*(yield from self._rows(listed(images), "/v1/images/segment", params, _LABEL_MAPS, on_error)))

    def _rows(
        self, images: Sequence[ImageInput], path: str, params: Mapping[str, str], shape: _Shape, on_error: OnError
    ) -> Steps[tuple[NDArray[Any], str | None, str, dict[int, ClientError]]]:
        expires = self._expires()
        limits = yield from self._known_limits(expires)
        model = self._settings.model
        wanted = _Wanted(path, _given(model=model) | dict(params), shape, on_error, expires, limits)
        groups = packed([size_bound(image) for image in images], limits)
        parts: list[_Part] = yield Together([self._group(images, group, wanted) for group in groups])
        spaces = set().union(*(part.spaces for part in parts))
        if len(spaces) > 1:
            raise AnswerError(f"one call was answered from several embedding spaces: {', '.join(sorted(spaces))}")
        failures = {number: fault for part in parts for number, fault in part.failures.items()}
        array = _joined(parts, len(images), shape)
        return array, model or limits.model, next(iter(spaces), self._settings.embedding_space or ""), failures

    def _group(self, images: Sequence[ImageInput], numbers: Sequence[int], wanted: _Wanted) -> Steps[_Part]:
        """The images of one request; with ``partial``, again without each one that is refused."""
        part = _Part()
        data: dict[int, bytes] = yield Work(lambda: self._loaded(images, numbers, wanted, part))
        yield from self._answered(data, wanted, part)
        return part

    def _loaded(
        self, images: Sequence[ImageInput], numbers: Sequence[int], wanted: _Wanted, part: _Part
    ) -> dict[int, bytes]:
        data: dict[int, bytes] = {}
        for number in numbers:
            try:
                data[number] = encoded(images[number], number, wanted.limits.image_bytes)
            except InputError as error:
                if wanted.on_error == "raise":
                    raise
                part.failures[number] = error
        return data

    def _answered(self, data: dict[int, bytes], wanted: _Wanted, part: _Part) -> Steps[None]:
        while data:
            numbers = list(data)
            headers = {"Accept": NPY} | self._pin()
            request = Request("POST", wanted.path, wanted.params, headers, list(data.values()))
            try:
                reply = yield from self._send(request, wanted.expires)
            except ApiError as error:
                if error.code == "payload_too_large" and len(data) > 1:  # a proxy's limit may be below the service's
                    half = len(numbers) // 2
                    yield from self._answered({n: data[n] for n in numbers[:half]}, wanted, part)
                    yield from self._answered({n: data[n] for n in numbers[half:]}, wanted, part)
                    return
                guilty = _guilty(error, numbers)
                if guilty is None:
                    raise
                error.index = guilty
                if wanted.on_error == "raise":
                    raise
                part.failures[guilty] = error
                del data[guilty]  # the service kept what it computed of the others
                continue
            array, space = rows(reply, len(numbers), wanted.shape.dimensions, wanted.shape.dtypes)
            part.numbers += numbers
            part.rows.append(array)
            part.spaces.add(space)
            return

    def _known_limits(self, expires: float) -> Steps[Limits]:
        """The limits that ``/info`` publishes, asked for once; the defaults where it cannot be seen."""
        if self._limits is None:
            try:
                info = parsed((yield from self._send(Request("GET", "/info"), expires)), Info)
            except RequestRefusedError as error:
                if error.status not in {403, 404}:  # hidden by a proxy; a wrong key is 401 and must be said
                    raise
                self._limits = Limits()
            else:
                self._limits = Limits(
                    info.max_client_batch_size, info.max_image_bytes, info.max_body_bytes, info.model_id
                )
        return self._limits

    def _pin(self) -> dict[str, str]:
        space = self._settings.embedding_space
        return {} if space is None else {SPACE_HEADER: space}

    def _send(self, request: Request, expires: float) -> Steps[Reply]:
        s = self._settings
        return exchange(request, s.retry, self._chance, expires=expires, attempt_seconds=s.attempt_seconds)

    def _expires(self) -> float:
        return self._chance.clock() + self._settings.deadline_seconds


def _given(**options: int | str | None) -> dict[str, str]:
    return {name: str(value) for name, value in options.items() if value is not None}


def packed(sizes: Sequence[int], limits: Limits) -> list[range]:
    """Consecutive images in groups that fit one request, by number and by bytes."""
    groups: list[range] = []
    start, total = 0, 0
    for number, size in enumerate(sizes):
        full = number - start == limits.images or total + size + FORM_BYTES > limits.body_bytes
        if full and number > start:
            groups.append(range(start, number))
            start, total = number, 0
        total += size + FORM_BYTES
    return [*groups, range(start, len(sizes))]


def _guilty(error: ApiError, numbers: Sequence[int]) -> int | None:
    """The image that a fault is about: the one it names, or the only one where its code is an image's."""
    if error.index is not None and error.index < len(numbers):
        return numbers[error.index]
    single = len(numbers) == 1 and error.status in {413, 415, 422, 400} and error.param is None
    return numbers[0] if single else None


def _joined(parts: Sequence[_Part], count: int, shape: _Shape) -> NDArray[Any]:
    answered = [array for part in parts for array in part.rows]
    if not answered:
        return np.full((count, *[0] * (shape.dimensions - 1)), shape.absent, shape.dtypes[0])
    if len({array.shape[1:] for array in answered}) > 1:
        raise AnswerError("the answers of one call differ in their shapes")
    joined = np.full((count, *answered[0].shape[1:]), shape.absent, answered[0].dtype)
    for part in parts:
        if part.rows:
            joined[part.numbers] = np.concatenate(part.rows)
    return joined
