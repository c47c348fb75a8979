"""What approximate indexes and small number types lose: recall@10 against exact search over vectors of `bootleg embed`.

    python -m benchmarks.search photos.npy queries.npy [--rounds 5]

Writes ``results/search.json``. The queries are images that are not in the index. Truth is the exact top ten by cosine,
in float32; for the indexes the collection's mean is taken off first. FAISS runs on one thread. An index is measured in
turn with exact search, all queries in one call, so that a slow minute slows both; medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.result import write_result
from bootleg_search import CollectionSpace
from bootleg_service.vectors import quantise

TOP = 10
LINKS, SEEN = (16, 32), (10, 32, 64)
IVF_LISTS, IVF_PROBED = 100, (1, 4, 16)

Search = Callable[[np.ndarray], np.ndarray]
"""Prepared queries ``[n, D]`` -> rows of the ten nearest ``[n, 10]``."""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("vectors", type=Path, help="of the collection, by bootleg embed")
    parser.add_argument("queries", type=Path, help="of other images, likewise")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    raw, asked = np.load(arguments.vectors), np.load(arguments.queries)
    space = CollectionSpace.centred_on(raw, _space(arguments.vectors))
    assert space.embedding_space == _space(arguments.queries), "vectors and queries are of two models"
    faiss.omp_set_num_threads(1)
    rows = indexes(space.prepare(raw), space.prepare(asked), arguments.rounds)
    plain = CollectionSpace(space.embedding_space, space.dimensions)
    for name, prepared in (("as the service answers", plain), ("of vectors less their mean", space)):
        rows += number_types(name, prepared.prepare(raw), prepared.prepare(asked))
    base = {"images": len(raw), "queries": len(asked), "dimensions": space.dimensions}
    print(write_result("search", [base | row for row in rows]))


def indexes(vectors: np.ndarray, queries: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    """A row for exact search and for each approximate index of float32."""
    exact = _exact(vectors)
    truth = exact(queries)
    rows = [{"index": "exact", "parameters": "float32", "recall_at_10": 1.0, "rate_ratio_to_exact": 1.0}]
    for index, parameters, search in _approximate(vectors):
        found = search(queries)
        ratios = [_seconds(exact, queries) / _seconds(search, queries) for _ in range(rounds)]
        ratio = round(statistics.median(ratios), 3)
        row = {"index": index, "parameters": parameters, "recall_at_10": recall(found, truth)}
        rows.append(row | {"rate_ratio_to_exact": ratio})
    return rows


def number_types(name: str, vectors: np.ndarray, queries: np.ndarray) -> list[dict[str, Any]]:
    """A row for each of the service's small number types, searched exactly on both sides: what the type alone loses."""
    truth = _exact(vectors)(queries)
    found = {"int8, cosine": _int8(vectors)(queries), "ubinary, Hamming": _binary(vectors)(queries)}
    return [
        {"index": "exact", "parameters": f"{parameters}, {name}", "recall_at_10": recall(rows, truth)}
        for parameters, rows in found.items()
    ]


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true neighbours that were found, ``[n, k]`` both."""
    hits = [len(set(some) & set(true)) for some, true in zip(found.tolist(), truth.tolist(), strict=True)]
    return round(sum(hits) / truth.size, 4)


def _approximate(vectors: np.ndarray) -> list[tuple[str, str, Search]]:
    """Name, parameters and search of each index."""
    dimensions = vectors.shape[1]
    made: list[tuple[str, str, Search]] = []
    for links in LINKS:
        graph = faiss.IndexHNSWFlat(dimensions, links, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = 200
        graph.add(vectors)
        made += [("HNSW", f"M {links}, efConstruction 200, efSearch {seen}", _hnsw(graph, seen)) for seen in SEEN]
    cells = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimensions), dimensions, IVF_LISTS, faiss.METRIC_INNER_PRODUCT)
    cells.train(vectors)
    cells.add(vectors)
    made += [("IVF", f"{IVF_LISTS} lists, {probed} probed", _ivf(cells, probed)) for probed in IVF_PROBED]
    return made


def _exact(vectors: np.ndarray) -> Search:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return lambda queries: index.search(queries, TOP)[1]


def _hnsw(index: Any, seen: int) -> Search:
    parameters = faiss.SearchParametersHNSW(efSearch=seen)
    return lambda queries: index.search(queries, TOP, params=parameters)[1]


def _ivf(index: Any, probed: int) -> Search:
    parameters = faiss.SearchParametersIVF(nprobe=probed)
    return lambda queries: index.search(queries, TOP, params=parameters)[1]


def _int8(vectors: np.ndarray) -> Search:
    """By cosine: the scheme loses lengths."""
    search = _exact(_unit(quantise(vectors, "int8")))
    return lambda queries: search(_unit(quantise(queries, "int8")))


def _unit(numbers: np.ndarray) -> np.ndarray:
    real = numbers.astype(np.float32)
    return real / np.linalg.norm(real, axis=1, keepdims=True)


def _binary(vectors: np.ndarray) -> Search:
    packed = quantise(vectors, "ubinary")
    index = faiss.IndexBinaryFlat(packed.shape[1] * 8)
    index.add(packed)
    return lambda queries: index.search(quantise(queries, "ubinary"), TOP)[1]


def _seconds(search: Search, queries: np.ndarray) -> float:
    begun = time.perf_counter()
    search(queries)
    return time.perf_counter() - begun


def _space(vectors: Path) -> str:
    """The embedding space that `bootleg embed` wrote beside the vectors."""
    record = json.loads(vectors.with_suffix(".json").read_text(encoding="utf-8"))
    space: str = record["identity"]["embedding_space"]
    return space


if __name__ == "__main__":
    main()
