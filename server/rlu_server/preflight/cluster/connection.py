"""The API server, asked as whoever runs the command: by a kubeconfig, with every way to log in that one has, or by a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes.client import ApiClient, Configuration
from kubernetes.config import ConfigException, new_client_from_config

from rlu_server.cluster.client import ask, client_of, parsed
from rlu_server.outreach.cluster import Cluster
from rlu_server.outreach.http import BadAddress, Unreachable
from rlu_server.preflight.cluster.api import Answer


@dataclass(frozen=True, slots=True)
class Connection:
    """An `api.Server`."""

    client: ApiClient

    def get(self, path: str) -> Answer:
        return _answer(*ask(self.client, "GET", path))

    def text(self, path: str) -> bytes | None:
        status, data = ask(self.client, "GET", path)
        return data if status == 200 else None

    def create(self, path: str, body: Mapping[str, Any]) -> Answer:
        return _answer(*ask(self.client, "POST", path, body))


def by_token(cluster: Cluster) -> Connection:
    """As from a pod.

    Raises:
        BadAddress: `relay.url`, `relay.cluster`: the CA cannot be read.
    """
    try:
        return Connection(client_of(cluster))
    except OSError as error:
        raise BadAddress("relay.cluster", f"cannot use {cluster.ca_file}: {error.strerror}") from error


def by_kubeconfig(context: str = "") -> Connection:
    """As kubectl would: `KUBECONFIG`, else `~/.kube/config`.

    Args:
        context: one of its contexts; empty: the current one.

    Raises:
        BadAddress: `relay.cluster`: there is none, or no such context in it.
    """
    settings = Configuration()
    settings.retries = False
    try:
        client = new_client_from_config(
            context=context or None, persist_config=False, client_configuration=settings
        )
    except (ConfigException, OSError) as error:
        raise BadAddress(
            "relay.cluster",
            f"no kubeconfig leads to a cluster ({type(error).__name__}): see `kubectl config view`, or name the API server with "
            "--api-server",
        ) from error
    return Connection(client)


def _answer(status: int, data: bytes) -> Answer:
    if not 200 <= status < 300:
        return Answer(status)
    value = parsed(data)
    if value is None:
        raise Unreachable("relay.status", "the API server's answer is no JSON object")
    return Answer(status, value)
