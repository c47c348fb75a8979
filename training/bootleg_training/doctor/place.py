"""The folder to work in: disk space, and how fast its images decode. Needs no torch."""

from __future__ import annotations

import io
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from bootleg_bundle.cores import usable_cores
from bootleg_bundle.errors import ImageError
from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import PreprocessSpec, apply
from bootleg_training.doctor.line import Line, size

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SAMPLE = 64
SAMPLE_BYTES = 64 * 2**20
LOOKED_AT = 20_000
"""Files of any kind."""
MADE = 16
SECONDS = 1.0
"""Of each measurement."""
LITTLE, TOO_LITTLE = 10 * 2**30, 2**30
"""A pack of 100,000 images of 224 pixels takes 14 GiB; a state of the small preset 0.4."""
SPEC = PreprocessSpec(height=224, width=224)


def lines(folder: Path) -> list[Line]:
    """Free disk and decode speed."""
    if not folder.is_dir():
        return [Line("bad", "folder", f"{folder} is no folder", "name one that exists")]
    return [disk(shutil.disk_usage(folder).free, folder), *decoding(folder)]


def disk(free: int, folder: Path) -> Line:
    """Judge what is free."""
    value = f"{size(free)} free at {folder}"
    if free < TOO_LITTLE:
        return Line("bad", "disk", value, "make room: packs and states will not fit")
    if free < LITTLE:
        return Line("warn", "disk", value, "a pack of 100,000 images of 224 pixels takes 14 GiB")
    return Line("ok", "disk", value)


def decoding(folder: Path) -> list[Line]:
    """Images a second, decoded and resized to 224 pixels, on one core and on all."""
    found = sample(folder)
    files = found or made()
    what = f"{len(found)} images of {folder}" if found else "made-up JPEGs of 500 x 375"
    cores = usable_cores()
    one, failed = rate(files, 1)
    every = one if cores == 1 else rate(files, cores)[0]
    speed = f"{one:,.0f} images/s on one core, {every:,.0f} on {cores}; {what}"
    if failed:
        return [Line("warn", "decode", speed, f"{failed} could not be decoded; `bootleg prepare` leaves such out")]
    return [Line("ok", "decode", speed)]


def sample(folder: Path) -> list[bytes]:
    """The first images found, as they are on disk; hidden folders are left alone."""
    files: list[bytes] = []
    seen = 0
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            seen += 1
            if len(files) == SAMPLE or sum(map(len, files)) > SAMPLE_BYTES or seen > LOOKED_AT:
                return files
            if name.lower().endswith(SUFFIXES):
                files.append((Path(base) / name).read_bytes())
    return files


def made() -> list[bytes]:
    """JPEGs of the usual size and detail."""
    rng = np.random.default_rng(0)
    files: list[bytes] = []
    for _ in range(MADE):
        coarse = Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def rate(files: list[bytes], threads: int) -> tuple[float, int]:
    """Images a second with so many threads, and how many of the different files could not be decoded."""
    begun = time.monotonic()
    work = partial(_decode_until, files, threads, begun + SECONDS)
    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(work, range(threads)))
    passed = max(time.monotonic() - begun, 1e-9)
    failed: set[int] = set().union(*(bad for _, bad in results))
    return sum(good for good, _ in results) / passed, len(failed)


def _decode_until(files: list[bytes], threads: int, end: float, first: int) -> tuple[int, set[int]]:
    good, bad, number = 0, set[int](), first
    while True:
        try:
            apply(SPEC, decode(files[number % len(files)]))
            good += 1
        except ImageError:
            bad.add(number % len(files))
        number += threads
        if time.monotonic() >= end:
            return good, bad
