"""The bundle's heads, run behind the encoder: their logits are outputs like its own, of the same forward pass.

The engine puts it around its session, so that batches, row checks and the golden check know no special case. A head
is small; it runs where the encoder's ONNX Runtime runs, else on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bootleg_bundle.manifest import HEAD_OUTPUT, golden_key
from bootleg_service.errors import StartupError
from bootleg_service.masks.placement import MAX_LABELS
from bootleg_service.onnx_session import PROVIDERS, OnnxSession

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from bootleg_bundle import Bundle
    from bootleg_bundle.manifest import Manifest
    from bootleg_service.engine import Session


class HeadedSession:
    """A session that also computes the logits of heads, named as :func:`golden_key` says.

    Attributes:
        providers: the encoder's.
    """

    def __init__(self, encoder: Session, bundle: Bundle, threads: int, *, gpu_memory_bytes: int = 0) -> None:
        """Load the heads.

        Raises:
            StartupError: a head cannot be loaded, or has more classes than a mask has labels.
        """
        self._encoder = encoder
        self.providers = encoder.providers
        device = "cuda" if PROVIDERS["cuda"] in encoder.providers else "cpu"
        self._heads: dict[str, tuple[str, OnnxSession]] = {}
        for name, head in bundle.manifest.heads.items():
            if len(head.classes) > MAX_LABELS:
                raise StartupError(f"head {name}: {len(head.classes)} classes; a mask has up to {MAX_LABELS}")
            session = OnnxSession(bundle.head(name), device, threads, gpu_memory_bytes=gpu_memory_bytes)
            self._heads[golden_key(name)] = head.input, session

    def run(self, feeds: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """As :meth:`Session.run`; the encoder runs once for all names."""
        asked = {name: self._heads[name] for name in names if name in self._heads}
        inputs = {fed_by for fed_by, _ in asked.values()}
        results = self._encoder.run(feeds, sorted({name for name in names if name not in asked} | inputs))
        for name, (fed_by, head) in asked.items():
            results[name] = head.run({fed_by: results[fed_by]}, [HEAD_OUTPUT])[HEAD_OUTPUT]
        return {name: results[name] for name in names}

    def close(self) -> None:
        """As :meth:`Session.close`."""
        self._encoder.close()
        for _, head in self._heads.values():
            head.close()


def with_heads(encoder: Session, bundle: Bundle, threads: int, *, gpu_memory_bytes: int = 0) -> Session:
    """The session with the bundle's heads, or itself when there are none.

    Raises:
        StartupError: a head cannot be loaded.
    """
    if not bundle.manifest.heads:
        return encoder
    return HeadedSession(encoder, bundle, threads, gpu_memory_bytes=gpu_memory_bytes)


def row_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Shape of one image's row of each output of the encoder and the heads."""
    heads = {golden_key(name): head.row_shape for name, head in manifest.heads.items()}
    return {**manifest.outputs.row_shapes, **heads}
