"""A real HTTP server on this machine that serves files, takes them, and misbehaves as a test tells it to."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """Files by name, a script of faults by name, and a log of what was asked.

    Attributes:
        files: what is served and what was put.
        faults: by name, what the next requests for it get instead; each is called with the handler and the file.
        log: (method, name, headers) of every request.
        url: its base address.
    """

    def __init__(self):
        self.files, self.faults, self.log = {}, {}, []
        self.always = None
        self.ranges = True
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/models/tiny"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def asked(self, method, name):
        """The headers of each such request."""
        return [headers for was, path, headers in self.log if (was, path) == (method, name)]

    def serve_bundle(self, bundle):
        for name in ("manifest.json", *bundle.manifest.files):
            self.files[name] = (bundle.path / name).read_bytes()

    def _handler(self):
        site = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def _fault(self):
                name = self.path.partition("/models/tiny/")[2]  # of a whole address too, as proxies are asked
                site.log.append((self.command, name, dict(self.headers)))
                faults = site.faults.get(name)
                return name, faults.pop(0) if faults else site.always

            def do_GET(self):
                name, fault = self._fault()
                with contextlib.suppress(ConnectionError):
                    if fault is not None:
                        fault(self, site.files.get(name, b""))
                    elif name not in site.files:
                        status(404)(self, b"")
                    else:
                        whole(self, site.files[name], ranges=site.ranges)

            def do_PUT(self):
                name, fault = self._fault()
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if fault is not None:
                    fault(self, b"")
                    return
                if len(body) < int(self.headers["Content-Length"]):
                    return  # the client broke off: what came is no file
                site.files[name] = body
                status(201)(self, b"")

        return Handler


def whole(handler, data, *, ranges=True):
    """Answer as a good server does."""
    asked = handler.headers.get("Range")
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
    if start and start >= len(data):
        return status(416)(handler, data)
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    handler.send_header("Content-Length", str(len(data) - start))
    handler.end_headers()
    handler.wfile.write(data[start:])
    return None


def status(code, **headers):
    def answer(handler, _):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def cut(at, *, ranges=True):
    """Say the whole length, send the file up to byte ``at``, and hang up."""

    def answer(handler, data):
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start:at])
        handler.close_connection = True

    return answer


def says(length, body=b"", **headers):
    """Send ``body`` under a made-up length."""

    def answer(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Length", str(length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return answer


def unending(handler, _):
    """Send bytes for ever, with no length."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 2**16)


def hang_up(handler, _):
    handler.close_connection = True


def silence(until):
    """Say nothing before the event ``until``."""

    def answer(handler, _):
        until.wait(10)
        handler.close_connection = True

    return answer
