"""The shape of an error in each dialect, and which dialect a path speaks. The edge answers every fault through here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Fault:
    """An error as the caller sees it."""

    status: int
    code: str
    message: str
    request_id: str
    param: str | None = None

    @property
    def line(self) -> str:
        """The message, naming the field at fault: for dialects without a place for it."""
        if self.param is None or self.message.startswith(self.param):
            return self.message
        return f"{self.param}: {self.message}"


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None = None
    code: str
    request_id: str


class OpenAIError(BaseModel):
    """OpenAI's error envelope."""

    error: ErrorDetail


class TEIError(BaseModel):
    """The error of text-embeddings-inference; ``code`` is ours."""

    error: str
    error_type: Literal["validation", "backend", "overloaded", "unhealthy"]
    code: str


class CohereError(BaseModel):
    """Cohere's error; ``code`` is ours."""

    message: str
    code: str


class PlainError(BaseModel):
    """The error of Weaviate's modules and of the Open Inference Protocol; ``code`` is ours."""

    error: str
    code: str


@dataclass(frozen=True)
class Dialect:
    """How a protocol says that something went wrong; ``name`` is for metrics."""

    name: str
    model: type[BaseModel]
    render: Callable[[Fault], dict[str, Any]]


_TEI_KINDS: Final = {
    "overloaded": "overloaded",
    "quota_exceeded": "overloaded",
    "deadline_exceeded": "overloaded",
    "unavailable": "unhealthy",
}


def _openai(fault: Fault) -> dict[str, Any]:
    detail = {
        "message": fault.message,
        "type": "invalid_request_error" if fault.status < 500 else "server_error",
        "param": fault.param,
        "code": fault.code,
        "request_id": fault.request_id,
    }
    return {"error": detail}


def _tei(fault: Fault) -> dict[str, Any]:
    kind = _TEI_KINDS.get(fault.code, "validation" if fault.status < 500 else "backend")
    return {"error": fault.line, "error_type": kind, "code": fault.code}


def _cohere(fault: Fault) -> dict[str, Any]:
    return {"message": fault.line, "code": fault.code}


def _plain(fault: Fault) -> dict[str, Any]:
    return {"error": fault.line, "code": fault.code}


OPENAI: Final = Dialect("openai", OpenAIError, _openai)
TEI: Final = Dialect("tei", TEIError, _tei)
COHERE: Final = Dialect("cohere", CohereError, _cohere)
OPEN_INFERENCE: Final = Dialect("open_inference", PlainError, _plain)
WEAVIATE: Final = Dialect("weaviate", PlainError, _plain)

_BY_PATH: Final = {
    "/": TEI,
    "/embed": TEI,
    "/v2": OPEN_INFERENCE,
    "/v2/embed": COHERE,
    "/vectors": WEAVIATE,
    "/vectorize": WEAVIATE,
    "/meta": WEAVIATE,
    "/.well-known/live": WEAVIATE,
    "/.well-known/ready": WEAVIATE,
}


def dialect_of(path: str) -> Dialect:
    """The dialect of a path; OpenAI's for those of no other."""
    if path in _BY_PATH:
        return _BY_PATH[path]
    return OPEN_INFERENCE if path.startswith("/v2/") else OPENAI
