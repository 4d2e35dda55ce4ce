"""The verifier's side of the network: asks a server for what `verify` needs, and trusts nothing that comes back.

TLS here does not ask who signed the server's certificate. What makes the connection trustworthy is that its key is the one in the verified
instance statement, so the client records the key of its first connection, hands its digest to the verifier, and refuses any other key
later. Until the attestation was accepted, nothing secret may be sent; that order is the caller's to keep.

Answers are bounded in size and time; redirects and proxies are not followed.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

from rlu_attestation import answers, jose, x509
from rlu_attestation.bundle import Bundle, Exchange, Logged
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError, Unreachable, Untrusted
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.log.covering import proof_to, unproven

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 120.0
MAX_ANSWER = 4 * 1024 * 1024
PROBE_TOKENS = 32
NOT_THERE = 404


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `content` is as sent, after transfer coding."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes


class Client:
    """A connection to one server.

    Args:
        url: its root, such as `https://localhost:8443`.

    Raises:
        Unreachable: from every method: `server.unreachable`, `server.timeout`, `server.protocol`, `server.refused`.
        Malformed: `server.answer`, `server.url`.
        Untrusted: `channel.changed`: another key than on the first connection.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if (
            parts.scheme not in ("https", "http")
            or not parts.hostname
            or port == 0
            or parts.query
            or parts.username
        ):
            raise UsageError("server.url", "expected the root of a server, such as https://localhost:8443")
        self.plaintext = parts.scheme == "http"
        self.spki_sha256: bytes | None = None
        self._address = (parts.hostname, port or (80 if self.plaintext else 443))
        self._prefix = parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    # --- what a verification asks for -----------------------------------------------------------------------------

    def attestation(self, nonce: bytes) -> Bundle:
        """A bundle with the instance statement for this nonce, its evidence, and the channel as seen."""
        answer = self._expect(200, self._request("GET", f"/v1/rlu/attestation?nonce={b64u(nonce)}"))
        return answers.attested(answer.content, nonce, self.spki_sha256)

    def session(self, bundle: Bundle, nonce: bytes, api_key: str, probe: str | None) -> Bundle:
        """The bundle with a session opened for the nonce, the probe's exchange, the close and the latest head."""
        opened, key, name = self._open(nonce, api_key)
        bundle = replace(bundle, session=opened, commitment_key=key)
        if probe is not None:
            claims = InstanceClaims.parse(jose.jws_parse(bundle.statement).payload)
            exchange = self._probe(api_key, name, claims.model_name, probe)
            bundle = replace(bundle, exchanges=(exchange,))
        close = answers.logged(self._json("DELETE", f"/v1/rlu/sessions/{name}", api_key, 200))
        bundle = self.cosigned(replace(bundle, close=close), api_key)
        with Members(self._json("GET", "/v1/rlu/log/head", api_key, 200), "head") as members:
            head = members.binary("head")
            members.optional(members.count, "tree_size")
        return replace(bundle, head=head)

    def cosigned(self, bundle: Bundle, api_key: str, issuer: str | None = None) -> Bundle:
        """The bundle with the cosignatures that the server has, and what proves that the statements here are under those heads.

        A server without that route has none. Of a session that was opened just now no witness knows yet.

        Args:
            issuer: the instance that the bundle is of, where the server is another by now.
        """
        of = "" if issuer is None else f"issuer={quote(issuer)}"
        found = self._of_log(f"cosignatures?{of}" if of else "cosignatures", api_key)
        given = () if found is None else answers.cosignatures(found)
        proofs = []
        for old_size, head in unproven(bundle, given):
            sizes = f"old_size={old_size}&new_size={head.tree_size}"
            value = self._of_log(f"path?{sizes}{'&' if of else ''}{of}", api_key)
            if value is not None:
                proofs.append(proof_to(head, old_size, answers.path(value)))
        consistency = tuple(dict.fromkeys((*bundle.consistency, *proofs)))
        return replace(bundle, cosignatures=given, consistency=consistency)

    def _of_log(self, path: str, api_key: str) -> object:
        """An answer of the log, None for what it does not have."""
        answer = self._request("GET", f"/v1/rlu/log/{path}", api_key)
        if answer.status == NOT_THERE:
            return None
        value = answers.parse_json(self._expect(200, answer).content, path.partition("?")[0])
        if value is None:
            raise Malformed(answers.CODE, f"the answer to {path.partition('?')[0]} is null")
        return value

    def _open(self, nonce: bytes, api_key: str) -> tuple[Logged, bytes, str]:
        made = answers.opened(self._json("POST", "/v1/rlu/sessions", api_key, 201, {"nonce": b64u(nonce)}))
        return made.logged, made.commitment_key, made.session

    def _probe(self, api_key: str, session: str, model: str, prompt: str) -> Exchange:
        request = json.dumps(
            {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": PROBE_TOKENS}
        ).encode()
        answer = self._request("POST", "/v1/chat/completions", api_key, request, {"RLU-Session": session})
        where = answer.headers.get("RLU-Receipt") or ""
        if not re.fullmatch(rf"/v1/rlu/receipts/{re.escape(session)}/[1-9][0-9]{{0,14}}", where, re.ASCII):
            self._expect(200, answer)
            raise Untrusted("receipt.absent", "the answer names no receipt of this session")
        logged = answers.logged(self._json("GET", where, api_key, 200))
        return Exchange(logged, request, answer.content)

    # --- HTTP -----------------------------------------------------------------------------------------------------

    def _json(
        self, method: str, path: str, api_key: str, status: int, body: dict[str, Any] | None = None
    ) -> object:
        content = None if body is None else json.dumps(body).encode()
        answer = self._expect(status, self._request(method, path, api_key, content))
        return answers.parse_json(answer.content, path)

    def _expect(self, status: int, answer: Answer) -> Answer:
        if answer.status == status:
            return answer
        raise Unreachable(
            "server.refused", f"the server answered {answer.status}{answers.problem(answer.content)}"
        )

    def _request(
        self,
        method: str,
        path: str,
        api_key: str | None = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        sent = {"Accept-Encoding": "identity", "User-Agent": "rlu-verify", **(headers or {})}
        if content is not None:
            sent["Content-Type"] = "application/json"
        if api_key is not None:
            sent["Authorization"] = f"Bearer {api_key}"
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        try:
            connection = self._connected()
            connection.request(method, self._prefix + path, content, sent)
            return _read(connection, deadline)
        except TimeoutError as error:
            self._drop()
            raise Unreachable("server.timeout", f"no answer within {ANSWER_TIMEOUT_S:.0f} s") from error
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            code = "server.unreachable" if isinstance(error, OSError) else "server.protocol"
            raise Unreachable(code, f"{self._address[0]}:{self._address[1]}: {_reason(error)}") from error
        except RluError:
            self._drop()
            raise

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is not None and self._connection.sock is not None:
            return self._connection
        host, port = self._address
        connection = (
            http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
            if self.plaintext
            else http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=_tls())
        )
        connection.connect()
        self._connection = connection
        if isinstance(connection.sock, ssl.SSLSocket):
            self._pin(connection.sock.getpeercert(binary_form=True))
        connection.sock.settimeout(ANSWER_TIMEOUT_S)
        return connection

    def _pin(self, certificate: bytes | None) -> None:
        spki = x509.parse(certificate or b"").spki_sha256
        if self.spki_sha256 is not None and spki != self.spki_sha256:
            raise Untrusted("channel.changed", "the server's TLS key changed between two connections")
        self.spki_sha256 = spki

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class UsageError(RluError):
    """What the caller asked for makes no sense."""

    exit_code = 2


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Trust comes from attestation: the verifier compares the key of this connection with the attested one.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _read(connection: http.client.HTTPConnection, deadline: float) -> Answer:
    response = connection.getresponse()
    content = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(left)
        chunk = response.read1(65536)
        if not chunk:
            break
        content += chunk
        if len(content) > MAX_ANSWER:
            raise Malformed(answers.CODE, f"the answer is longer than {MAX_ANSWER} bytes")
    if response.length:
        raise http.client.IncompleteRead(bytes(content), response.length)
    response.close()
    return Answer(response.status, response.headers, bytes(content))


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host"
    return getattr(error, "strerror", None) or type(error).__name__
