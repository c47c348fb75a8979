"""Every kind of request that the storm is made of: what it sends, and which outcomes are right answers to it."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tests.service.chaos.faulty import is_sick
from tests.service.chaos.server import MAX_IMAGE_BYTES
from tests.service.chaos.wire import Message
from tests.service.fake_engine import embedding_of, patch_tokens_of
from tests.service.pictures import encode, huge_png, truncated_jpeg
from tests.service.serving import EMBEDDINGS, OPENAI, PATCHES

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.service.chaos.wire import Reply

STRAINED = frozenset({"overloaded", "unavailable", "deadline_exceeded"})
"""Right for whatever asks the model while it stalls or fails on everything."""
BOUNDARY = "storm"
KEY = "bv-storm"
AUTHORISED = {"Authorization": f"Bearer {KEY}"}


@dataclass(frozen=True)
class Shot:
    """One request.

    Attributes:
        allowed: outcomes that are right; whatever the client saw or the metric counted must be among them.
        check: of an answer that is ``ok``.
        cut: whether the server may hang up before its answer is read: it has not read all that was sent.
    """

    kind: str
    message: Message
    allowed: frozenset[str]
    check: Callable[[Reply], None] = lambda reply: None
    cut: bool = False


def make(kind: str, chance: random.Random) -> Shot:
    """One request of a kind."""
    return KINDS[kind][1](kind, chance)


def draw(chance: random.Random) -> Shot:
    """One request of any kind."""
    (kind,) = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])
    return make(kind, chance)


def picture(number: int, chance: random.Random) -> bytes:
    """A plain image of any size, whose number survives."""
    sides = (chance.randint(8, 200), chance.randint(8, 200), 3)
    return encode(np.broadcast_to(np.array([number % 256, number // 256, 7], np.uint8), sides).copy(), "PNG")


def asking(numbers: list[int]) -> frozenset[str]:
    """Outcomes of a request for these images: each may fail by chance, and a sick one does."""
    sick = any(is_sick(number) for number in numbers)
    return STRAINED | {"engine_error"} | (frozenset() if sick else {"ok"})


def post(path: str, body: bytes, headers: dict[str, str] | None = None, **how) -> Message:
    """A POST with the key."""
    return Message("POST", path, AUTHORISED | (headers or {}), body, **{"declared": len(body)} | how)


def vectors_are(numbers: list[int]) -> Callable[[Reply], None]:
    """The answer is a list of these images' embeddings."""

    def check(reply: Reply) -> None:
        given = np.array([row["embedding"] for row in json.loads(reply.body)["data"]], np.float32)
        np.testing.assert_array_equal(given, [embedding_of(number) for number in numbers])

    return check


def _embed(kind: str, chance: random.Random, headers: dict[str, str] | None = None, **how) -> Shot:
    number = chance.randrange(3000)
    message = post(EMBEDDINGS, picture(number, chance), headers, **how)
    return Shot(kind, message, asking([number]), vectors_are([number]))


def _chunked(kind: str, chance: random.Random) -> Shot:
    return _embed(kind, chance, declared=None)


def _bulk(kind: str, chance: random.Random) -> Shot:
    return _embed(kind, chance, {"X-Priority": "bulk"})


def _hurried(kind: str, chance: random.Random) -> Shot:
    return _embed(kind, chance, {"X-Request-Timeout-Ms": str(chance.randint(1, 200))})


def _patches(kind: str, chance: random.Random) -> Shot:
    number = chance.randrange(1000)

    def check(reply: Reply) -> None:
        given = np.load(io.BytesIO(reply.body), allow_pickle=False)
        np.testing.assert_array_equal(given, patch_tokens_of(number)[None].astype(np.float16))

    message = post(PATCHES, picture(number, chance), {"Accept": "application/x-npy"})
    return Shot(kind, message, asking([number]), check)


def _openai(kind: str, chance: random.Random) -> Shot:
    numbers = [chance.randrange(3000) for _ in range(chance.randint(1, 4))]
    body = json.dumps({"input": [base64.b64encode(picture(number, chance)).decode() for number in numbers]})
    return Shot(kind, post(OPENAI, body.encode()), asking(numbers), vectors_are(numbers))


def _form(files: list[bytes]) -> tuple[bytes, dict[str, str]]:
    head = 'Content-Disposition: form-data; name="images"; filename="image"\r\n\r\n'
    parts = [f"--{BOUNDARY}\r\n{head}".encode() + file + b"\r\n" for file in files]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode(), {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"
    }


def _several(kind: str, chance: random.Random) -> Shot:
    numbers = [chance.randrange(3000) for _ in range(chance.randint(2, 8))]
    message = post(EMBEDDINGS, *_form([picture(number, chance) for number in numbers]))
    return Shot(kind, message, asking(numbers), vectors_are(numbers))


