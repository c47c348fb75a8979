"""COCO's run-length code of masks: column by column, background first, as a compressed string.

The string is that of pycocotools: each count, from the fourth on less the one two before it, in groups of five bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MORE: Final = 0x20
_SIGN: Final = 0x10
_FIRST: Final = 48  # "0"
_MAX_GROUPS: Final = 7  # five bits each: counts below 2**34


def encode(labels: NDArray[np.uint8], wanted: NDArray[np.integer]) -> list[str]:
    """Encode the mask of each wanted label of a map ``[h, w]``: the ``counts`` of COCO's ``{size, counts}``."""
    flat = labels.ravel(order="F")
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    of_run = flat[starts]
    return [_compress(_counts(starts, of_run == label, flat.size)) for label in wanted]


def _counts(starts: NDArray[np.int64], inside: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    """Alternating lengths of background and mask; the first is 0 when the mask holds the first pixel."""
    changes = starts[np.flatnonzero(np.diff(inside, prepend=False))]
    return np.diff(changes, prepend=0, append=size)


def _compress(counts: NDArray[np.int64]) -> str:
    left = counts.copy()
    left[3:] -= counts[1:-2]
    groups = np.zeros((len(left), _MAX_GROUPS), np.uint8)
    used = np.zeros(groups.shape, bool)
    going = np.ones(len(left), bool)
    for i in range(_MAX_GROUPS):
        low = left & 0x1F
        left >>= 5
        more = np.where(low & _SIGN, left != -1, left != 0)
        groups[:, i] = low + _MORE * more + _FIRST
        used[:, i] = going
        going &= more
    return groups[used].tobytes().decode("ascii")
