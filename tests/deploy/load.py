"""Callers who do not stop asking while a test breaks something, and who keep what every one of them was told."""

from __future__ import annotations

import itertools
import threading
import urllib.error
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from bootleg_client import Client
from bootleg_client.errors import ClientError
from tests.deploy.stack import post, until


@dataclass
class Told:
    """What one kind of caller was told.

    Attributes:
        spaces: embedding space of each answer, in order.
        vectors: their vectors.
        faults: what was no answer.
    """

    spaces: list[str] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    faults: list[Any] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Requests that came to an end."""
        return len(self.spaces) + len(self.faults)


class Load:
    """Threads that post pictures until the context ends; each asks once a turn, with other bytes every time.

    Args:
        url: of the service.
        picture: a JPEG; bytes behind its end make it another file with the same pixels, which no cache has.
        plain: callers that ask once and repeat nothing.
        clients: callers with the Python client, by the space they pin (or None).
    """

    def __init__(self, url: str, picture: bytes, *, plain: int = 0, clients: tuple[str | None, ...] = ()) -> None:
        self._url, self._picture = url, picture
        self._numbers = itertools.count(1)
        self._ended = threading.Event()
        self.plain = Told()
        self.clients = [Told() for _ in clients]
        self._threads = [threading.Thread(target=self._ask_once) for _ in range(plain)]
        self._threads += [
            threading.Thread(target=self._ask_as_client, args=(pin, told))
            for pin, told in zip(clients, self.clients, strict=True)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, more: int) -> None:
        """Return when each kind of caller came to the end of ``more`` further requests."""
        everybody = [told for told in (self.plain, *self.clients) if told is not self.plain or self._has_plain]
        targets = [told.count + more for told in everybody]
        until(
            lambda: all(told.count >= target for told, target in zip(everybody, targets, strict=True)),
            f"{more} more requests came to an end",
        )

    @property
    def _has_plain(self) -> bool:
        return len(self._threads) > len(self.clients)

    def _next(self) -> bytes:
        return self._picture + next(self._numbers).to_bytes(8, "big")

    def _ask_once(self) -> None:
        while not self._ended.is_set():
            try:
                status, headers, body = post(f"{self._url}/v1/images/embeddings", self._next())
            except (OSError, urllib.error.URLError) as error:
                self.plain.faults.append(error)
                continue
            if status == 200:
                self.plain.spaces.append(headers["x-embedding-space"])
                self.plain.vectors.append(np.array(body["data"][0]["embedding"], np.float32))
            else:
                self.plain.faults.append((status, body))

    def _ask_as_client(self, pin: str | None, told: Told) -> None:
        with Client(self._url, embedding_space=pin) as client:
            while not self._ended.is_set():
                try:
                    found = client.embed(self._next())
                except ClientError as error:
                    told.faults.append(error)
                    continue
                told.spaces.append(found.embedding_space)
                told.vectors.append(found.vectors[0])
