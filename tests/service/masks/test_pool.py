import asyncio
import threading

import pytest
from threadpoolctl import threadpool_info

from bootleg_service.errors import OverloadedError
from bootleg_service.masks.pool import MaskPool
from bootleg_service.metrics import Metrics
from bootleg_service.settings import MaskSettings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pool():
    made = MaskPool(MaskSettings(), Metrics(), max_seconds=10)
    yield made
    await made.close()


def blas_threads():
    """Of NumPy's BLAS; that of FAISS, which other tests load, counts by OpenMP, whose limits are each thread's own."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return [library["num_threads"] for library in found if library.get("threading_layer") != "openmp"]


async def test_blas_has_one_thread_while_a_pool_lives_and_its_own_number_again_after():
    before = blas_threads()
    pool = MaskPool(MaskSettings(), Metrics(), max_seconds=10)
    assert set(await pool.run(blas_threads)) == {1}
    await pool.close()
    assert blas_threads() == before


async def test_a_fault_of_a_job_reaches_its_caller_and_leaves_the_place_free(pool):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 / 0)
    assert pool.waiting == 0
    assert await pool.run(lambda: 7) == 7


async def test_a_job_that_would_wait_too_long_by_what_jobs_have_taken_is_refused():
    pool, gate = MaskPool(MaskSettings(), Metrics(), max_seconds=0.5), threading.Event()
    pool._pool._seconds_per_job = 1.0
    first = asyncio.create_task(pool.run(gate.wait))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match=r"1 masks wait .* about 1\.0 s") as caught:
        await pool.run(lambda: 1)
    assert caught.value.retry_after == 1.0
    gate.set()
    assert await first
    await pool.close()
