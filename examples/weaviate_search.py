"""Weaviate calls the service itself: with IMAGE_INFERENCE_API=http://SERVICE:8000 it needs nothing else.

    pip install 'bootleg-vision[client]'
    python examples/weaviate_search.py PHOTOS --query Q.jpg --url http://127.0.0.1:8000 --weaviate http://127.0.0.1:8080

Photographs go to Weaviate, which asks the service for their vectors. The space is in the class's description.
"""

from __future__ import annotations

import base64
import json
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from command_line import photographs, run, show

from bootleg_search import CollectionSpace, ImageEmbedder

if TYPE_CHECKING:
    from argparse import Namespace

CLASS = "Photograph"
BATCH = 32


def main(asked: Namespace) -> None:
    """Fill the class if it is not there yet, then ask it."""
    with httpx.Client(base_url=asked.weaviate, timeout=120) as weaviate:
        if weaviate.get(f"/v1/schema/{CLASS}").status_code == 404:
            with ImageEmbedder(asked.url) as embedder:
                fill(weaviate, embedder.space, photographs(asked.photos))

        record = json.loads(said(weaviate.get(f"/v1/schema/{CLASS}"))["description"])
        with ImageEmbedder(asked.url, space=CollectionSpace.from_metadata(record, CLASS)):
            pass  # the service still serves that space: Weaviate itself cannot look
        near = f'nearImage: {{image: "{encoded(asked.query)}"}}, limit: {asked.top}'
        query = f"{{ Get {{ {CLASS}({near}) {{ path _additional {{ distance }} }} }} }}"
        answer = said(weaviate.post("/v1/graphql", json={"query": query}))
        if answer.get("errors"):
            sys.exit(f"{asked.weaviate}: {answer['errors'][0]['message']}")
        show((hit["path"], 1 - hit["_additional"]["distance"]) for hit in answer["data"]["Get"][CLASS])


def fill(weaviate: httpx.Client, space: CollectionSpace, paths: list[str]) -> None:
    """Create the class and put every photograph in; an id is made of the path, so a repetition doubles nothing."""
    schema = {
        "class": CLASS,
        "description": json.dumps(space.to_metadata()),
        "vectorizer": "img2vec-neural",
        "moduleConfig": {"img2vec-neural": {"imageFields": ["image"]}},
        "vectorIndexConfig": {"distance": "cosine"},
        "properties": [{"name": "image", "dataType": ["blob"]}, {"name": "path", "dataType": ["text"]}],
    }
    said(weaviate.post("/v1/schema", json=schema))
    for start in range(0, len(paths), BATCH):
        objects = [
            {
                "class": CLASS,
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, path)),
                "properties": {"path": path, "image": encoded(path)},
            }
            for path in paths[start : start + BATCH]
        ]
        for one in said(weaviate.post("/v1/batch/objects", json={"objects": objects})):
            if one["result"].get("errors"):
                sys.exit(f"{one['properties']['path']}: {one['result']['errors']['error'][0]['message']}")


def encoded(path: str) -> str:
    """The file in base64, as a ``blob`` property wants it."""
    return base64.b64encode(Path(path).read_bytes()).decode()


def said(answer: httpx.Response) -> Any:
    """The answer's JSON; ends the program when it is an error."""
    return answer.json() if answer.is_success else sys.exit(f"{answer.url}: {answer.status_code} {answer.text[:300]}")


if __name__ == "__main__":
    run(main, __doc__, weaviate="http://127.0.0.1:8080")
