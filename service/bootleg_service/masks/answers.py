"""Finished masks on the wire: the JSON list, one PNG, or label maps as ``.npy``."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from bootleg_bundle.errors import BootlegError
from bootleg_service.answers import JSON, fault_of, npy, to_json, trailer
from bootleg_service.masks.options import PNG
from bootleg_service.masks.piece import unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bootleg_bundle.manifest import Manifest
    from bootleg_service.masks.options import MaskRequest
    from bootleg_service.masks.piece import Piece
    from bootleg_service.pipeline import Answer


def encode(
    found: Sequence[Answer | BootlegError], asked: MaskRequest, wire: str, manifest: Manifest
) -> tuple[bytes, dict[str, str]]:
    """The body, and headers that go with it. A PNG holds the one mask; all masks of an ``.npy`` have one size."""
    pieces = [answer if isinstance(answer, BootlegError) else unpack(answer.value) for answer in found]
    if wire == JSON:
        return mask_list(pieces, asked, manifest), {}
    made = [piece for piece in pieces if not isinstance(piece, BootlegError)]
    headers = {
        "X-Mask-Image": "; ".join("{height},{width}".format(**piece.about["image"]) for piece in made),
        "X-Mask-Box": "; ".join(",".join(f"{side:g}" for side in piece.about["box"]) for piece in made),
    }
    if wire == PNG:
        return made[0].payload, headers
    height, width = made[0].about["size"].values()
    maps = np.stack([np.frombuffer(piece.payload, np.uint8).reshape(height, width) for piece in made])
    return npy(maps), headers | {"X-Shape": ",".join(map(str, maps.shape)), "X-Dtype": "uint8"}


def mask_list(pieces: Sequence[Piece | BootlegError], asked: MaskRequest, manifest: Manifest) -> bytes:
    """The masks as JSON, each image with its mask or its error."""
    data: list[dict[str, Any]] = []
    for i, piece in enumerate(pieces):
        if isinstance(piece, BootlegError):
            about: dict[str, Any] = {"segments": None, "error": fault_of(piece)}
        elif asked.format == "png":
            about = piece.about | {"png": base64.b64encode(piece.payload).decode("ascii")}
        else:
            about = piece.about
        data.append({"object": "segmentation", "index": i, **about})
    by = {"head": asked.head, "method": asked.method}
    return to_json({"object": "list", "data": data, **by, **trailer(manifest, len(pieces), manifest.embedding_space)})
