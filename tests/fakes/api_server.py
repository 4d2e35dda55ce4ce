"""An API server on loopback that answers what a test says: for machines without the real one, and for states that need a kubelet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fakes.intel import pem
from fakes.pki import Authority
from fakes.web_service import Request, Response, WebService, of_json

Object = dict[str, Any]
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
EVERYTHING = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}


class ApiServer(WebService):
    """`objects` are answered by path, without the query; `denied` paths with 403; anything else with 404.

    Attributes:
        asked: method and path of every request.
        rules: what a SelfSubjectRulesReview says.
        status: for every request; 0: as above.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
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

    def respond(self, request: Request) -> Response:
        self.tokens.add(request.headers.get("Authorization", ""))
        status, value = self.answer(request.method, request.target)
        return of_json(status, value["text"].encode() if "text" in value else json.dumps(value).encode())
