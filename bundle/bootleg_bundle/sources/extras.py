"""Optional libraries, imported where they are used; their absence is answered with the line that installs them."""

from __future__ import annotations

import importlib
from typing import Any

from bootleg_bundle.errors import DataError


def optional(module: str, extra: str, reason: str) -> Any:
    """Import a library of an extra.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        raise DataError(f"{reason} needs {library}: pip install 'bootleg-vision[{extra}]'") from error
