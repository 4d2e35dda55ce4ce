"""What the demo does as a client: a session for a nonce of its own, one streamed request, its receipt; then `rlu verify` from outside."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation import canonical
from rlu_attestation.encoding import b64u, unb64u
from rlu_server.supervisor.errors import ServeError

TIMEOUT_S = 120.0
VERIFIED, WAIVED = 0, 11


class ProofFailed(ServeError):
    """The server runs, but did not do what it promises."""

    exit_code = 10


@dataclass(frozen=True, slots=True)
class Server:
    """Where the gateway is, and how to trust its certificate."""

    host: str
    port: int
    certificate: Path | None
    """None: plain HTTP."""
    api_key: str

    @property
    def url(self) -> str:
        return f"{'http' if self.certificate is None else 'https'}://{self.host}:{self.port}"

    def connect(self) -> http.client.HTTPConnection:
        if self.certificate is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        context = ssl.create_default_context(cafile=str(self.certificate))
        return http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT_S, context=context)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Opened:
    session: str
    nonce: bytes


def open_session(server: Server) -> Opened:
    """Open a session for a fresh nonce, and see that its statement carries it.

    Raises:
        ProofFailed: it was refused, or carries another nonce.
    """
    nonce = secrets.token_bytes(32)
    answer = _json(server, "POST", "/v1/rlu/sessions", {"nonce": b64u(nonce)}, 201)
    statement = canonical.decode(unb64u(answer["statement"]))
    if statement.get("eat_nonce") != b64u(nonce) or statement.get("jti") != answer["session"]:
        raise ProofFailed("the session's statement does not carry our nonce")
    return Opened(answer["session"], nonce)


def ask(server: Server, session: str, model: str, question: str, show: Callable[[str], None]) -> str:
    """One streamed request; `show` gets the answer piece by piece. Returns where the receipt is.

    Raises:
        ProofFailed: no answer, or no receipt named.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "temperature": 0,
        "max_tokens": 256,
    }
    connection = server.connect()
    try:
        headers = {**server.headers, "RLU-Session": session}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise ProofFailed(
                f"the request was answered with {response.status}: {_reason(response.read(4096))}"
            )
        where = response.headers.get("RLU-Receipt") or ""
        for line in response:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:]).get("choices", []):
                    show(choice.get("delta", {}).get("content") or "")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ProofFailed(f"the request failed: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if not where.startswith("/v1/rlu/receipts/"):
        raise ProofFailed("the answer named no receipt")
    return where


def receipt(server: Server, where: str) -> dict[str, object]:
    """The receipt's statement.

    Raises:
        ProofFailed: there is none, or the exchange was not complete.
    """
    answer = _json(server, "GET", where, None, 200)
    statement = canonical.decode(unb64u(answer["statement"]))
    if statement.get("rlu_status") != "complete":
        raise ProofFailed(f"the receipt says {statement.get('rlu_status')!r} instead of complete")
    return statement


def close_session(server: Server, session: str) -> None:
    """End the session; its close is signed."""
    _json(server, "DELETE", f"/v1/rlu/sessions/{session}", None, 200)


def verify(server: Server, policy: Path, api_key: Path, bundle: Path, probe: str) -> int:
    """Run the real verifier, which prints its tree. Returns its exit code."""
    program = "from rlu_attestation.cli import main; main()"
    command = [sys.executable, "-I", "-c", program, "verify", server.url, "--policy", str(policy)]
    command += ["--api-key-file", str(api_key), "--probe", probe, "--save", str(bundle)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


def _json(server: Server, method: str, path: str, body: dict[str, str] | None, wanted: int) -> dict[str, str]:
    connection = server.connect()
    try:
        connection.request(method, path, None if body is None else json.dumps(body), server.headers)
        response = connection.getresponse()
        content = response.read(1 << 20)
        if response.status != wanted:
            raise ProofFailed(f"{method} {path} was answered with {response.status}: {_reason(content)}")
        answer = json.loads(content)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ProofFailed(f"{method} {path} failed: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise ProofFailed(f"{method} {path} was answered with something else than an object")
    return answer


def _reason(content: bytes) -> str:
    try:
        document = json.loads(content)
        error = document.get("error", document)
        return str(error.get("message") or error.get("detail") or error.get("code"))[:300]
    except (ValueError, AttributeError):
        return "no reason given"
