"""An API server's nodes, ConfigMaps and pods in memory, with the real paths, merge patches, versions and statuses.

Whoever shows its token may do everything.

`tests/cluster` runs the same tests on it and on a real one.
"""

from __future__ import annotations

import copy
import itertools
import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fakes.web_service import Request, Response, WebService, of_json

Object = dict[str, Any]


def merged(old: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class FakeKubernetes(WebService):
    """Objects by path.

    Attributes:
        budget: how many evictions it allows.
        rivals: before how many more patches somebody else changes the object.
        calls: method and path of what it was asked.
    """

    keeps_alive = True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.objects: dict[str, Object] = {}
        self.calls: list[tuple[str, str]] = []
        self.budget = 100
        self.rivals = 0
        self._versions = itertools.count(1)
        self._lock = threading.Lock()
        self.token = folder / "token"
        self.token.write_text("token")

    def respond(self, request: Request) -> Response:
        if request.headers["Authorization"] != f"Bearer {self.token.read_text()}":
            return of_json(401, b'{"code": 401}')
        with self._lock:
            body = json.loads(request.content) if request.content else None
            status, value = self._answer(request.method, request.target, body)
            return of_json(status, json.dumps(value).encode())

    def put(self, path: str, value: Object) -> None:
        """An object with a version of its own."""
        found = copy.deepcopy(value)
        found.setdefault("metadata", {}).update(
            {"name": path.rpartition("/")[2], "resourceVersion": str(next(self._versions))}
        )
        self.objects[path] = found

    def _answer(self, method: str, target: str, body: Any) -> tuple[int, Object]:
        parts = urlsplit(target)
        path = parts.path
        self.calls.append((method, path))
        if method == "POST" and path.endswith("/eviction"):
            return self._evict(path.removesuffix("/eviction"))
        if method == "GET" and path not in self.objects:
            if path.rpartition("/")[2] in ("nodes", "pods"):
                return 200, {"items": self._listed(path, parse_qs(parts.query))}
            return 404, {"code": 404}
        if path not in self.objects:
            return 404, {"code": 404}
        if method == "PATCH":
            if self.rivals:
                self.rivals -= 1
                self.put(path, self.objects[path])
            asked = (body.get("metadata") or {}).pop("resourceVersion", None)
            if asked not in (None, self.objects[path]["metadata"]["resourceVersion"]):
                return 409, {"code": 409}
            self.put(path, merged(self.objects[path], body))
        return 200, self.objects[path]

    def _listed(self, path: str, query: dict[str, list[str]]) -> list[Object]:
        found = [value for key, value in self.objects.items() if key.rpartition("/")[0] == path]
        [fields] = query.get("fieldSelector", [""])
        [labels] = query.get("labelSelector", [""])
        if fields:
            found = [
                one for one in found if one["spec"].get("nodeName") == fields.removeprefix("spec.nodeName=")
            ]
        wanted = dict(part.split("=") for part in labels.split(",") if part)
        return [one for one in found if wanted.items() <= (one["metadata"].get("labels") or {}).items()]

    def _evict(self, path: str) -> tuple[int, Object]:
        if path not in self.objects:
            return 404, {"code": 404}
        if not self.budget:
            return 429, {"code": 429}
        self.budget -= 1
        self.objects[path]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return 201, {}
