"""What a visitor does on the page, and what must never happen while one is there."""

from __future__ import annotations

import base64
import contextlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from playwright.sync_api import Browser, Locator

DROP = """(files) => {
  const transfer = new DataTransfer();
  for (const [name, text] of files) {
    transfer.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
  }
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
PIXELS = "(c) => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"


class Visitor:
    """One open page.

    Attributes:
        page: playwright's.
        requests: those that were sent, in order.
    """

    def __init__(self, browser: Browser, url: str, *, expected_errors: Sequence[str] = (), **context: Any) -> None:
        self._origin = url.rstrip("/")
        self._expected = expected_errors
        self._context = browser.new_context(**context)
        self._logged: list[str] = []
        self.requests: list[Any] = []
        self.page = self._context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda said: self._logged.append(said.text) if said.type != "log" else None)
        self.page.on("pageerror", lambda error: self._logged.append(str(error)))
        self.page.on("request", self._sent)
        self.url = url

    def arrive(self) -> Visitor:
        """Load the page."""
        self.page.goto(self.url)
        return self

    def leave(self) -> None:
        """Close it, and check that nothing was logged and nothing left the origin."""
        self._context.close()
        unexpected = [text for text in self._logged if not any(re.search(known, text) for known in self._expected)]
        assert not unexpected, unexpected
        elsewhere = [
            r.url for r in self.requests if not r.url.startswith((f"{self._origin}/", f"blob:{self._origin}/"))
        ]
        assert not elsewhere, elsewhere

    def _sent(self, request: Any) -> None:
        self.requests.append(request)

    def drop(self, files: dict[str, bytes]) -> None:
        """Drop files, by name."""
        self.page.evaluate(DROP, [[name, base64.b64encode(data).decode()] for name, data in files.items()])

    def drop_and_wait(self, files: dict[str, bytes]) -> None:
        """Drop files that are good, and wait until all are embedded."""
        before = self.tiles("ready").count()
        self.drop(files)
        self.expect(self.tiles("ready")).to_have_count(before + len(files))

    def tiles(self, state: str = "") -> Locator:
        """The gallery's tiles, of one state or all."""
        return self.page.locator(f'.tile[data-state="{state}"]' if state else ".tile")

    def open(self, name: str) -> None:
        """Choose an image of the gallery."""
        self.tiles().filter(has_text=name).click()

    def choose(self, view: str) -> None:
        """Choose what is laid over it, and wait for that."""
        self.page.locator("#views").get_by_text(view, exact=True).click()
        self.expect(self.page.locator("#frame")).to_be_visible()

    def overlay(self) -> np.ndarray:
        """The overlay's pixels, RGBA ``[h, w, 4]``."""
        canvas = self.page.locator("#overlay")
        self.expect(self.page.locator("#frame")).to_be_visible()
        height, width = canvas.evaluate("(c) => [c.height, c.width]")
        return np.array(canvas.evaluate(PIXELS), np.uint8).reshape(height, width, 4)

    def neighbours(self) -> list[tuple[str, float]]:
        """Names and similarities, as shown."""
        shown = self.page.locator(".neighbour")
        self.expect(shown.first).to_be_visible()
        labels = [shown.nth(i).get_attribute("aria-label") for i in range(shown.count())]
        return [(name, float(value)) for name, _, value in (label.rpartition(", similarity ") for label in labels)]

    def sent(self, route: str) -> list[Any]:
        """The requests of one route."""
        return [request for request in self.requests if f"/{route}" in request.url]

    @contextlib.contextmanager
    def answering(self, route: str, handle: Any) -> Iterator[None]:
        """Answer a route's requests in the service's place."""
        self.page.route(re.compile(f"/{route}"), handle)
        yield
        self.page.unroute(re.compile(f"/{route}"))

    @staticmethod
    def expect(locator: Locator) -> Any:
        """Playwright's waiting assertions, patient with a busy machine."""
        from playwright.sync_api import expect

        expect.set_options(timeout=60_000)
        return expect(locator)
