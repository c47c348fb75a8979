"""Strange but possible files, made in code: two formats in one, thousands of chunks, extreme shapes, text bombs.

Everything is decoded once more in a process whose memory is bounded: a decoder that asks for more dies there.
"""

import contextlib
import io
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bootleg_bundle.errors import ImageError
from bootleg_bundle.images import decode
from bootleg_bundle.preprocess import PreprocessSpec, apply
from tests import images

ROOT = Path(__file__).parents[2]
MEMORY = 700 * 2**20
"""The largest legal image, 50 million pixels, takes 150 MB as RGB, and twice that while it is turned."""


def with_chunks(*extra, data=None):
    """A PNG with chunks behind its header."""
    data = data or images.png()
    return data[:33] + b"".join(images.chunk(kind, body) for kind, body in extra) + data[33:]


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        writer.writestr("script.js", "alert(1)")
    return file.getvalue()


def split_pixels(pieces):
    """A PNG whose pixels come in so many chunks, most of them empty."""
    rows = b"".join(b"\0" + bytes(8) for _ in range(8))
    body = zlib.compress(rows)
    header = struct.pack(">IIBBBBB", 8, 8, 8, images.GREY, 0, 0, 0)
    chunks = [images.chunk(b"IDAT", body[i : i + 1]) for i in range(pieces)]
    return images.PNG_MAGIC + images.chunk(b"IHDR", header) + b"".join(chunks) + images.chunk(b"IEND", b"")


def two_orientations(first, second):
    entry = struct.pack(">HHIHH", images.ORIENTATION, 3, 1, first, 0)
    other = struct.pack(">HHIHH", images.ORIENTATION, 3, 1, second, 0)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + entry + other + b"\0\0\0\0"
    return images.jpeg(exif=exif)


TEXT_BOMB = zlib.compress(bytes(200 * 2**20), 9)

DECODED = {
    "100,000 chunks of text": lambda: with_chunks(*[(b"tEXt", b"a\0b")] * 100_000),
    "100,000 unknown chunks": lambda: with_chunks(*[(b"abCd", b"")] * 100_000),
    "pixels in 100,000 chunks": lambda: split_pixels(100_000),
    "jpeg and zip": lambda: images.jpeg() + archive(),
    "png and zip": lambda: images.png() + archive(),
    "webp and zip": lambda: images.webp() + archive(),
    "png with a page in its text": lambda: with_chunks((b"tEXt", b"Comment\0<script>alert(1)</script>")),
    "jpeg with a script in its comment": lambda: images.jpeg(comment=b"<?php system($_GET[0]); ?>"),
    "one pixel wide": lambda: images.png(np.zeros((16_384, 1, 3), np.uint8)),
    "one pixel high": lambda: images.jpeg(np.zeros((1, 16_384, 3), np.uint8)),
    "of one colour": lambda: images.jpeg(np.full((64, 64, 3), 93, np.uint8)),
    "all transparent": lambda: images.webp(Image.new("RGBA", (32, 32))),
    "two orientations": lambda: two_orientations(1, 6),
    "a profile of a megabyte": lambda: images.jpeg(icc_profile=bytes(2**20)),
    "comments of megabytes": lambda: images.jpeg()[:2] + (b"\xff\xfe\xff\xff" + bytes(65_533)) * 50 + images.jpeg()[2:],
}
LARGE = {
    "as many pixels as are allowed": lambda: images.raw_png(10_000, 5_000, 8, images.GREY, [bytes(10_000)] * 5_000),
    "large and turned": lambda: images.png(Image.new("L", (6_000, 6_000)), orientation=6),
}
EITHER = {
    "a text that unfolds to 200 MB": lambda: with_chunks((b"zTXt", b"Comment\0\0" + TEXT_BOMB)),
    "an international text that does": lambda: with_chunks((b"iTXt", b"Comment\0\1\0\0\0" + TEXT_BOMB)),
    "a profile that does": lambda: with_chunks((b"iCCP", b"name\0\0" + TEXT_BOMB)),
    "more chunks of pixels than are needed": lambda: with_chunks((b"IDAT", b""), (b"IDAT", b"")),
}
REFUSED = {
    "60,000 pixels high": lambda: images.headless_png(1, 60_000),
    "no pixels": lambda: images.headless_png(0, 0),
    "no width": lambda: images.headless_png(0, 100),
    "pdf with a jpeg inside": lambda: b"%PDF-1.7\n" + images.jpeg(),
    "gif in front of a jpeg": lambda: (
        images.encode(Image.fromarray(images.scene()).quantize(16), "GIF") + images.jpeg()
    ),
    "jpeg of 2 GB by its header": lambda: images.resized_jpeg(65_500, 11_000),
    "webp of 16,384 by 16,384": lambda: images.webp()[:20] + b"\x2f\xff\xff\xff\x0f" + bytes(20),
    "1,000 frames of webp": lambda: images.animated_webp(1000),
    "heic": lambda: b"\0\0\0\x18ftypheic" + bytes(100),
    "avif": lambda: b"\0\0\0\x18ftypavif" + bytes(100),
    "svg named as a webp": lambda: b"RIFF\x64\0\0\0WEBP<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of metadata that it cannot read
@pytest.mark.parametrize("name", DECODED)
def test_a_strange_but_whole_image_is_decoded_and_preprocessed(name):
    pixels = decode(DECODED[name]())
    assert apply(PreprocessSpec(height=32, width=32), pixels).shape == (32, 32, 3)


@pytest.mark.parametrize("name", EITHER)
def test_what_may_be_either_is_an_image_or_refused(name):
    with contextlib.suppress(ImageError):
        assert decode(EITHER[name]()).shape[2] == 3


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_of_ours_is_refused(name):
    with pytest.raises(ImageError):
        decode(REFUSED[name]())


def test_of_two_orientations_one_is_applied_and_once():
    stored = decode(images.jpeg())
    turned = decode(two_orientations(1, 6))
    assert any(np.array_equal(turned, want) for want in (stored, np.rot90(stored, -1)))


def test_all_of_it_is_decoded_within_bounded_memory():
    script = (
        "import resource, warnings\n"
        f"resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY}, {MEMORY}))\n"
        "warnings.simplefilter('ignore')\n"
        "from bootleg_bundle.errors import ImageError\n"
        "from bootleg_bundle.images import decode\n"
        "from tests.bundle import test_images_strange as strange\n"
        "from tests import images\n"
        "made = strange.DECODED | strange.LARGE | strange.EITHER | strange.REFUSED | images.ACCEPTED | images.REFUSED\n"
        "for name in made:\n"
        "    try: decode(made[name]())\n"
        "    except ImageError as error:\n"
        "        assert not isinstance(error.__cause__, MemoryError), name\n"
        "print(len(made))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 60
