"""A whole gateway in one loop: the real data path between the scripted engine and the fake attestor, on real sockets.

`async with Rig(tmp_path) as rig` gives a ready one. `rig.raw(bytes)` talks raw HTTP; `rig.call(...)` is a small client that keeps the
exact content it received.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httptools

from fakes.attestor import FakeAttestor
from rlu_attestation import cose
from rlu_attestation.commitment import Tag, commit
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.statements import Receipt, SessionStatement
from rlu_server.adapters.events import Events
from rlu_server.core.apikeys import KeyFile, KeyRecord, mint
from rlu_server.gateway.parts import Places
from rlu_server.gateway.process import Gateway
from rlu_server.settings import Settings, load
from scripted import Engine, ScriptBook, load_book, serve

TENANTS = {"alice": "acme", "carol": "acme", "bob": "globex"}


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    content: bytes
    raw: bytes = b""
    complete: bool = True

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def session(self) -> str:
        return self.headers["rlu-session"]

    @property
    def seq(self) -> int:
        return int(self.headers["rlu-receipt"].rsplit("/", 1)[1])


class ResponseReader:
    """Parses responses from a raw stream."""

    def __init__(self, *, head_only: bool = False) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.current: Response | None = None
        self.done: list[Response] = []
        self.chunks: list[bytes] = []
        self.head_only = head_only

    def on_message_begin(self) -> None:
        self.current = Response(0, {}, b"", complete=False)

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self.current is not None
        self.current.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self.current is not None
        self.current.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        assert self.current is not None
        self.chunks.append(data)
        self.current.content += data

    def on_message_complete(self) -> None:
        assert self.current is not None
        self.current.complete = True
        self.done.append(self.current)
        self.current = None

    def feed(self, data: bytes) -> None:
        self.parser.feed_data(data)


class Wire:
    """One raw client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.responses = ResponseReader()
        self.received = b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self, timeout: float = 60.0) -> Response:
        """The next complete response; incomplete when the connection ended first."""
        while not self.responses.done:
            data = await asyncio.wait_for(self.reader.read(65536), timeout)
            self.received += data
            if not data:
                current = self.responses.current
                assert current is not None, "the connection ended without a response"
                self.responses.current = None
                return current
            self.responses.feed(data)
        return self.responses.done.pop(0)

    async def until(self, marker: bytes, timeout: float = 60.0) -> bytes:
        """Everything received so far, once it holds the marker."""
        while marker not in self.received:
            data = await asyncio.wait_for(self.reader.read(65536), timeout)
            assert data, "the connection ended early"
            self.received += data
            self.responses.feed(data)
        return self.received

    async def closed(self, timeout: float = 60.0) -> bool:
        """Does the server end the connection?"""
        try:
            while True:
                data = await asyncio.wait_for(self.reader.read(65536), timeout)
                if not data:
                    return True
                self.received += data
        except ConnectionError:
            return True
        except asyncio.TimeoutError:
            return False

    def abort(self) -> None:
        self.writer.transport.abort()


