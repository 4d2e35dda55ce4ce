"""A vendor of models: makes and signs them, and a web server that gives them out, part by part, as well or as badly as it is told."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from fakes.issuer import Authority
from fakes.safetensors_files import safetensors
from rlu_server.models import measure, release, signing
from rlu_server.models.release import RELEASE

KEY = ec.generate_private_key(ec.SECP256R1())


def public(directory: Path, key: ec.EllipticCurvePrivateKey = KEY) -> Path:
    """The vendor's public key, in a file."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path = directory / "vendor.pub"
    path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return path


def make(
    directory: Path,
    number: int | None,
    weights: bytes = b"weights",
    key: ec.EllipticCurvePrivateKey = KEY,
    **more: bytes,
) -> Path:
    """A signed model. The keywords are further files, `__` for `/` and `_dot_` for `.`."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text('{"model_type": "qwen3"}')
    (directory / "model.safetensors").write_bytes(safetensors({"a": ("U8", [len(weights)], weights)}))
    for name, content in more.items():
        place = directory / name.replace("__", "/").replace("_dot_", ".")
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
    if number is not None:
        (directory / RELEASE).write_bytes(release.encode(number))
    sign(directory, key)
    return directory


def sign(directory: Path, key: ec.EllipticCurvePrivateKey = KEY) -> None:
    (directory / "model.sig").write_bytes(signing.sign(measure(directory), "m", key))


@dataclass
class Behaviour:
    """How the next requests are answered."""

    cut_after: int | None = None
    """Bytes of a file's content, after which the connection is closed, once for each request until `cuts` are used up."""
    cuts: int = 0
    ranges: bool = True
    status: int | None = None
    redirect: str = ""
    """Files are at this address instead."""
    token: str = ""
    """Only who shows it is answered."""
    length: bool = True
    """Whether HEAD says how large a file is."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]


class ModelServer:
    """Serves a directory, over TLS if `tls` names one for its certificates."""

    def __init__(self, root: Path, tls: Path | None = None, host: str = "127.0.0.1") -> None:
        self.root = root
        self.behaviour = Behaviour()
        self.asked: list[Asked] = []
        self.on_answer: Callable[[str], None] | None = None
        """Told the path of each request, after it was noted and before it is answered."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self, content=True)

            def do_HEAD(self) -> None:
                outer.answer(self, content=False)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = False
        self.port = self._server.server_address[1]
        self.ca_file: Path | None = None
        if tls is not None:
            authority = Authority("Mirror's CA")
            self.ca_file = tls / "mirror-ca.pem"
            self.ca_file.write_bytes(authority.pem)
            names = [x509.DNSName("localhost"), x509.IPAddress(ip_address(host))]
            _, chain = authority.issue(*names, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
            (tls / "mirror.pem").write_bytes(chain)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls / "mirror.pem")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"{host}:{self.port}"
        self.url = f"{'http' if tls is None else 'https'}://{self.host}"

    def answer(self, request: Any, *, content: bool) -> None:
        behaviour = self.behaviour
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(request.command, request.path, headers))
        if self.on_answer is not None:
            self.on_answer(request.path)
        request.close_connection = True
        place = self.root / unquote(request.path).lstrip("/")
        if behaviour.token and headers.get("authorization") != f"Bearer {behaviour.token}":
            say(request, 401, {})
        elif behaviour.status is not None:
            say(request, behaviour.status, dict(behaviour.headers))
        elif behaviour.redirect:
            say(request, 302, {"Location": behaviour.redirect + request.path})
        elif not place.is_file():
            say(request, 404, {})
        else:
            self._give(request, place.read_bytes(), headers.get("range", ""), content=content)

    def _give(self, request: Any, data: bytes, asked: str, *, content: bool) -> None:
        behaviour = self.behaviour
        found = re.fullmatch(r"bytes=(\d+)-", asked)
        start = int(found[1]) if found and behaviour.ranges else 0
        more = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        part = data[start:]
        if not content and not behaviour.length:
            more["Content-Length"] = ""
        say(request, 206 if start else 200, {**more, **behaviour.headers}, len(part))
        if not content:
            return
        if behaviour.cuts and behaviour.cut_after is not None and len(part) > behaviour.cut_after:
            behaviour.cuts -= 1
            part = part[: behaviour.cut_after]
        request.wfile.write(part)

    def paths(self, method: str = "GET") -> list[str]:
        return [one.path for one in self.asked if one.method == method]


Server = TypeVar("Server", bound=ModelServer)


@contextlib.contextmanager
def serving(
    root: Path, tls: Path | None = None, kind: Callable[..., Server] = ModelServer, **more: str
) -> Iterator[Server]:
    server = kind(root, **more) if tls is None else kind(root, tls, **more)
    thread = threading.Thread(target=server._server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server._server.shutdown()
        thread.join(60)
        server._server.server_close()


def say(request: Any, status: int, headers: dict[str, str], length: int = 0) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(length), **headers, "Connection": "close"}.items():
        request.send_header(name, value)
    request.end_headers()
