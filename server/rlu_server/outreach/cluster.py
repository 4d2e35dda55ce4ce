"""The Kubernetes API server, as a service account sees it from a pod: TokenReview and the cluster's key set, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rlu_server.core.auth import reviews
from rlu_server.outreach.http import BadAddress, Unreachable, request, trust

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where it is, and what we show: the token file is read anew for each question, since the kubelet renews it.

    The account needs `create` on `tokenreviews` (the ClusterRole `system:auth-delegator` has it).
    """

    url: str
    ca_file: Path
    token_file: Path

    @classmethod
    def around(cls, environment: Mapping[str, str], account: Path = ACCOUNT) -> Cluster:
        """The cluster that this pod is in.

        Raises:
            BadAddress: `relay.cluster`, outside a pod.
        """
        host = environment.get("KUBERNETES_SERVICE_HOST", "")
        if not host:
            raise BadAddress("relay.cluster", "not in a pod; name the API server with --api-server")
        address = f"[{host}]" if ":" in host else host
        port = environment.get("KUBERNETES_SERVICE_PORT_HTTPS", "443")
        return cls(f"https://{address}:{port}", account / "ca.crt", account / "token")

    def review(self, question: bytes) -> bytes:
        """The API server's answer to a TokenReview.

        Raises:
            Unreachable: `relay.unreachable`, `relay.too_long`, `relay.status`, `relay.account`.
        """
        status, _, answer = request(
            "POST",
            f"{self.url}/apis/authentication.k8s.io/v1/tokenreviews",
            trust(self.ca_file),
            reviews.MAX_ANSWER,
            question,
            {**self.headers(), "Content-Type": "application/json", "Accept": "application/json"},
        )
        if status not in (200, 201):
            raise Unreachable("relay.status", f"the API server answered with status {status}")
        return answer

    def headers(self) -> dict[str, str]:
        try:
            token = self.token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unreachable("relay.account", f"cannot read {self.token_file}") from error
        return {"Authorization": f"Bearer {token}"}

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/openid/v1/jwks"
