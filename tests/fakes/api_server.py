"""An API server on loopback that answers what a test says: for machines without the real one, and for states that need a kubelet."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from fakes.intel import pem
from fakes.pki import Authority

Object = dict[str, Any]
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
EVERYTHING = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}


class ApiServer:
    """`objects` are answered by path, without the query; `denied` paths with 403; anything else with 404.

    Attributes:
        asked: method and path of every request.
        rules: what a SelfSubjectRulesReview says.
        status: for every request; 0: as above.
    """

    def __init__(self, directory: Path) -> None:
        self.objects: dict[str, Object] = {}
        self.denied: set[str] = set()
        self.rules: list[Object] = [EVERYTHING]
        self.incomplete = False
        self.status = 0
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str] = set()
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(pem(Authority("api server").der).rstrip(b"\0"))
        self.token = directory / "token"
        self.token.write_text("who-asks\n")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.02), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def options(self) -> tuple[str, ...]:
        """For commands that ask it."""
        return ("--api-server", self.url, "--api-ca", str(self.ca), "--api-token", str(self.token))

    def list_of(self, path: str, *items: Mapping[str, Any]) -> None:
        self.objects[path] = {"items": list(items)}

    def answer(self, method: str, path: str) -> tuple[int, Object]:
        """Status and object."""
        self.asked.append((method, path))
        place = urlsplit(path).path
        if self.status:
            return self.status, {}
        if place in self.denied:
            return 403, {"kind": "Status", "reason": "Forbidden"}
        if method == "POST":
            if place != REVIEW:
                return 405, {}
            return 201, {"status": {"resourceRules": self.rules, "incomplete": self.incomplete}}
        found = self.objects.get(place)
        return (200, found) if found is not None else (404, {"kind": "Status", "reason": "NotFound"})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _respond(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.tokens.add(self.headers.get("Authorization", ""))
                status, value = fake.answer(self.command, self.path)
                data = value["text"].encode() if "text" in value else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _respond

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def __enter__(self) -> ApiServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
