"""A server with the routes that `rlu verify` asks, answering from a `Deployment`, over real TLS on loopback.

`answers` replaces the answer to a route by its path, to see what a client does with it; `seen` holds what was asked.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fakes.deployment import KEY, RESPONSE, SESSION, Deployment, content
from fakes.pki import AT, YEAR, common_name
from rlu_attestation.bundle import Logged
from rlu_attestation.channel import Channel
from rlu_attestation.commitment import Tag
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.merkle import leaf_hash

API_KEY = "rlu_test_key"


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    content: bytes


@dataclass
class Answer:
    status: int
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """What `Content-Length` says, where that is not the truth."""


def make_certificate(directory: Path, label: str = "gateway") -> tuple[Path, bytes]:
    """A self-signed certificate for localhost, with its key; returns the PEM file and the SPKI digest."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = common_name(label)
    addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(AT - YEAR)
        .not_valid_after(AT + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .sign(key, SHA256())
    )
    path = directory / f"{label}.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return path, hashlib.sha256(spki).digest()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.context is not None:
            # The handshake is made when the handler first reads, in the thread of that connection.
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address


class FakeServer:
    """Starts serving when entered; `url` is its root."""

    def __init__(self, directory: Path, *, plaintext: bool = False, **deployment: Any) -> None:
        self.certificate, spki = make_certificate(directory)
        claims = deployment.pop("claims", {})
        tls = Channel("plaintext", None) if plaintext else Channel("gateway-memory", spki)
        self.deployment = Deployment(claims={"tls": tls, **claims}, **deployment)
        self.answers: dict[str, Answer | Callable[[Seen], Answer]] = {}
        self.seen: list[Seen] = []
        self.keep_alive = True
        self._http = _Http(("127.0.0.1", 0), self._handler())
        self.plaintext = plaintext
        if not plaintext:
            self.present(self.certificate)

    def present(self, certificate: Path) -> None:
        """Use a certificate for connections from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._http.context = context

    def __enter__(self) -> FakeServer:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        scheme = "http" if self.plaintext else "https"
        return f"{scheme}://localhost:{self._http.server_port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle(self) -> None:
                try:
                    super().handle()
                except (OSError, ValueError):
                    self.close_connection = True

            def answer(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.command, self.path, headers, self.rfile.read(size))
                server.seen.append(seen)
                found = server.respond(seen)
                self.send_response(found.status)
                for name, value in found.headers.items():
                    self.send_header(name, value)
                if "Transfer-Encoding" not in found.headers:
                    length = len(found.content) if found.length is None else found.length
                    self.send_header("Content-Length", str(length))
                if not server.keep_alive or found.length is not None:
                    self.send_header("Connection", "close")
                    self.close_connection = True
                self.end_headers()
                self.wfile.write(found.content)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        return Handler

    # --- routes -----------------------------------------------------------------------------------------------------

    def respond(self, seen: Seen) -> Answer:
        path = urlsplit(seen.path).path
        special = self.answers.get(path)
        if special is not None:
            return special if isinstance(special, Answer) else special(seen)
        if path == "/v1/rlu/attestation":
            return self.attestation(seen)
        if seen.headers.get("authorization") != f"Bearer {API_KEY}":
            return _json(401, {"code": "api_key_invalid", "detail": "No such key."})
        routes = {
            ("POST", "/v1/rlu/sessions"): self.open_session,
            ("POST", "/v1/chat/completions"): self.complete,
            ("GET", f"/v1/rlu/receipts/{SESSION}/1"): self.receipt,
            ("DELETE", f"/v1/rlu/sessions/{SESSION}"): self.close,
            ("GET", "/v1/rlu/log/head"): self.head,
        }
        route = routes.get((seen.method, path))
        return _json(404, {"code": "route_not_found"}) if route is None else route(seen)

    def attestation(self, seen: Seen) -> Answer:
        nonce = unb64u(parse_qs(urlsplit(seen.path).query)["nonce"][0])
        statement, evidence = self.deployment.attestation(nonce=nonce)
        items = [{"data": b64u(item.data), "kind": item.kind} for item in evidence]
        value = {"rlu_bundle": "1", "attestation": {"statement": statement, "evidence": items}}
        return _json(200, value | {"nonce": b64u(nonce)})

    def open_session(self, seen: Seen) -> Answer:
        nonce = unb64u(json.loads(seen.content)["nonce"])
        self.statement = self.deployment.session_statement(nonce=nonce).encode()
        logged = self.deployment.logged(self.deployment.append(self.statement))
        value = {"session": SESSION, "commitment_key": b64u(KEY), "expires": 1, **_logged(logged)}
        return _json(201, value)

    def complete(self, seen: Seen) -> Answer:
        self.receipt_statement = self.deployment.receipt_statement(
            leaf_hash(self.statement),
            1,
            request=content(Tag.REQUEST, seen.content, 1),
            forwarded=content(Tag.FORWARDED, seen.content, 1),
            response=content(Tag.RESPONSE, RESPONSE, 1),
        ).encode()
        chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (RESPONSE[:7], RESPONSE[7:]))
        headers = {"RLU-Receipt": f"/v1/rlu/receipts/{SESSION}/1", "Transfer-Encoding": "chunked"}
        return Answer(200, chunked + b"0\r\n\r\n", headers)

    def receipt(self, seen: Seen) -> Answer:
        index = self.deployment.append(self.receipt_statement)
        return _json(200, _logged(self.deployment.logged(index)))

    def close(self, seen: Seen) -> Answer:
        receipts = [self.receipt_statement] if hasattr(self, "receipt_statement") else []
        close = self.deployment.close_statement(self.statement, receipts).encode()
        return _json(200, _logged(self.deployment.logged(self.deployment.append(close))))

    def head(self, seen: Seen) -> Answer:
        return _json(200, {"head": b64u(self.deployment.head()), "tree_size": self.deployment.tree.size})


def _logged(logged: Logged) -> dict[str, str]:
    return {"statement": b64u(logged.statement), "receipt": b64u(logged.receipt)}


def _json(status: int, value: Any) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})
