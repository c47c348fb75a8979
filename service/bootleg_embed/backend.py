"""What turns encoded images into rows: the engine in this process (``local.py``) or a service (``remote.py``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Output: TypeAlias = Literal["embedding", "layers", "patches"]
GRAPH_OUTPUT: dict[Output, str] = {"embedding": "embedding", "layers": "layers", "patches": "patch_tokens"}


class Failure(NamedTuple):
    """Why an image has no row: a stable code and a sentence."""

    code: str
    reason: str


@dataclass(frozen=True)
class Served:
    """What a backend computes.

    Attributes:
        model: the bundle's name.
        sha256: the bundle's hash.
        space: the embedding space.
        row: shape of one image's row.
    """

    model: str
    sha256: str
    space: str
    row: tuple[int, ...]


class Backend(Protocol):
    """Rows for images, in two halves so that the first can run in many threads."""

    served: Served
    group: int
    """Images of one call of :meth:`rows`."""

    def prepare(self, data: bytes) -> Any:
        """What :meth:`rows` takes, of one encoded image; called from threads.

        Raises:
            ImageError: it is no image that is accepted.
        """

    def rows(self, prepared: Sequence[Any]) -> list[NDArray[Any] | Failure]:
        """A row or a failure for each image, in order; called from one thread."""

    def close(self) -> None:
        """Let go of the device or the connections."""
