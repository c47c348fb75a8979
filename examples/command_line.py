"""The command line that the examples share: a folder of photographs, a service, one photograph to look for."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bootleg_client import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def run(main: Callable[[argparse.Namespace], None], about: str, **stores: str) -> None:
    """Parse the command line and call ``main``; what the service or a collection refuses is said in one line.

    Args:
        main: the example.
        about: its docstring.
        stores: further options and their defaults, such as where the collection lies.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of JPEG, PNG and WebP files, at any depth")
    parser.add_argument("--query", type=Path, required=True, help="the photograph to look for")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the embedding service")
    parser.add_argument("--top", type=int, default=5, help="how many neighbours")
    for name, default in stores.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, help=f"default: {default}")
    try:
        main(parser.parse_args())
    except ClientError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def photographs(folder: Path) -> list[str]:
    """Paths of the images in a folder, sorted."""
    found = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return found or sys.exit(f"{folder}: no JPEG, PNG or WebP file in it")


def show(neighbours: Iterable[tuple[str, float]]) -> None:
    """One line a neighbour: cosine and path."""
    with contextlib.suppress(BrokenPipeError):
        for path, cosine in neighbours:
            print(f"{cosine:.4f}  {path}")
