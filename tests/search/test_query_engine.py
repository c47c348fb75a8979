"""The commands of the query engine's example: a real Redis keeps the hashes, FT.* is answered here, exactly."""

import argparse
import importlib
import sys

import numpy as np
import pytest
import redis

from bootleg_search import MixedSpacesError
from tests.service.redis_server import RedisServer

from .conftest import EXAMPLES
from .stand_ins import cosines


class QueryEngine(redis.Redis):
    """A client whose server knows FT.CREATE and FT.SEARCH, as far as the example uses them."""

    size = None

    def execute_command(self, *words, **options):
        if words[0] == "FT.CREATE":
            return self._create(*words[1:])
        if words[0] == "FT.SEARCH":
            return self._search(*words[1:])
        return super().execute_command(*words, **options)

    def _create(self, index, *words):
        assert words[:6] == ("ON", "HASH", "PREFIX", 1, f"{index}:photo:", "SCORE")
        schema = words[words.index("SCHEMA") + 1 :]
        assert schema[:6] == ("path", "TAG", "SEPARATOR", ",", "vector", "VECTOR")
        assert schema[6:8] == ("HNSW", 6)
        options = dict(zip(schema[8::2], schema[9::2], strict=True))
        assert (options["TYPE"], options["DISTANCE_METRIC"]) == ("FLOAT32", "COSINE")
        type(self).size = options["DIM"]
        return b"OK"

    def _search(self, index, text, *words):
        assert text == "*=>[KNN 4 @vector $asked AS distance]"
        assert words[words.index("PARAMS") + 1 : words.index("PARAMS") + 3] == (2, "asked")
        assert words[words.index("DIALECT") + 1] == 2
        assert words[words.index("SORTBY") + 1] == "distance"
        assert words[words.index("RETURN") + 1 : words.index("RETURN") + 4] == (2, "path", "distance")
        asked = np.frombuffer(words[words.index("asked") + 1], "<f4")
        assert asked.size == self.size
        keys = list(self.scan_iter(f"{index}:photo:*"))
        stored = np.array([np.frombuffer(self.hget(key, "vector"), "<f4") for key in keys])
        distances = 1 - cosines(stored, asked)
        answer = [4]
        for row in np.argsort(distances)[:4]:
            fields = [b"path", self.hget(keys[row], "path"), b"distance", str(distances[row]).encode()]
            answer += [keys[row], fields]
        return answer


@pytest.fixture
def ask(monkeypatch, photos, query, tmp_path, capsys):
    """Run the example in this process, against one Redis: gives its neighbours."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(redis, "Redis", QueryEngine)
    example = importlib.import_module("redis_query_engine_search")
    server = RedisServer(tmp_path)
    server.start()

    def ask(url):
        address = f"{server.url}?protocol=2"
        example.main(argparse.Namespace(photos=photos, query=query, url=url, top=4, redis=address))
        return [(path, float(c)) for c, path in (line.split("  ", 1) for line in capsys.readouterr().out.splitlines())]

    yield ask
    server.kill()
    sys.modules.pop("redis_query_engine_search")


def test_hashes_are_indexed_and_asked_and_never_mixed(ask, same, service, stranger):
    same(ask(service))
    with pytest.raises(MixedSpacesError, match=stranger):
        ask(stranger)
    same(ask(service))
