"""Asking a server for its models: the key goes to whoever shows the right certificate, and answers are bounded."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rlu_attestation.clients.errors import Unusable
from rlu_attestation.clients.served import MAX_ANSWER, models
from rlu_attestation.errors import Malformed, Unreachable
from rlu_server.adapters import tls

LIST = {"data": [{"id": "m", "root": "m"}, {"id": "alias", "root": "m"}, {"id": "other"}]}


@dataclass
class Listing:
    """What the server says, and what it was asked with."""

    status: int = 200
    content: bytes = json.dumps(LIST).encode()
    url: str = ""
    seen: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def listing() -> Listing:
    return Listing()


@pytest.fixture
def certificate(listing: Listing, tmp_path: Path) -> Iterator[Path]:
    """The certificate of the running server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listing.seen.append((self.path, self.headers.get("Authorization")))
            self.send_response(listing.status)
            self.send_header("Content-Length", str(len(listing.content)))
            self.end_headers()
            self.wfile.write(listing.content)

        def log_message(self, *_: object) -> None:
            pass

    made = tls.MemoryTls(("localhost",))
    path = tmp_path / "server.crt"
    path.write_bytes(made.certificate_pem)
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        # Refused handshakes are the point of some tests.
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.socket = made.context.wrap_socket(server.socket, server_side=True)
        listing.url = f"https://localhost:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield path
        finally:
            server.shutdown()
            thread.join()


def test_names_and_what_they_stand_for(listing: Listing, certificate: Path) -> None:
    assert models(listing.url, "key", certificate) == {"m": "m", "alias": "m", "other": "other"}
    assert listing.seen == [("/v1/models", "Bearer key")]


def test_a_server_that_is_not_trusted_sees_no_key(
    listing: Listing, certificate: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes(tls.MemoryTls(("localhost",)).certificate_pem)
    with pytest.raises(Unreachable) as refused:
        models(listing.url, "key", other)
    assert refused.value.code == "clients.unreachable"
    assert "--ca-file" in refused.value.message
    with pytest.raises(Unreachable):  # nor one under another name
        models(listing.url.replace("localhost", "127.0.0.1"), "key", certificate)
    assert listing.seen == []


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (401, Unusable, "clients.key"),
        (403, Unusable, "clients.key"),
        (503, Unreachable, "clients.unreachable"),
        (302, Unreachable, "clients.unreachable"),
    ],
)
def test_refusals(
    listing: Listing, certificate: Path, status: int, error: type[Exception], code: str
) -> None:
    listing.status = status
    with pytest.raises(error) as refused:
        models(listing.url, "key", certificate)
    assert refused.value.code == code  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"data": {}}',
        b'{"data": []}',
        b'{"data": [1]}',
        b'{"data": [{"root": "m"}]}',
        b"[" * 100_000,
        b'{"data": [{"id": "' + b"m" * MAX_ANSWER + b'"}]}',
    ],
    ids=["nothing", "a list", "no list", "empty", "a number", "no name", "deep", "long"],
)
def test_what_is_no_list_of_models(listing: Listing, certificate: Path, content: bytes) -> None:
    listing.content = content
    with pytest.raises(Malformed) as refused:
        models(listing.url, "key", certificate)
    assert refused.value.code == "clients.models"


def test_nobody_there(listing: Listing, tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as refused:
        models("http://127.0.0.1:1", "key", None)
    assert refused.value.code == "clients.unreachable"
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    with pytest.raises(Unusable) as unreadable:
        models("https://127.0.0.1:1", "key", bad)
    assert unreadable.value.code == "clients.ca_file"
