"""API keys: a file with a name and a hash on each line, so that nobody who reads it can use one.

    # NAME      SHA-256 OF THE KEY      IMAGES A MINUTE, IF BOUNDED
    search      3b5d5c37...             6000
    nightly     9f86d081...

Several may be valid at once: a new one is added, its users move, the old line goes. `bootleg key NAME` makes one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootleg_service.errors import RequestError, StartupError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
MAX_TOKEN_BYTES = 512
"""A longer token is wrong without being hashed."""


@dataclass(frozen=True)
class Key:
    """One line of the file.

    Attributes:
        name: in logs and metrics, and whom the fair share is for.
        sha256: of the key, in hexadecimal.
        images_per_minute: its quota; None: none.
    """

    name: str
    sha256: str
    images_per_minute: int | None = None


def new_key(name: str) -> tuple[str, str]:
    """Make a key of 256 random bits.

    Returns:
        The key, to be given away once, and its line for the file.

    Raises:
        RequestError: no such name can stand in the file.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(f"name {name!r}: use 1 to 64 letters, digits, '.', '_' and '-'", param="name")
    token = f"bv-{secrets.token_urlsafe(32)}"
    return token, f"{name} {hashlib.sha256(token.encode()).hexdigest()}"


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a file of keys.

    Raises:
        StartupError: it cannot be read, holds none, or a line is malformed; the message has the line's number and
            nothing of what it holds, which may be a key that was pasted there.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"the file of API keys {path} cannot be read") from error
    keys = [_parse(path, number, line) for number, line in enumerate(lines, start=1) if _content(line)]
    if not keys:
        raise StartupError(f"the file of API keys {path} holds no key; `bootleg key NAME` makes one")
    names = [key.name for key in keys]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StartupError(f"{path}: two keys are named {twice[0]!r}")
    return tuple(keys)


class KeyRing:
    """The keys that are valid now."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    def find(self, token: bytes) -> Key | None:
        """The key that ``token`` is, or None. It takes as long for a right one as for a wrong one."""
        if len(token) > MAX_TOKEN_BYTES:
            return None
        digest = hashlib.sha256(token).hexdigest().encode()
        found = None
        for key in self._keys:
            if hmac.compare_digest(digest, key.sha256.encode()):
                found = key
        return found


def _content(line: str) -> str:
    return line.partition("#")[0].strip()


def _parse(path: Path, number: int, line: str) -> Key:
    where = f"{path}, line {number}"
    parts = _content(line).split()
    if not 2 <= len(parts) <= 3:
        raise StartupError(f"{where}: it has {len(parts)} fields, not a name, a SHA-256 and perhaps images a minute")
    if not _NAME.fullmatch(parts[0]):
        raise StartupError(f"{where}: the name has other characters than letters, digits, '.', '_' and '-', or over 64")
    if not _HASH.fullmatch(parts[1]):
        raise StartupError(f"{where}: the second field is no SHA-256 in lower-case hexadecimal")
    if len(parts) == 3 and not (parts[2].isascii() and parts[2].isdigit() and int(parts[2]) > 0):
        raise StartupError(f"{where}: the third field is no positive number of images a minute")
    return Key(parts[0], parts[1], int(parts[2]) if len(parts) == 3 else None)
