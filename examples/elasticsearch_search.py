"""Elasticsearch, or OpenSearch with --engine opensearch, over plain HTTP.

    pip install 'bootleg-vision[client]'
    python examples/elasticsearch_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000 --search http://127.0.0.1:9200

The space is in ``_meta`` of the mapping.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

import httpx
from command_line import photographs, run, show

from bootleg_search import CollectionSpace, ImageEmbedder

if TYPE_CHECKING:
    from argparse import Namespace

INDEX = "photographs"
BATCH = 256


def main(asked: Namespace) -> None:
    """Fill the index if it is not there yet, then ask it."""
    with httpx.Client(base_url=asked.search, timeout=60) as search:
        if search.head(f"/{INDEX}").status_code == 404:
            with ImageEmbedder(asked.url) as embedder:
                fill(search, embedder, photographs(asked.photos), MAPPING[asked.engine](embedder.space))

        record = said(search.get(f"/{INDEX}/_mapping"))[INDEX]["mappings"].get("_meta")
        with ImageEmbedder(asked.url, space=CollectionSpace.from_metadata(record, INDEX)) as embedder:
            vector = embedder.embed(asked.query)[0].tolist()
        found = said(search.post(f"/{INDEX}/_search", json=QUERY[asked.engine](vector, asked.top)))
        show(
            (hit["_source"]["path"], 2 * hit["_score"] - 1) for hit in found["hits"]["hits"]
        )  # both give (1 + cosine) / 2


def fill(search: httpx.Client, embedder: ImageEmbedder, paths: list[str], body: dict[str, Any]) -> None:
    """Create the index and put every photograph in; an id is made of the path, so a repetition doubles nothing."""
    said(search.put(f"/{INDEX}", json=body))
    for start in range(0, len(paths), BATCH):
        lines = []
        batch = paths[start : start + BATCH]
        for path, vector in zip(batch, embedder.embed(batch).tolist(), strict=True):
            lines += [{"index": {"_id": hashlib.sha256(path.encode()).hexdigest()}}, {"path": path, "vector": vector}]
        content = "".join(json.dumps(line) + "\n" for line in lines)
        headers = {"Content-Type": "application/x-ndjson"}
        if said(search.post(f"/{INDEX}/_bulk?refresh=true", content=content, headers=headers))["errors"]:
            sys.exit(f"{search.base_url} did not take every vector of {batch[0]} ... {batch[-1]}")


def elasticsearch_mapping(space: CollectionSpace) -> dict[str, Any]:
    """``dense_vector`` of float32 with cosine; HNSW by default."""
    vector = {"type": "dense_vector", "dims": space.dimensions, "index": True, "similarity": "cosine"}
    properties = {"path": {"type": "keyword"}, "vector": vector}
    return {"mappings": {"_meta": space.to_metadata(), "properties": properties}}


def opensearch_mapping(space: CollectionSpace) -> dict[str, Any]:
    """``knn_vector`` of float32 with cosine, in Lucene's HNSW."""
    method = {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"}
    vector = {"type": "knn_vector", "dimension": space.dimensions, "method": method}
    properties = {"path": {"type": "keyword"}, "vector": vector}
    return {
        "settings": {"index": {"knn": True}},
        "mappings": {"_meta": space.to_metadata(), "properties": properties},
    }


def elasticsearch_query(vector: list[float], top: int) -> dict[str, Any]:
    """``num_candidates`` of each shard: more find more and take longer."""
    knn = {"field": "vector", "query_vector": vector, "k": top, "num_candidates": max(100, 4 * top)}
    return {"knn": knn, "size": top, "_source": ["path"]}


def opensearch_query(vector: list[float], top: int) -> dict[str, Any]:
    """The same question in OpenSearch's words."""
    return {"query": {"knn": {"vector": {"vector": vector, "k": top}}}, "size": top, "_source": ["path"]}


MAPPING = {"elasticsearch": elasticsearch_mapping, "opensearch": opensearch_mapping}
QUERY = {"elasticsearch": elasticsearch_query, "opensearch": opensearch_query}


def said(answer: httpx.Response) -> Any:
    """The answer's JSON; ends the program when it is an error."""
    return answer.json() if answer.is_success else sys.exit(f"{answer.url}: {answer.status_code} {answer.text[:300]}")


if __name__ == "__main__":
    run(main, __doc__, search="http://127.0.0.1:9200", engine="elasticsearch")
