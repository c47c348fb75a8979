"""Servers that cannot run here, as far as the examples speak to them: strict about shapes, exact in arithmetic.

Written after the servers' documentation and, for Weaviate, the source of its module ``img2vec-neural``. They show that
an example's requests have the right shape and that its reading of answers is right; not that a server takes them.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request


class Indices:
    """Elasticsearch's and OpenSearch's mapping, ``_bulk`` and ``_search``, for one float vector and cosine.

    Attributes:
        opensearch: speak OpenSearch's dialect; a request in the other one is refused.
        mappings: by index.
        documents: by index and id.
    """

    def __init__(self, *, opensearch: bool) -> None:
        self.opensearch = opensearch
        self.mappings: dict[str, dict[str, Any]] = {}
        self.documents: dict[str, dict[str, Any]] = {}
        self.app = Starlette(
            routes=[
                Route("/{index}", self._create, methods=["PUT"]),
                Route("/{index}", self._exists, methods=["HEAD"]),
                Route("/{index}/_mapping", self._mapping, methods=["GET"]),
                Route("/{index}/_bulk", self._bulk, methods=["POST"]),
                Route("/{index}/_search", self._search, methods=["POST"]),
            ]
        )

    async def _create(self, request: Request) -> Response:
        body = await request.json()
        properties = body["mappings"]["properties"]
        vector = properties["vector"]
        if self.opensearch:
            assert body["settings"] == {"index": {"knn": True}}, body
            assert set(vector) == {"type", "dimension", "method"}, vector
            assert vector["type"] == "knn_vector"
            assert vector["method"]["name"] == "hnsw"
            assert (vector["method"]["engine"], vector["method"]["space_type"]) == ("lucene", "cosinesimil")
        else:
            assert set(body) == {"mappings"}, body
            assert set(vector) == {"type", "dims", "index", "similarity"}, vector
            assert (vector["type"], vector["index"], vector["similarity"]) == ("dense_vector", True, "cosine")
            assert vector["dims"] <= 4096
        assert set(body["mappings"]) == {"_meta", "properties"}
        self.mappings[request.path_params["index"]] = body["mappings"]
        self.documents[request.path_params["index"]] = {}
        return JSONResponse({"acknowledged": True})

    async def _exists(self, request: Request) -> Response:
        return Response(status_code=200 if request.path_params["index"] in self.mappings else 404)

    async def _mapping(self, request: Request) -> Response:
        index = request.path_params["index"]
        return JSONResponse({index: {"mappings": self.mappings[index]}})

    async def _bulk(self, request: Request) -> Response:
        assert request.headers["content-type"] == "application/x-ndjson"
        text = (await request.body()).decode()
        assert text.endswith("\n"), "the last line of a bulk body ends with a newline"
        lines = [json.loads(line) for line in text.splitlines()]
        index = request.path_params["index"]
        size = self._size(index)
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            assert list(action) == ["index"]
            assert len(action["index"]["_id"].encode()) <= 512
            assert len(document["vector"]) == size
            self.documents[index][action["index"]["_id"]] = document
            items.append({"index": {"status": 201}})
        return JSONResponse({"errors": False, "items": items})

    async def _search(self, request: Request) -> Response:
        body = await request.json()
        index = request.path_params["index"]
        if self.opensearch:
            assert set(body) == {"query", "size", "_source"}, set(body)
            (field, knn), *rest = body["query"]["knn"].items()
            assert not rest
            assert set(knn) == {"vector", "k"}, set(knn)
            asked = knn["vector"]
        else:
            assert set(body) == {"knn", "size", "_source"}, set(body)
            knn, field, asked = body["knn"], body["knn"]["field"], body["knn"]["query_vector"]
            assert set(knn) == {"field", "query_vector", "k", "num_candidates"}, set(knn)
            assert knn["k"] <= knn["num_candidates"] <= 10_000
        assert len(asked) == self._size(index)
        documents = list(self.documents[index].values())
        scores = (1 + cosines(np.array([document[field] for document in documents]), np.array(asked))) / 2
        order = np.argsort(-scores)[: min(knn["k"], body["size"])]
        hits = [
            {"_score": float(scores[row]), "_source": {name: documents[row][name] for name in body["_source"]}}
            for row in order
        ]
        return JSONResponse({"hits": {"hits": hits}})

    def _size(self, index: str) -> int:
        vector = self.mappings[index]["properties"]["vector"]
        return vector["dimension" if self.opensearch else "dims"]


class Weaviate:
    """Schema, batch and ``nearImage`` of Weaviate with ``img2vec-neural``, which asks the service for every vector.

    Attributes:
        inference: the address in ``IMAGE_INFERENCE_API``: all that it knows of the service.
        classes: by name.
        objects: properties and vector, by id.
    """

    def __init__(self, inference: str) -> None:
        self.inference = inference
        self.classes: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
        self.app = Starlette(
            routes=[
                Route("/v1/schema", self._create, methods=["POST"]),
                Route("/v1/schema/{name}", self._class, methods=["GET"]),
                Route("/v1/batch/objects", self._batch, methods=["POST"]),
                Route("/v1/graphql", self._graphql, methods=["POST"]),
            ]
        )

    async def start(self) -> None:
        """What Weaviate does before it serves: wait for the inference container."""
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{self.inference}/.well-known/ready")).status_code < 300

    async def _vector(self, identity: str, image: str) -> np.ndarray:
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.post(f"{self.inference}/vectors", json={"id": identity, "image": image})
        body = answer.json()
        if answer.status_code > 399:
            raise LookupError(f"fail with status {answer.status_code}")
        vector = np.array(body["vector"])
        assert (body["id"], body["dim"]) == (identity, len(vector))
        return vector

    async def _create(self, request: Request) -> Response:
        body = await request.json()
        assert re.fullmatch(r"[A-Z]\w*", body["class"])
        assert body["vectorizer"] == "img2vec-neural"
        (field,) = body["moduleConfig"]["img2vec-neural"]["imageFields"]
        types = {one["name"]: one["dataType"] for one in body["properties"]}
        assert types[field] == ["blob"]
        assert body["vectorIndexConfig"] == {"distance": "cosine"}
        self.classes[body["class"]] = body
        return JSONResponse(body)

    async def _class(self, request: Request) -> Response:
        found = self.classes.get(request.path_params["name"])
        return JSONResponse(found) if found else Response(status_code=404)

    async def _batch(self, request: Request) -> Response:
        said = []
        for one in (await request.json())["objects"]:
            result: dict[str, Any] = {"status": "SUCCESS"}
            try:
                vector = await self._vector(one["id"], one["properties"]["image"])
                self.objects[one["id"]] = (one["properties"], vector)
            except LookupError as error:
                result = {"status": "FAILED", "errors": {"error": [{"message": str(error)}]}}
            said.append({**one, "result": result})
        return JSONResponse(said)

    async def _graphql(self, request: Request) -> Response:
        query = (await request.json())["query"]
        shape = (
            r'\{ Get \{ (\w+)\(nearImage: \{image: "([A-Za-z0-9+/=]+)"\}, limit: (\d+)\)'
            r" \{ (\w+) _additional \{ distance \} \} \} \}"
        )
        match = re.fullmatch(shape, query)
        assert match, query[:200]
        name, image, limit, field = match.groups()
        assert name in self.classes
        vector = await self._vector("", image)
        properties, stored = zip(*self.objects.values(), strict=True)
        distances = 1 - cosines(np.array(stored), vector)
        hits = [
            {field: properties[row][field], "_additional": {"distance": float(distances[row])}}
            for row in np.argsort(distances)[: int(limit)]
        ]
        return JSONResponse({"data": {"Get": {name: hits}}})


def cosines(vectors: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Of each row with one vector."""
    return vectors @ asked / np.linalg.norm(vectors, axis=1) / np.linalg.norm(asked)
