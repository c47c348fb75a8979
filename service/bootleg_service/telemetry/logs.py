"""Log lines, as text for people or as JSON for machines; uvicorn's own go the same way.

Whatever is not printable is escaped: no text from outside can end a line, begin one that looks like ours, or move a
terminal's cursor. A line written while a request is served has its id, and its trace's.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from bootleg_service import stages

if TYPE_CHECKING:
    from typing import TextIO

LogFormat = Literal["auto", "text", "json"]

_QUIET: Final = ("PIL", "python_multipart", "urllib3")
"""Libraries that log at the level debug what they read, such as the tags of a photograph."""
_INDENT: Final = "    "
_NEEDS_QUOTES: Final = frozenset(' "=\\')


def configure(level: str, form: LogFormat, stream: TextIO | None = None) -> bool:
    """Send every logger's lines to ``stream``, standard error when None. Called once, by the entry point.

    Args:
        level: the lowest that is shown: ``debug``, ``info`` or ``warning``.
        form: ``auto``: text on a terminal, else JSON.
        stream: to write to.

    Returns:
        Whether people read it: whether it is text.
    """
    stream = stream if stream is not None else sys.stderr
    as_text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    return as_text


class TextFormatter(logging.Formatter):
    """``time LEVEL logger message name=value ...``; a traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback's."""
        fields = "".join(f" {name}={_quoted(str(value))}" for name, value in fields_of(record).items())
        line = f"{_time(record)} {record.levelname} {record.name} {escaped(record.getMessage())}{fields}"
        return "\n".join([line, *(_INDENT + escaped(each) for each in _traceback(record).split("\n") if each)])


class JsonFormatter(logging.Formatter):
    """One object a line, in ASCII: ``time``, ``level``, ``logger``, ``message``, fields, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        said: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if traceback := _traceback(record):
            said["exception"] = traceback
        line = orjson.dumps(said, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        # It leaves some characters that steer a terminal; the slower one escapes all but ASCII.
        return line if line.isascii() and line.isprintable() else json.dumps(said, default=str)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a line says beside its message: its own fields, or whose request it was written for."""
    fields: dict[str, Any] | None = getattr(record, "fields", None)
    if fields is not None:
        return fields
    request = stages.current()
    if request is None or not request.request_id:
        return {}
    traced = {"trace_id": request.trace.trace_id} if request.trace is not None else {}
    return {"request_id": request.request_id, **traced}


def escaped(text: str) -> str:
    """``text`` with escapes in the place of what is not printable, line ends among it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(text: str) -> str:
    text = escaped(text)
    return text if text and not _NEEDS_QUOTES.intersection(text) else json.dumps(text, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    """UTC, to the millisecond."""
    return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"


@functools.lru_cache(maxsize=4)
def _second(created: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created))


def _traceback(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
