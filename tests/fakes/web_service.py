"""A small HTTP server on the loopback interface; whoever derives from it says what is answered."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

S = TypeVar("S", bound="WebService")


@dataclass(frozen=True)
class Request:
    """`target` has the query; `headers` may be looked up in any case."""

    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class Response:
    status: int
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class WebService:
    """Listens from when it is made, and answers until left."""

    keeps_alive = False
    """Whether connections serve more than one request."""

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1" if outer.keeps_alive else "HTTP/1.0"
            wbufsize = -1  # head and content in one packet, which no acknowledgement delays

            def _respond(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = outer.respond(Request(self.command, self.path, self.headers, content))
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PATCH = _respond

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def respond(self, request: Request) -> Response:
        """Called by the threads of connections."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self: S) -> S:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def of_json(status: int, content: bytes) -> Response:
    """An answer that is JSON."""
    return Response(status, content, {"Content-Type": "application/json"})
