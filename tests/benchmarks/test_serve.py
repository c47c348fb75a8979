"""The serving benchmark's client, ceilings and rows, against a real server with a fake engine."""

import numpy as np
import pytest

from benchmarks import soak
from benchmarks.serve import compared, median
from benchmarks.serve_ceilings import bare_runs, bare_script, photographs
from benchmarks.serve_load import closed_loop, image_request, open_loop, tensor_request
from benchmarks.serve_stand_ins import StubEngine
from benchmarks.tables import TABLES
from bootleg_bundle.preprocess import PreprocessSpec
from tests.service.fake_engine import NAME
from tests.service.live import live
from tests.service.pictures import SIDE

PIXELS = np.zeros((8, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def server():
    with live() as running:
        yield running


@pytest.fixture
def port(server):
    server.engine.batches.clear()
    return int(server.host.partition(":")[2])


@pytest.mark.parametrize("clients", [1, 4])
@pytest.mark.parametrize("images", [1, 3])
def test_a_closed_loop_sends_every_image_and_times_every_answer(server, port, clients, images):
    load = closed_loop(port, [image_request(photographs(images)) for _ in range(6)], clients)
    assert len(load.latencies) == 6
    assert 0 < max(load.latencies) <= load.seconds
    assert load.client_seconds > 0
    assert sum(server.engine.batches) == 6 * images


def test_an_open_loop_sends_all_of_its_requests(server, port):
    load = open_loop(port, [tensor_request(NAME, PIXELS[:1])] * 20, rate=200)
    assert len(load.latencies) == 20
    assert sum(server.engine.batches) == 20


def test_ready_tensors_are_as_the_service_takes_them(server, port):
    closed_loop(port, [tensor_request(NAME, PIXELS)], 1)
    assert sum(server.engine.batches) == 8


def test_an_answer_that_is_an_error_ends_the_benchmark(port):
    with pytest.raises(RuntimeError, match="answered 422"):
        closed_loop(port, [image_request([photographs(1)[0][:300]])], 1)


def test_ceilings_run_every_image():
    engine = StubEngine(0.0, 0.0, 4)
    seen = []
    run = engine.run
    engine.run = lambda pixels, outputs: seen.append(len(pixels)) or run(pixels, outputs)
    assert bare_script(engine, PreprocessSpec(height=SIDE, width=SIDE), photographs(20)) > 0
    assert seen == [8, 8, 4]
    assert bare_runs(engine, PIXELS, 0.01) > 0


def row(clients, rate, busy):
    return {"load": "closed loop", "clients": clients, "images_per_s": rate, "busy": busy}


def test_shares_are_of_the_ceiling_around_them_with_and_without_the_clients_work():
    raw, alone, busy = compared("m", "JPEG", "bare script", [row(1, 50.0, 0.1), row(8, 80.0, 0.2)], 90.0, 110.0)
    assert (raw["load"], raw["images_per_s"], raw["share_of_raw"]) == ("bare script", 100.0, 1.0)
    assert (alone["share_of_raw"], alone["share_less_client"]) == (0.5, None)
    assert busy["share_of_raw"] == pytest.approx(0.8)
    assert busy["share_less_client"] == pytest.approx(1.0)
    assert busy["load"] == "closed loop, JPEG"


def test_rounds_become_medians():
    rows = [{"model": "m", "clients": 8, "images_per_s": rate, "mean_batch": None} for rate in (1.0, 5.0, 2.0)]
    assert median(rows) == {"model": "m", "clients": 8, "images_per_s": 2.0, "mean_batch": None}


def test_the_tables_take_the_rows():
    rows = compared("m", "JPEG", "bare script", [row(8, 80.0, 0.2) | {"p50_ms": 1.5}], 100.0, 100.0)
    assert "| m | closed loop, JPEG | 8 | 80 | 80 % | 1.5 ms |" in TABLES["serve"](rows)
    assert "| 80 % | 100 % | 1.5 ms |" in TABLES["serve:all"](rows)


def test_a_soak_counts_its_requests_and_draws_memory(port):
    memory = iter(range(100, 1000))
    rows = soak.soak(port, lambda: float(next(memory)), requests=40, clients=3)
    assert [r["requests"] for r in rows] == list(range(1, 41))
    assert rows[-1]["ok"] + rows[-1]["refused"] == 40
    assert rows[-1]["refused"] > 0
    assert soak.growth(rows) > 0
    assert soak.plot(rows).startswith('<svg xmlns="http://www.w3.org/2000/svg"')


def test_the_soak_sends_broken_images_and_several_at_once():
    pool = soak.pictures(np.random.default_rng(1), 20)
    assert {data[:3] for data in pool} == {b"\xff\xd8\xff", b"\x89PN", b"RIF"}
    requests = [next(stream) for stream in [soak.mixed(np.random.default_rng(0), pool)] for _ in range(200)]
    assert max(images for images, _ in requests) > 1
