"""From a pack to the device: uint8 batches in the order asked for, one prepared ahead.

Three ways of reading, chosen by size: *resident* keeps the whole set on the device, *mapped* sends pages of
the packed shards, *decode* decodes a source that was never packed. The pixels are the same in all three.

Shapes: B images, S side. The CUDA branches are written to the documented interface of PyTorch and have not
been run on hardware here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from bootleg_bundle.errors import ConfigError
from bootleg_training.data.ahead import ahead
from bootleg_training.data.decode import DecodedImages
from bootleg_training.data.memory import free_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from bootleg_training.data.images import Images
    from bootleg_training.data.pack import Pack

Mode = Literal["auto", "resident", "mapped", "decode"]

RESIDENT_SHARE = 0.25
"""Of the memory free at the start: the model, its optimiser and the activations come later."""
CHUNK = 4096
"""Images copied at a time when a set becomes resident: 0.2 GB at 128 pixels."""


def choose_mode(pack: Pack, device: torch.device, mode: Mode = "auto") -> tuple[Mode, str]:
    """How this pack is read on this device, and why, in words for the log.

    Raises:
        ConfigError: the mode asked for does not fit the pack.
    """
    decodes = isinstance(pack.images, DecodedImages)
    if mode == "mapped" and decodes:
        raise ConfigError(f"reading = 'mapped': {pack.name} is no pack; use decode or resident, or `bootleg prepare`")
    if mode == "decode" and not decodes:
        raise ConfigError(f"reading = 'decode': {pack.name} is a pack, decoded already; use mapped or resident")
    if mode != "auto":
        return mode, "as asked for"
    if decodes:
        return "decode", "the source is not packed: every image is decoded when it is wanted"
    size = _bytes(pack.images)
    free = free_memory(device)
    if free is None:
        return "mapped", f"how much memory is free on {device} is not known"
    limit = RESIDENT_SHARE * free
    share = f"{100 * RESIDENT_SHARE:.0f} % of the {_gib(free)} free on {device}"
    if size <= limit:
        return "resident", f"{_gib(size)} of images fit into {share}"
    return "mapped", f"{_gib(size)} of images are more than {share}"


def feed(
    pack: Pack, wanted: Iterable[NDArray[np.int64]], device: torch.device, *, mode: Mode = "auto"
) -> Iterator[Tensor]:
    """Yield the images of every index array, on the device.

    One batch is read ahead in a background thread (resident sets need none). Close the iterator, or let it go, to
    stop the thread; an error in it is raised here.

    Args:
        pack: of :func:`~bootleg_training.data.pack.open_pack` or :func:`~bootleg_training.data.decode.open_data`.
        wanted: index arrays ``[B]``, drawn up to two ahead of what was yielded; may be endless.
        device: where the batches go.
        mode: ``auto`` asks :func:`choose_mode`.

    Returns:
        uint8 ``[B, S, S, 3]``, one for each of ``wanted``, in its order.

    Raises:
        ConfigError: a mode that does not fit the pack.
        DataError: while decoding: too many corrupt images.
    """
    mode, _ = choose_mode(pack, device, mode)
    return _resident(pack.images, wanted, device) if mode == "resident" else _streamed(pack.images, wanted, device)


def _resident(images: Images, wanted: Iterable[NDArray[np.int64]], device: torch.device) -> Iterator[Tensor]:
    if type(images) is np.ndarray and images.flags.writeable and device.type == "cpu":
        whole = torch.from_numpy(images)  # in memory already; a memory map is a subclass, and is read below
    else:
        whole = torch.empty(images.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(images), CHUNK):
            whole[start : start + CHUNK] = torch.from_numpy(np.array(images[start : start + CHUNK]))
    for index in wanted:
        yield whole.index_select(0, send(torch.from_numpy(np.asarray(index, np.int64)), device))


def _streamed(images: Images, wanted: Iterable[NDArray[np.int64]], device: torch.device) -> Iterator[Tensor]:
    def read(index: NDArray[np.int64]) -> Tensor:
        batch = torch.from_numpy(images[index])
        return batch.pin_memory() if device.type == "cuda" else batch

    with ThreadPoolExecutor(1, "feed", _enter, (device,)) as pool:
        for batch in ahead(pool, read, wanted, depth=1):
            # The copy runs on the current stream; PyTorch keeps the pinned block until the copy is over.
            yield batch.to(device, non_blocking=True)


def _enter(device: torch.device) -> None:
    """Pin memory for this device: a new thread starts on the first one."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device without a wait: from pinned memory, as only that copies in the background."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _bytes(images: Images) -> int:
    return int(np.prod(images.shape, dtype=np.int64))


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"
