"""The API server, as one role sees it: the calls of that role, one request each, and errors by cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rlu_attestation.errors import RluError
from rlu_server.cluster.client import ask, client_of, parsed
from rlu_server.cluster.rights import ROLES, Right
from rlu_server.outreach.cluster import Cluster
from rlu_server.outreach.http import Unreachable

_CAUSES = {
    401: ("cluster.denied", "the API server does not accept our token"),
    403: ("cluster.denied", "the API server does not allow it; the release's roles, or its admission policy"),
    404: ("cluster.absent", "there is no such object"),
    409: ("cluster.conflict", "somebody else changed it meanwhile"),
    422: ("cluster.invalid", "the API server finds it invalid"),
    429: ("cluster.later", "not now: a disruption budget, or too many requests"),
}


class Denied(RluError):
    """The API server said no."""

    exit_code = 10


class Misuse(RluError):
    """What was asked for cannot be done."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Api:
    """The calls of `roles`, in `namespace` where they are in one."""

    cluster: Cluster
    namespace: str
    roles: tuple[str, ...]

    def call(
        self,
        right: Right,
        name: str = "",
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """What the API server answers.

        Raises:
            ValueError: no role of ours has this right.
            Denied: `cluster.denied`, `cluster.absent`, `cluster.conflict`, `cluster.invalid`, `cluster.later`.
            Unreachable: `relay.…`, `cluster.status`, `cluster.answer`.
            Misuse: `cluster.address`: the CA cannot be read.
        """
        if not any(right in ROLES[role] for role in self.roles):
            raise ValueError(f"{'/'.join(self.roles)} has no right to {right.verb} {right.resource}")
        try:
            client = client_of(self.cluster)
        except OSError as error:
            raise Misuse("cluster.address", f"cannot use {self.cluster.ca_file}: {error}") from error
        with client:
            path = right.path(self.namespace, name, query)
            status, answer = ask(client, right.method, path, body, right.content_type)
        what = f"{right.verb} {right.resource}"
        if status in _CAUSES:
            code, cause = _CAUSES[status]
            raise Denied(code, f"{what}: {cause}")
        if not 200 <= status < 300:
            raise Unreachable("cluster.status", f"{what}: the API server answered with status {status}")
        value = parsed(answer)
        if value is None:
            raise Unreachable("cluster.answer", f"{what}: the answer is no JSON object")
        return value
