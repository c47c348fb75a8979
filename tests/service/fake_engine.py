"""An engine without a model, which fails as scripted and remembers what it was asked."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bootleg_bundle.bundle import Bundle
from bootleg_bundle.manifest import FileEntry, Manifest, Parity
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_service.errors import StartupError
from tests.provenance import made_up

from .pictures import SIDE, number_of

if TYPE_CHECKING:
    from collections.abc import Iterable

DIM = 8
GRID = (2, 2)
SPACE = "es1-0123456789abcdef0123456789abcdef"
NAME = "fake"


def fake_bundle(name: str = NAME, space: str = SPACE) -> Bundle:
    """A manifest with nothing behind it."""
    entry = FileEntry(sha256="0" * 64, bytes=0)
    manifest = Manifest(
        name=name,
        embedding_space=space,
        architecture={
            "name": "none",
            "image_size": SIDE,
            "patch_size": SIDE // 2,
            "width": DIM,
            "depth": 1,
            "heads": 1,
            "registers": 0,
            "parameters": 1,
        },
        preprocess=PreprocessSpec(height=SIDE, width=SIDE),
        outputs={"dim": DIM, "grid": GRID, "layers": (1,)},
        graphs={"fp32": {"file": "encoder.onnx", "opset": 20}},
        parity=(
            Parity(
                precision="fp32",
                output="embedding",
                images=1,
                relative_frobenius=0,
                cosine_min=1,
                cosine_p1=1,
                max_abs=0,
            ),
        ),
        provenance=made_up(),
        files={"encoder.onnx": entry, "golden.npz": entry},
    )
    return Bundle(Path("/nowhere"), manifest, ("ab" if name == NAME else "cd") * 32)


def embedding_of(number: int) -> np.ndarray:
    """What the fake engine answers for a shade, whoever is beside it in the batch."""
    return np.linspace(1, 2, DIM, dtype=np.float32) * np.float32(number + 1)


def patch_tokens_of(number: int) -> np.ndarray:
    """The patch tokens of a shade; whole numbers, so that float16 holds them."""
    return np.arange(GRID[0] * GRID[1] * DIM, dtype=np.float32).reshape(*GRID, DIM) + np.float32(number)


class FakeEngine:
    """Scriptable.

    Attributes:
        batches: sizes of the batches it was given, failed ones too.
        numbers: every image it was given, by number.
        poison: images whose batch fails.
        nan: images whose row is not finite.
        largest: a batch above this fails, like one that does not fit the memory.
        broken: every batch fails.
        short: one row too few is returned.
        golden: whether the golden check passes.
        closed: it was let go.
    """

    device = "fake"
    precision = "fp32"

    def __init__(self) -> None:
        self.providers = ["FakeExecutionProvider"]
        self.batches: list[int] = []
        self.numbers: list[int] = []
        self.poison: set[int] = set()
        self.nan: set[int] = set()
        self.largest: int | None = None
        self.broken = False
        self.short = False
        self.golden = True
        self.warmed: list[int] = []
        self.closed = False
        self.running = 0
        self._gate = threading.Event()
        self._gate.set()

    def hold(self) -> None:
        """Let every batch take until :meth:`release`."""
        self._gate.clear()

    def release(self) -> None:
        """End the wait."""
        self._gate.set()

    def warm_up(self, batches: Iterable[int]) -> None:
        """As :meth:`Engine.warm_up`."""
        self.warmed = list(batches)

    def check_golden(self) -> float:
        """As :meth:`Engine.check_golden`."""
        if not self.golden:
            raise StartupError("the model's golden check failed")
        return 0.0

    def close(self) -> None:
        """As :meth:`Engine.close`."""
        self.closed = True

    def run(self, pixels: np.ndarray, outputs: Iterable[str]) -> dict[str, np.ndarray]:
        """As :meth:`Engine.run`."""
        numbers = [number_of(image) for image in pixels]
        self.batches.append(len(numbers))
        self.numbers += numbers
        self.running += 1
        try:
            assert self._gate.wait(60), "nobody released the engine"
        finally:
            self.running -= 1
        if self.broken or self.poison.intersection(numbers) or (self.largest and len(numbers) > self.largest):
            raise RuntimeError("shape mismatch at /secret/path.cc:42")
        made = {
            "embedding": np.stack([embedding_of(number) for number in numbers]),
            "patch_tokens": np.stack([patch_tokens_of(number) for number in numbers]),
            "layers": np.stack([embedding_of(number)[None] for number in numbers]),
            "layer_tokens": np.stack([patch_tokens_of(number)[None] for number in numbers]),
        }
        for row, number in enumerate(numbers):
            if number in self.nan:
                for array in made.values():
                    array[row].flat[0] = np.nan
        rows = len(numbers) - self.short
        return {name: made[name][:rows] for name in outputs}
