"""An OTLP collector on the loopback interface that keeps every byte it gets, heads and all, in memory."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BufferedIOBase
from typing import Any

TIMEOUT_S = 60.0


class _Noting:
    """Reads on, and keeps what was read."""

    def __init__(self, source: BufferedIOBase, kept: bytearray) -> None:
        self._source = source
        self._kept = kept

    def readline(self, most: int = -1) -> bytes:
        data = self._source.readline(most)
        self._kept += data
        return data

    def read(self, count: int = -1) -> bytes:
        data = self._source.read(count)
        self._kept += data
        return data

    def close(self) -> None:
        self._source.close()


class Collector:
    """Serves between `start` and `stop`; what it got stays.

    Attributes:
        url: once it was started.
        bodies: of the requests, in their order.
    """

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        self._kept = bytearray()
        self._server: HTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def received(self) -> bytes:
        """Every byte so far, one request after the other."""
        return bytes(self._kept)

    def start(self) -> None:
        server = self._server = HTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{server.server_port}"
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Also of one that was not started."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Collector:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = TIMEOUT_S

            def setup(self) -> None:
                super().setup()
                self.rfile = _Noting(self.rfile, outer._kept)  # type: ignore[assignment]

            def do_POST(self) -> None:
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *arguments: Any) -> None:
                return

        return Handler
