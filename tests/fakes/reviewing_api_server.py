"""A Kubernetes API server as far as the relay sees one: TokenReview with the real JSON, the key set, accounts that come and go."""

from __future__ import annotations

import json
import threading
from typing import Any

from fakes.issuer import Issuer
from fakes.web_service import Request, Response, WebService, of_json
from rlu_attestation.encoding import unb64u

ISSUER = "https://kubernetes.default.svc.cluster.local"


class ApiServer(WebService):
    """Knows the service accounts in `accounts`; `reviews` is what it was asked, by token."""

    keeps_alive = True

    def __init__(self) -> None:
        super().__init__()
        self.issuer = Issuer("cluster")
        self.accounts: set[str] = set()
        self.reviews: list[str] = []
        self.own_token = "the-relay's-own"
        self.status = 201
        self.may_answer = threading.Event()
        self.may_answer.set()

    def respond(self, request: Request) -> Response:
        if request.headers["Authorization"] != f"Bearer {self.own_token}":
            return of_json(401, b'{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401}')
        if (request.method, request.target) == ("GET", "/openid/v1/jwks"):
            return of_json(200, self.issuer.jwks())
        assert (request.method, request.target) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
        content = json.loads(request.content)
        assert (content["apiVersion"], content["kind"]) == ("authentication.k8s.io/v1", "TokenReview")
        return of_json(self.status, json.dumps(self.review(content)).encode())

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
