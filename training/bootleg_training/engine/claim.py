"""One process at a time writes to a run folder: a second one would tear the states and the record of the first.

The lock is the kernel's and ends with its process, however that ends; the file itself says nothing.
"""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bootleg_bundle.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = "lock"


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Hold a run folder.

    Raises:
        ConfigError: another process holds it.
    """
    with (out / LOCK).open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another process trains in {out}: wait for it, or choose another --out") from error
        except OSError:  # a file system without locks: better to train than to refuse
            pass
        yield
