"""A Kubernetes API server as far as the relay sees one: TokenReview with the real JSON, the key set, accounts that come and go."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fakes.issuer import Issuer
from rlu_attestation.encoding import unb64u

ISSUER = "https://kubernetes.default.svc.cluster.local"


class ApiServer:
    """Knows the service accounts in `accounts`; `reviews` is what it was asked, by token."""

    def __init__(self) -> None:
        self.issuer = Issuer("cluster")
        self.accounts: set[str] = set()
        self.reviews: list[str] = []
        self.own_token = "the-relay's-own"
        self.status = 201
        self.may_answer = threading.Event()
        self.may_answer.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/openid/v1/jwks" and self._authorised():
                    self._answer(200, json.loads(outer.issuer.jwks()))

            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not self._authorised():
                    return
                assert self.path == "/apis/authentication.k8s.io/v1/tokenreviews"
                assert (content["apiVersion"], content["kind"]) == ("authentication.k8s.io/v1", "TokenReview")
                self._answer(outer.status, outer.review(content))

            def _authorised(self) -> bool:
                if self.headers["Authorization"] == f"Bearer {outer.own_token}":
                    return True
                self._answer(401, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401})
                return False

            def _answer(self, status: int, document: Any) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ApiServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def token(self, now: float, namespace: str, name: str, **more: Any) -> str:
        """A projected token, as a kubelet gets it."""
        return self.issuer.sign(
            {
                "aud": ["rlu"],
                "exp": int(now) + 3600,
                "iat": int(now),
                "iss": ISSUER,
                "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": "u-1"}},
                "nbf": int(now),
                "sub": f"system:serviceaccount:{namespace}:{name}",
                **more,
            },
            {"typ": ...},
        )

    def review(self, asked: dict[str, Any]) -> dict[str, Any]:
        token, audiences = asked["spec"]["token"], asked["spec"]["audiences"]
        self.reviews.append(token)
        assert self.may_answer.wait(60)
        claims = json.loads(unb64u(token.split(".")[1]))
        common = sorted(set(claims["aud"]) & set(audiences))
        status: dict[str, Any] = {
            "user": {},
            "error": "[invalid bearer token, service account token is not valid]",
        }
        if claims["sub"] in self.accounts and common:
            user = {
                "username": claims["sub"],
                "uid": "u-1",
                "groups": ["system:serviceaccounts", "system:authenticated"],
            }
            status = {"authenticated": True, "user": user, "audiences": common}
        return {
            "kind": "TokenReview",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"creationTimestamp": None},
            "spec": asked["spec"],
            "status": status,
        }
