"""How other projects name the tensors of a ViT: one table, read by :mod:`bootleg_training.foreign.convert`.

The three layouts descend from one ancestor and differ by what they add to it, so a file tells its layout
by what it holds. Imports no torch: the command line reads the names for its help.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from bootleg_bundle.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTAINERS: Final = ("target_encoder", "teacher", "encoder", "model")
"""Where a training's file keeps the state dict of its encoder: best first, an EMA teacher before its student."""

TRUNK: Final = {
    "patch_embed.proj.bias": "patch_embed.bias",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
}
BLOCK: Final = {
    f"{theirs}.{part}": f"{ours}.{part}"
    for theirs, ours in {
        "norm1": "norm1",
        "attn.qkv": "qkv",
        "attn.proj": "proj",
        "norm2": "norm2",
        "mlp.fc1": "fc1",
        "mlp.fc2": "fc2",
    }.items()
    for part in ("weight", "bias")
}
PATCHES, POSITIONS, CLS, REGISTERS = "patch_embed.proj.weight", "pos_embed", "cls_token", "register_tokens"
"""What does not come over by its name alone."""

LAYER_SCALE: Final = {"ls1.gamma": "proj", "ls2.gamma": "fc2"}
"""A factor for each channel of a branch's output, and our map that it is folded into."""

HEADS: Final = {1280: 16, 1408: 16, 1664: 16}
"""Widths whose published encoders (ViT-H, g and G of I-JEPA and MAE) have heads that are not 64 wide."""

_WRAPPERS = re.compile(r"^(?:module\.|backbone\.)+")
_CHUNK = re.compile(r"^blocks\.\d+\.(\d+)\.")
_BLOCK = re.compile(r"^blocks\.(\d{1,4})\.")


@dataclass(frozen=True)
class Layout:
    """What a project's files hold beside the common trunk and blocks.

    Attributes:
        method: the project's method, for the record.
        cls: whether there is a class token.
        layer_scale: whether each block scales its branches.
        registers: whether register tokens may be there.
        ignored: patterns of what belongs to the pretraining and not to the encoder.
    """

    method: str
    cls: bool = False
    layer_scale: bool = False
    registers: bool = False
    ignored: tuple[str, ...] = ()

    def required(self, depth: int) -> set[str]:
        """Names that an encoder of ``depth`` blocks must have."""
        block = [*BLOCK, *(LAYER_SCALE if self.layer_scale else ())]
        return {
            *(PATCHES, POSITIONS, *TRUNK, *((CLS,) if self.cls else ())),
            *(f"blocks.{i}.{name}" for i in range(depth) for name in block),
        }

    def ignores(self, name: str) -> bool:
        """Whether a tensor is none of the encoder's."""
        return any(fnmatchcase(name, pattern) for pattern in self.ignored)


LAYOUTS: Final = {
    "ijepa": Layout("I-JEPA"),
    "mae": Layout("MAE", cls=True, ignored=("mask_token", "decoder_*")),
    "dinov2": Layout(
        "DINOv2",
        cls=True,
        layer_scale=True,
        registers=True,
        ignored=("mask_token", "dino_head.*", "ibot_head.*"),
    ),
}


def detect(names: Iterable[str]) -> str:
    """The layout of a file by its tensors' plain names: LayerScale is DINOv2's, a class token without it MAE's."""
    names = set(names)
    layer_scale = any(name.endswith(tuple(LAYER_SCALE)) for name in names)
    return next(
        (key for key, it in LAYOUTS.items() if (it.cls, it.layer_scale) == (CLS in names, layer_scale)), "dinov2"
    )


def plain_name(name: str) -> str:
    """A tensor's name without the wrappers around the encoder; blocks in chunks by their number in the whole."""
    name = _CHUNK.sub(r"blocks.\1.", _WRAPPERS.sub("", name))
    return REGISTERS if name == "reg_token" else name


def depth_of(names: Iterable[str]) -> int:
    """Number of blocks."""
    return max((int(found[1]) + 1 for found in map(_BLOCK.match, names) if found), default=0)


def check_names(names: set[str], layout: Layout) -> None:
    """Refuse a file that lacks a tensor, or holds one that would be lost.

    Args:
        names: plain names.
        layout: what they should be.

    Raises:
        CheckpointError: names up to five of them.
    """
    if any(re.search(r"\.mlp\.w(12|3)\.", name) for name in names):
        raise CheckpointError(
            "the blocks have a SwiGLU feed-forward (mlp.w12, mlp.w3), and our encoder has none; "
            "sizes S, B and L of this layout have the plain one"
        )
    required = layout.required(min(max(depth_of(names), 1), len(names)))  # a name could claim any number of blocks
    optional = {REGISTERS} if layout.registers else set()
    missing = sorted(required - names)
    unknown = sorted(name for name in names - required - optional if not layout.ignores(name))
    for what, wrong in (("lacks", missing), ("has, beyond this layout,", unknown)):
        if wrong:
            raise CheckpointError(f"read as {layout.method}'s layout, the file {what} {listed(wrong)}")


def listed(names: list[str]) -> str:
    """Up to five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
