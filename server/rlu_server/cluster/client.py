"""Kubernetes' own client, asked one thing at a time: who asks, and what came back. What that means is the caller's to say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import urllib3
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException

from rlu_server.outreach.cluster import Cluster
from rlu_server.outreach.http import Unreachable, target

MAX_ANSWER = 64 << 20
"""A list of some thousand nodes."""
TIMEOUT_S = 30.0


def client_of(cluster: Cluster) -> ApiClient:
    """A client that shows an account's token, which it reads anew for each request.

    Raises:
        BadAddress: `relay.url`.
        OSError: the CA cannot be read.
    """
    target(cluster.url)
    cluster.ca_file.read_bytes()  # the client would name neither file nor cause
    settings = Configuration(host=cluster.url)
    settings.ssl_ca_cert = str(cluster.ca_file)
    settings.proxy = None  # whatever the environment says: the API server is in the cluster
    settings.retries = False

    def show(settings: Configuration) -> None:
        settings.api_key["authorization"] = cluster.headers()["Authorization"]

    settings.api_key["authorization"] = ""  # without one the hook is not asked
    settings.refresh_api_key_hook = show
    return ApiClient(settings)


def ask(
    client: ApiClient,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    content_type: str = "application/json",
) -> tuple[int, bytes]:
    """Status and content of an answer.

    Raises:
        Unreachable: `relay.unreachable`, `relay.too_long`, `relay.account`: there is no token.
    """
    host = client.configuration.host
    headers = {"Accept": "application/json", "Content-Type": content_type}
    client.update_params_for_auth(headers, [], ["BearerToken"])
    try:
        # Not by `call_api`, which decodes the content of every error as text, also where there is none, as of one of TLS.
        answer = client.rest_client.request(
            method,
            host + path,
            headers=headers,
            body=body,
            _preload_content=False,
            _request_timeout=TIMEOUT_S,
        )
        data = answer.read(MAX_ANSWER + 1)
    except ApiException as error:
        if not error.status:  # TLS
            raise Unreachable("relay.unreachable", f"{host} cannot be trusted, or speaks no TLS") from error
        return error.status, b""
    except urllib3.exceptions.HTTPError as error:
        raise Unreachable("relay.unreachable", f"{host} does not answer ({type(error).__name__})") from error
    finally:
        client.rest_client.pool_manager.clear()
    if len(data) > MAX_ANSWER:
        raise Unreachable("relay.too_long", f"the answer of {host} is longer than {MAX_ANSWER} bytes")
    return int(answer.status), bytes(data)


def parsed(data: bytes) -> dict[str, Any] | None:
    """The object that an answer is; None for anything else."""
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
