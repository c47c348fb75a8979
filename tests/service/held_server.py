"""A server whose model loads or answers only when a test lets it: run as a process of its own, for its end."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bootleg_service.app import create_app
from bootleg_service.lifecycle import Server

from .fake_engine import FakeEngine, fake_bundle
from .serving import settings


class Slow(FakeEngine):
    """Warm as soon as a file is there."""

    def __init__(self, until: Path | None) -> None:
        super().__init__()
        self._until = until

    def warm_up(self, batches):
        """Wait for the file."""
        while self._until is not None and not self._until.exists():
            time.sleep(0.02)


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grace", type=float, default=0)
    parser.add_argument("--drain", type=int, default=1)
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--warm-when", type=Path)
    chosen = parser.parse_args()
    engine = Slow(chosen.warm_when)
    if chosen.hold:
        engine.hold()
    made = settings(lifecycle__grace_seconds=chosen.grace, lifecycle__drain_seconds=chosen.drain)
    app = create_app(fake_bundle(), made, open_model=lambda *_: engine, on_started=lambda _: None)
    Server(app, made.lifecycle, host="127.0.0.1", port=chosen.port, log_level="warning").serve_to_the_end()


if __name__ == "__main__":
    main()