def _partial(kind: str, chance: random.Random) -> Shot:
    numbers = [chance.randrange(3000) for _ in range(3)]
    files = [picture(number, chance) for number in numbers]
    files.insert(1, truncated_jpeg())

    def check(reply: Reply) -> None:
        first, corrupt, *others = json.loads(reply.body)["data"]
        assert corrupt["error"]["code"] == "corrupt_image"
        for number, row in zip(numbers, [first, *others], strict=True):
            if row["embedding"] is None:
                assert row["error"]["code"] in STRAINED | {"engine_error"}
            else:
                assert not is_sick(number)
                np.testing.assert_array_equal(np.array(row["embedding"], np.float32), embedding_of(number))

    return Shot(kind, post(f"{EMBEDDINGS}?on_error=partial", *_form(files)), STRAINED | {"ok"}, check)


def _bad(kind: str, chance: random.Random) -> Shot:
    body, outcome = chance.choice(
        [
            (truncated_jpeg(), "corrupt_image"),
            (b"<html>no image</html>", "unsupported_image_format"),
            (b"", "empty_image"),
            (huge_png(), "image_too_large"),
        ]
    )
    return Shot(kind, post(EMBEDDINGS, body), frozenset({outcome}))


def _declares_too_much(kind: str, chance: random.Random) -> Shot:
    message = post(EMBEDDINGS, b"", declared=MAX_IMAGE_BYTES + 1 + chance.randrange(10**9))
    return Shot(kind, message, frozenset({"payload_too_large"}))


def _sends_too_much(kind: str, chance: random.Random) -> Shot:
    body = chance.randbytes(MAX_IMAGE_BYTES + 1 + chance.randrange(50_000))
    return Shot(kind, post(EMBEDDINGS, body, declared=None), frozenset({"payload_too_large"}), cut=True)


def _slow(kind: str, chance: random.Random) -> Shot:
    message = post(EMBEDDINGS, picture(7, chance), pause=0.3)
    return Shot(kind, message, frozenset({"receive_timeout"}), cut=True)


def _leaving(when: str) -> Callable[[str, random.Random], Shot]:
    def made(kind: str, chance: random.Random) -> Shot:
        number = chance.randrange(3000, 40_000)  # new ones: no cache has the answer ready
        message = post(EMBEDDINGS, picture(number, chance), leaves=when)
        return Shot(kind, message, asking([number]) | {"client_closed"}, cut=True)

    return made


def _unauthorised(kind: str, chance: random.Random) -> Shot:
    offered = chance.choice([{}, {"Authorization": "Bearer bv-wrong"}, {"Authorization": "Basic eDp5"}])
    body = picture(7, chance)
    message = Message("POST", chance.choice([EMBEDDINGS, PATCHES, OPENAI]), offered, body, declared=len(body))
    return Shot(kind, message, frozenset({"unauthorized"}), cut=True)


def _pinned(kind: str, chance: random.Random) -> Shot:
    pin = {"X-Embedding-Space": "es1-" + "f" * 32}
    message = post(EMBEDDINGS, picture(7, chance), pin)
    return Shot(kind, message, frozenset({"embedding_space_mismatch"}), cut=True)


def _odd(kind: str, chance: random.Random) -> Shot:
    message, outcome = chance.choice(
        [
            (Message("GET", "/nowhere", AUTHORISED), "not_found"),
            (Message("GET", EMBEDDINGS, AUTHORISED), "method_not_allowed"),
            (post(OPENAI, b'{"input": "http://169.254.169.254/"}'), "image_url_refused"),
            (post(OPENAI, b"[" * 10_000), "invalid_request"),
            (post(f"{EMBEDDINGS}?dimensions=-1", b""), "invalid_request"),
        ]
    )
    return Shot(kind, message, frozenset({outcome}))


KINDS: dict[str, tuple[int, Callable[[str, random.Random], Shot]]] = {
    "one image": (24, _embed),
    "in chunks": (6, _chunked),
    "bulk": (6, _bulk),
    "with little time": (4, _hurried),
    "patch tokens": (6, _patches),
    "base64": (8, _openai),
    "several": (8, _several),
    "several, one corrupt": (6, _partial),
    "no good image": (8, _bad),
    "declares too much": (3, _declares_too_much),
    "sends too much": (3, _sends_too_much),
    "too slow": (1, _slow),
    "leaves in its upload": (4, _leaving("in its upload")),
    "leaves before the answer": (4, _leaving("before the answer")),
    "leaves in the answer": (3, _leaving("in the answer")),
    "without a right key": (5, _unauthorised),
    "pinned elsewhere": (3, _pinned),
    "odd": (4, _odd),
}
"""By name: how often, of a hundred or so, and what makes one."""
