"""Where an ONNX graph says that its weights lie, read without ONNX: a runtime follows what the graph says.

The bundle asks before a graph is handed to a runtime, as a file that the manifest does not list has no hash. Reads the
wire format of protocol buffers and follows only the fields that lead to tensors; weights themselves are stepped over.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLE: Final[dict[str, dict[int, str]]] = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "StringStringEntry"},
}
"""Fields of onnx.proto by number that hold, at any depth, where a tensor's values lie."""
_KEY, _VALUE = 1, 2
_FIXED: Final = {1: 8, 5: 4}


def weight_files(graph: Path) -> set[str]:
    """Paths, relative to the graph, that the graph names; of what is no graph, none."""
    with graph.open("rb") as file:
        if not graph.stat().st_size:
            return set()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
            return set(_locations(view, "Model"))


def _locations(message: memoryview, kind: str) -> Iterator[str]:
    if kind == "StringStringEntry":
        entry = {number: bytes(body) for number, body in _fields(message) if number in {_KEY, _VALUE}}
        if entry.get(_KEY) == b"location":
            yield entry.get(_VALUE, b"").decode("utf-8", "replace")
        return
    inside = TABLE[kind]
    for number, body in _fields(message):
        if number in inside:
            yield from _locations(body, inside[number])


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Fields that have a length; the others are stepped over, and so is what comes after a break of the format."""
    place = 0
    try:
        while place < len(message):
            key, place = _varint(message, place)
            wire = key & 7
            if wire == 0:
                _, place = _varint(message, place)
            elif wire == 2:
                length, place = _varint(message, place)
                yield key >> 3, message[place : place + length]
                place += length
            else:
                place += _FIXED.get(wire, 0)  # groups have no length: what is in them counts as what is beside them
    except IndexError:
        return


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
