"""A vendor: his key and licences; his web server, over TLS, that keeps every byte it was sent; and a proxy that lets one host through."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fakes.issuer import Authority
from rlu_attestation import policy_signature
from rlu_attestation.policy_signature import PrivateKey
from rlu_server.licence.document import Licence

AT = 1_800_000_000
DAY = 86400


class Vendor:
    """A key, and what is signed with it."""

    def __init__(self, alg: str = "Ed25519") -> None:
        self.private, self.public = policy_signature.generate(alg)
        self.key: PrivateKey = policy_signature.load_private_key(self.private)

    def licence(self, **changes: Any) -> Licence:
        fields: dict[str, Any] = {
            "id": "A-17",
            "vendor": "Example",
            "organisation": "ACME",
            "features": ("audit", "responses"),
            "nodes": 2,
            "issued_at": AT,
            "not_before": AT,
            "expires_at": AT + 90 * DAY,
            "grace_s": 14 * DAY,
        }
        return Licence(**(fields | changes))

    def install(self, directory: Path, **changes: Any) -> Path:
        """A licence and the key below a directory; gives the licence's path."""
        (directory / "vendor.pub.pem").write_bytes(self.public)
        file = directory / "licence.jws"
        new = directory / "licence.new"
        new.write_text(self.licence(**changes).sign(self.key) + "\n")
        new.replace(file)
        return file


class Listener:
    """Accepts connections until it is left; one thread each."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_server((host, 0))
        self._threads = [threading.Thread(target=self._accept)]
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> Any:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(60)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(60)
            thread = threading.Thread(target=self._guarded, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _guarded(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.serve(connection)

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError


class WebServer(Listener):
    """Answers every POST with what `answer` makes of its content; `requests` has them as they came, byte by byte."""

    def __init__(
        self, directory: Path, answer: Callable[[bytes], bytes] = lambda _: b"", host: str = "127.0.0.1"
    ) -> None:
        super().__init__(host)
        authority = Authority("Vendor's CA")
        self.ca_file = directory / "vendor-ca.pem"
        self.ca_file.write_bytes(authority.pem)
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address(host))]
        _, chain = authority.issue(*names, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
        (directory / "vendor-server.pem").write_bytes(chain)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(directory / "vendor-server.pem")
        self.answer = answer
        self.status = b"200 OK"
        self.requests: list[bytes] = []
        self.url = f"https://{host}:{self.port}/v1"

    @property
    def contents(self) -> list[bytes]:
        return [request.partition(b"\r\n\r\n")[2] for request in self.requests]

    def serve(self, connection: socket.socket) -> None:
        with self._tls.wrap_socket(connection, server_side=True) as stream:
            request = b""
            while not _complete(request):
                part = stream.recv(65536)
                if not part:
                    return
                request += part
            self.requests.append(request)
            content = self.answer(request.partition(b"\r\n\r\n")[2])
            stream.sendall(
                b"HTTP/1.1 "
                + self.status
                + b"\r\nContent-Length: "
                + str(len(content)).encode()
                + b"\r\n\r\n"
                + content
            )


class Proxy(Listener):
    """An HTTP proxy with an allow list: tunnels to `allowed`, refuses all else; `asked` has every host it was asked for."""

    def __init__(self, allowed: str) -> None:
        super().__init__()
        self.allowed = allowed
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        method, host, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.asked.append(f"{method} {host}")
        if method != "CONNECT" or host != self.allowed:
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        name, _, port = host.rpartition(":")
        with socket.create_connection((name, int(port)), timeout=60) as far:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(far, connection))
            back.start()
            _pump(connection, far)
            back.join(60)


def _complete(request: bytes) -> bool:
    head, separator, content = request.partition(b"\r\n\r\n")
    lengths = [
        line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    ]
    return bool(separator) and len(content) >= int(lengths[0])


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