async def ask_metrics(socket: Path, target: str = "/metrics", method: str = "GET") -> Response:
    """One request to the listener of the metrics."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    wire = Wire(reader, writer)
    await wire.send(f"{method} {target} HTTP/1.1\r\nHost: metrics\r\n\r\n".encode())
    response = await wire.response()
    assert await wire.closed()
    wire.abort()
    return response


@dataclass
class Rig:
    directory: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    book: ScriptBook | dict[str, Any] | None = None
    tls: bool = False
    sections: dict[str, Any] = field(default_factory=dict)
    """Of the settings, beside `[gateway]`."""

    async def __aenter__(self) -> Rig:
        # Socket paths are short on Linux; pytest's directories are not always.
        self.runtime = Path(os.path.relpath(self.directory))
        self.settings = self._settings()
        for name in ("attestor", "gateway", *(place for place, _ in self.settings.fleet())):
            (self.directory / name).mkdir(exist_ok=True)
        self.places = Places.of(self.settings)
        self.keys: dict[str, str] = {}
        self.records: list[KeyRecord] = []
        for name, tenant in TENANTS.items():
            self.add_key(name, tenant)
        self.write_keys()
        book = load_book(self.book) if isinstance(self.book, dict) else self.book or ScriptBook()
        self.engines = {
            served.name: Engine(replace(book, model=served.model), inspect=True)
            for served in self.places.engines
        }
        self.servers: dict[str, asyncio.AbstractServer] = {}
        for name in self.engines:
            await self.start_engine(name)
        self.attestor = FakeAttestor(self.places.attestor_socket)
        await self.attestor.start()
        self.events: list[dict[str, Any]] = []
        self.gateway = self.make_gateway()
        await self.gateway.start()
        await self.ready()
        self.wires: list[Wire] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        for wire in self.wires:
            wire.abort()
        await self.gateway.stop()
        await self.attestor.stop()
        for name in self.engines:
            await self.stop_engine(name)
        # Aborted transports close their sockets in the loop's next turns.
        await asyncio.sleep(0.02)

    def make_gateway(self) -> Gateway:
        events = Events(lambda line: self.events.append(json.loads(line)))
        gateway = Gateway(self.settings, self.places, {"lock": 0}, events)
        for prober in gateway.probers:
            prober._period_s = 0.05
        return gateway

    def _settings(self) -> Settings:
        gateway = {"port": 0, "insecure_plain_http": not self.tls, **self.overrides}
        return load(
            None,
            {},
            {
                "state_dir": str(self.directory),
                "runtime_dir": str(self.directory),
                "gateway": gateway,
                **self.sections,
                "model": {"name": "scripted", **self.sections.get("model", {})},
            },
        )

    def add_key(self, name: str, tenant: str, expires: int | None = None) -> None:
        record, text = mint(os.urandom(8), os.urandom(32), tenant, name, 0, expires)
        self.records.append(record)
        self.keys[name] = text

    def write_keys(self) -> None:
        file = KeyFile(pseudonym_key=b64u(b"p" * 32), keys=self.records)
        temporary = self.places.keys.with_suffix(".new")
        temporary.write_bytes(file.to_json())
        temporary.replace(self.places.keys)

    @property
    def engine(self) -> Engine:
        """The first engine."""
        return self.engines["engine"]

    def _socket(self, name: str) -> Path:
        return next(served.socket for served in self.places.engines if served.name == name)

    async def start_engine(self, name: str = "engine") -> None:
        self.servers[name] = await serve(self.engines[name], uds=self._socket(name))

    async def stop_engine(self, name: str = "engine") -> None:
        """No more connections; those that are there stay."""
        if name in self.servers:
            self.servers.pop(name).close()
        self._socket(name).unlink(missing_ok=True)

    async def kill_engine(self, name: str) -> None:
        """All of it goes away at once, as a process does."""
        await self.stop_engine(name)
        replica = next(one for one in self.gateway.engine.replicas if one.standing.name == name)
        for connection in list(replica.engine._open):
            assert connection._transport is not None
            connection._transport.abort()

    async def ready(self, timeout: float = 60.0) -> None:
        await self.eventually(lambda: not self.gateway.readiness.missing(), timeout)

    async def eventually(self, condition: Any, timeout: float = 60.0) -> None:
        """Wait until a condition holds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not condition():
            assert loop.time() < deadline, "it never came to hold"
            await asyncio.sleep(0.005)

    async def last_look(self) -> None:
        """The probers look once more, and then not again: what happens to the engine from here on goes unnoticed."""
        for prober in self.gateway.probers:
            prober._period_s = 1000.0
            looked, look = asyncio.Event(), prober.look

            async def last(looked: asyncio.Event = looked, look: Any = look) -> None:
                await look()
                looked.set()

            prober.look = last  # type: ignore[method-assign]
            prober._woken.set()
            await looked.wait()
            prober.look = look  # type: ignore[method-assign]

    async def wire(self) -> Wire:
        context = None
        if self.tls:
            context = ssl.create_default_context(cafile=str(self.places.certificate))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.gateway.port, ssl=context, server_hostname="localhost" if self.tls else None
        )
        wire = Wire(reader, writer)
        self.wires.append(wire)
        return wire

    def request(
        self,
        path: str,
        body: bytes | dict[str, Any] | None,
        *,
        who: str | None = "alice",
        method: str = "POST",
        headers: dict[str, str] | None = None,
    ) -> bytes:
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        if who is not None:
            lines.append(f"Authorization: Bearer {self.keys.get(who, who)}")
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content

    async def call(self, path: str, body: bytes | dict[str, Any] | None, **options: Any) -> Response:
        """One request on a connection of its own."""
        wire = await self.wire()
        await wire.send(self.request(path, body, **options))
        response = await wire.response()
        wire.abort()
        return response

    async def raw(self, data: bytes) -> Response:
        """The answer to these very bytes."""
        wire = await self.wire()
        await wire.send(data)
        response = await wire.response()
        wire.abort()
        return response

    async def metrics(self) -> str:
        """What the metrics' own listener answers."""
        return (await ask_metrics(self.places.metrics)).content.decode()

    # --- proofs ---

    async def receipt(self, response: Response, who: str = "alice") -> Receipt:
        """The receipt of a response, fetched as a client does, with its proof verified."""
        fetched = await self.call(response.headers["rlu-receipt"], None, who=who, method="GET")
        assert fetched.status == 200, fetched.content
        return self.signed(fetched.json(), Receipt)

    def signed(self, document: dict[str, Any], kind: Any) -> Any:
        """A statement of an answer, once its COSE Receipt verified under the attestor's key."""
        statement = unb64u(document["statement"])
        receipt = cose.parse_inclusion(unb64u(document["receipt"]))
        receipt.verify(self.attestor.key.public_key(), leaf_hash(statement))
        return kind.parse(statement)

    def session(self, session_id: str) -> Any:
        """The gateway's own record of a session."""
        return next(s for s in self.gateway.ledger.table if s.id == session_id)

    def statement(self, session_id: str) -> SessionStatement:
        return SessionStatement.parse(self.attestor.sessions[session_id].statement)

    def commitment(self, session_id: str, tag: Tag, seq: int, content: bytes) -> bytes:
        """What a verifier computes from the content it has."""
        session = self.session(session_id)
        digest = hashlib.sha256(content).digest()
        return commit(session.commitment_key, tag, session.raw_id, seq, len(content), digest)

    def check_commitments(
        self, receipt: Receipt, request: bytes, forwarded: bytes | None, response: bytes
    ) -> None:
        """The receipt is about exactly these bytes."""
        given = ((Tag.REQUEST, receipt.request, request), (Tag.RESPONSE, receipt.response, response))
        for tag, content, data in given:
            assert content is not None
            assert content.size == len(data)
            assert content.commitment == self.commitment(receipt.session, tag, receipt.seq, data), tag
        if forwarded is None:
            assert receipt.forwarded is None
        else:
            assert receipt.forwarded is not None
            assert receipt.forwarded.size == len(forwarded)
            expected = self.commitment(receipt.session, Tag.FORWARDED, receipt.seq, forwarded)
            assert receipt.forwarded.commitment == expected

    def chat(
        self, text: str = "hello", *, stream: bool = False, script: str | None = None, **more: Any
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": text}], **more}
        if stream:
            body["stream"] = True
        if script is not None:
            body["metadata"] = {"script": script}
        return body
