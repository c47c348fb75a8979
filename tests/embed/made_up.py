"""A source and a backend without files or a model: an image is its number, its row is that number's."""

from __future__ import annotations

import numpy as np

from bootleg_bundle.errors import CorruptImageError
from bootleg_bundle.sources import Source
from bootleg_embed.backend import Failure, Served
from bootleg_embed.journal import Identity

DIM = 5


class Numbers(Source):
    """``count`` images; those in ``corrupt`` cannot be decoded, those in ``absent`` not be read."""

    def __init__(self, count, corrupt=(), absent=()):
        self.name, self._count, self.corrupt, self._absent = "numbers", count, set(corrupt), set(absent)

    def __len__(self):
        return self._count

    def file(self, number):
        return f"folder/{number}.png"

    def label(self, number):
        return None

    def size(self, number):
        return len(str(number))

    def read(self, number):
        if number in self._absent:
            raise FileNotFoundError(2, "No such file or directory")
        return b"corrupt" if number in self.corrupt else str(number).encode()


class Doubling:
    """A backend whose row of image n is n, 2n, 3n, ..."""

    def __init__(self, group=4, fails=(), values=None):
        self.served = Served("made-up", "ab" * 32, "es1-" + "0" * 32, (DIM,))
        self.group, self.groups = group, []
        self._fails, self._values = set(fails), values or {}

    def prepare(self, data):
        if data == b"corrupt":
            raise CorruptImageError("the PNG image is truncated or corrupt")
        return int(data)

    def rows(self, prepared):
        self.groups.append(list(prepared))
        return [Failure("engine_error", "failed") if n in self._fails else self._row(n) for n in prepared]

    def close(self):
        """Nothing."""

    def _row(self, number):
        row = row_of(number)
        row[0] = self._values.get(number, row[0])
        return row


def row_of(number):
    """The row of an image."""
    return np.arange(1, DIM + 1, dtype=np.float32) * number


def identity(count, **changed):
    """Of a run over ``Numbers``."""
    fields = {
        "source": "s",
        "images": count,
        "output": "embedding",
        "dtype": "float32",
        "ids": "path",
        "model": "made-up",
        "model_sha256": "ab" * 32,
        "embedding_space": "es1-" + "0" * 32,
        "row": (DIM,),
    }
    return Identity(**fields | changed)


class Silent:
    """A meter that remembers."""

    def __init__(self):
        self.seen = []

    def update(self, done, failed):
        self.seen.append((done, failed))
