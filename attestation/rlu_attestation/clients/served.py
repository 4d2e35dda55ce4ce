"""Asks a server which models it has: `GET /v1/models`. The key goes to a server whose certificate was checked, and to no other."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from rlu_attestation.clients.errors import Unusable
from rlu_attestation.errors import Malformed, Unreachable

TIMEOUT_S = 20.0
MAX_ANSWER = 1024 * 1024
MAX_MODELS = 1000


def models(url: str, key: str, ca_file: Path | None) -> dict[str, str]:
    """The names that the server lists, each with the model that it stands for.

    Args:
        url: the server's root, as `check_url` takes it.

    Raises:
        Unreachable: `clients.unreachable`.
        Unusable: `clients.key`, `clients.ca_file`.
        Malformed: `clients.models`.
    """
    parts = urlsplit(url)
    connection = _connection(parts.scheme == "https", parts.hostname or "", parts.port, ca_file)
    try:
        connection.request(
            "GET", f"{parts.path.rstrip('/')}/v1/models", headers={"Authorization": f"Bearer {key}"}
        )
        with connection.getresponse() as response:
            status, content = response.status, response.read(MAX_ANSWER + 1)
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(
            "clients.unreachable",
            "the server's certificate is not trusted: give --ca-file, the certificate that the server shows",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(
            "clients.unreachable", f"the server does not answer ({type(error).__name__}); or give --model"
        ) from error
    finally:
        connection.close()
    if status in (401, 403):
        raise Unusable("clients.key", "the server does not take this API key")
    if status != 200:
        raise Unreachable(
            "clients.unreachable", f"the server answers {status} when asked for its models; or give --model"
        )
    return _names(content)


def _connection(tls: bool, host: str, port: int | None, ca_file: Path | None) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise Unusable(
            "clients.ca_file", f"--ca-file {ca_file} cannot be read as certificates in PEM"
        ) from error
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


def _names(content: bytes) -> dict[str, str]:
    try:
        entries = json.loads(content)["data"]
        found = {str(one["id"]): str(one.get("root") or one["id"]) for one in entries[:MAX_MODELS]}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Malformed("clients.models", "the answer to /v1/models is not a list of models") from error
    if not found:
        raise Malformed("clients.models", "the server lists no model")
    return found
