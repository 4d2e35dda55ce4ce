"""A Kubernetes API server on the loopback interface that knows which kinds there are, holds nothing and says yes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Object = dict[str, Any]

UNSCOPED = frozenset(
    {
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
)
"""Kinds whose objects belong to no namespace."""


@contextmanager
def answering(kubernetes: str, kinds: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Until left: the address of a server of this version of Kubernetes, with these kinds by group and version."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(_documents(kubernetes, kinds)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _documents(kubernetes: str, kinds: Mapping[str, tuple[str, ...]]) -> dict[str, Object]:
    """Path → the discovery document there."""
    major, minor, *_ = kubernetes.split(".")
    found: dict[str, Object] = {
        "/version": {"major": major, "minor": minor, "gitVersion": f"v{kubernetes}"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
    }
    groups: dict[str, list[Object]] = {}
    for group_version, names in kinds.items():
        group, _, version = group_version.rpartition("/")
        if group:
            groups.setdefault(group, []).append({"groupVersion": group_version, "version": version})
        found[f"/apis/{group_version}" if group else f"/api/{version}"] = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": [
                {
                    "name": plural(kind),
                    "singularName": "",
                    "namespaced": kind not in UNSCOPED,
                    "kind": kind,
                    "verbs": ["get"],
                }
                for kind in names
            ],
        }
    # What the chart looks up: where the API server is. Addresses for documentation, to be replaced in plain manifests.
    found["/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"] = {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"name": "https", "port": 6443}],
    }
    found["/api/v1/namespaces/default/services/kubernetes"] = {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": "192.0.2.2", "ports": [{"name": "https", "port": 443}]},
    }
    found["/apis"] = {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [
            {"name": name, "versions": versions, "preferredVersion": versions[0]}
            for name, versions in groups.items()
        ],
    }
    return found


def plural(kind: str) -> str:
    """A kind's name in paths."""
    name = kind.lower()
    if name.endswith("y"):
        return name[:-1] + "ies"
    return name + ("es" if name.endswith("s") else "s")


def _handler(documents: Mapping[str, Object]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet: apart, each answer would wait 40 ms for an acknowledgement.
        wbufsize = -1

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in documents:
                self._answer(200, documents[path])
            elif path.endswith("/secrets"):  # Helm looks for earlier releases
                self._answer(200, {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": []})
            else:
                self._answer(404, {"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound"})

        def do_POST(self) -> None:
            body = self._body()
            # Helm's record of the release comes as protobuf, everything else as JSON.
            mine = json.loads(body) if body[:1] == b"{" else {"kind": "Secret", "apiVersion": "v1"}
            self._answer(201, {**mine, "metadata": mine.get("metadata", {"name": "release"})})

        def do_PUT(self) -> None:
            self._body()
            self._answer(200, {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "release"}})

        do_PATCH = do_PUT

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _answer(self, status: int, document: Object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    return Handler
