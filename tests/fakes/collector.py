"""An OTLP collector, and a web server of an issuer, on the loopback interface."""

from __future__ import annotations

from fakes.web_service import Request, Response, WebService, of_json


class Collector(WebService):
    """An OTLP collector, and a web server of an issuer: answers what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.files: dict[str, bytes] = {}

    def respond(self, request: Request) -> Response:
        if request.method == "POST":
            self.got.append((request.target, dict(request.headers), request.content))
            return of_json(200, b"{}")
        found = self.files.get(request.target)
        return of_json(404 if found is None else 200, found or b"")
