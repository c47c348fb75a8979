"""The process that the storm goes over: the service on a faulty engine, and a route that says what is still pending.

python -m tests.service.chaos.server PORT REDIS_URL KEYS_FILE SEED
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import uvicorn

from bootleg_service.app import create_app
from tests.service.chaos.faulty import FaultyEngine
from tests.service.fake_engine import fake_bundle
from tests.service.serving import settings

RECEIVE_SECONDS = 3
MAX_IMAGE_BYTES = 64 * 1024
PENDING = "/chaos/pending"


def main(port: int, redis_url: str, keys_file: str, seed: int) -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(level="ERROR")
    app = create_app(
        fake_bundle(),
        settings(
            limits__receive_seconds=RECEIVE_SECONDS,
            limits__request_seconds=2,
            limits__image__max_bytes=MAX_IMAGE_BYTES,
            batch__max_queue_items=32,
            cache__memory_bytes=256 * 1024,
            cache__redis_url=redis_url,
            cache__breaker_seconds=0.3,
            access__keys_file=keys_file,
        ),
        open_model=lambda bundle, chosen: FaultyEngine(seed),
    )

    @app.get(PENDING)
    async def pending() -> dict[str, list[str] | int]:
        tasks = sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks() - {asyncio.current_task()})
        pipeline = app.state.models.default.pipeline
        return {"tasks": tasks, "flights": len(pipeline._flights), "stores": len(pipeline._tasks)}

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, timeout_graceful_shutdown=20)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
