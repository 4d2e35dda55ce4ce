"""Clients of two tenants while things break, and their own journal of what they sent and got.

A client opens a session, asks in it, sometimes leaves early, sometimes asks without a session, closes it, opens another. What it will do
comes from a seed; when it gets to it depends on the deployment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httptools

from fakes.rig import Response, ResponseReader
from faults.deployment import TENANTS, Faulted
from rlu_attestation.encoding import b64u

NONCE = bytes(range(32))
BOUND_S = 75.0
"""No call takes longer, whatever is broken: the longest silence that is allowed, and the longest stall, on a busy machine."""
GOOD = ("short", "short", "short", "long", "burst", "late", "split")
BAD = ("stall", "close", "error_event", "garbage_head", "reset", "status")
LEAVES = ("headers", "upload", "waiting", "stream")
ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
PAUSE_S = 0.05
LATER_S = 0.1


@dataclass(slots=True)
class Call:
    """One request as its client saw it.

    Attributes:
        asked: session that it named, if any.
        logged: bytes of each log that were on the disk when the first byte of the answer was there.
        began: seconds since the epoch.
        outcome: `whole` (an answer that ended as HTTP answers end), `cut`, `left` (the client did), `none` (no head), `hung`.
    """

    tenant: str
    marker: str
    script: str
    request: bytes
    asked: str | None
    streamed: bool = False
    outcome: str = "none"
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    logged: Mapping[int, int] = field(default_factory=dict)
    began: float = 0.0
    seconds: float = 0.0

    @property
    def receipt(self) -> tuple[str, int] | None:
        """Session and number of its exchange, if the answer named one."""
        where = self.headers.get("rlu-receipt")
        if where is None:
            return None
        _, session, seq = where.rsplit("/", 2)
        return session, int(seq)


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was opened for a client."""

    tenant: str
    session: str
    statement: str
    receipt: str
    logged: Mapping[int, int]


class Traffic:
    """All clients.

    Attributes:
        calls: every request of theirs; `opened`: every session; `closed`: those whose signed close they got.
        bad: whether the engine is asked to misbehave all the time.
    """

    def __init__(self, deployment: Faulted, seed: int) -> None:
        self._deployment = deployment
        self._dice = random.Random(f"rlu-traffic-{seed}")
        self._number = 0
        self._trust: tuple[bytes, ssl.SSLContext] | None = None
        self.calls: list[Call] = []
        self.opened: list[Opened] = []
        self.closed: list[str] = []
        self.bad = False
        self.ended = asyncio.Event()

    async def client(self, tenant: str) -> None:
        """One client, until `ended`."""
        dice = random.Random(self._dice.random())
        session: str | None = None
        while not self.ended.is_set():
            if session is None and dice.random() < 0.8:
                opened = await self.open(tenant)
                session = None if opened is None else opened.session
            script = dice.choice(BAD if self.bad or dice.random() < 0.15 else GOOD)
            leave = dice.choice(LEAVES) if dice.random() < 0.2 else None
            named = session if dice.random() < 0.85 else None
            call = await self.ask(tenant, script, named, dice.choice(ROUTES), dice.random() < 0.6, leave)
            if call.status in (404, 409, 410) or call.outcome == "none":
                session = None
            elif session is not None and dice.random() < 0.1:
                await self.close(tenant, session)
                session = None
            await asyncio.sleep(dice.uniform(0, 2 * PAUSE_S))

    async def ask(
        self,
        tenant: str,
        script: str = "short",
        session: str | None = None,
        route: str = ROUTES[0],
        streamed: bool = True,
        leave: str | None = None,
    ) -> Call:
        """One request to the model, noted."""
        self._number += 1
        marker = f"mk-{tenant}-{self._number:08d}-{self._dice.getrandbits(32):08x}"
        body = _body(route, f"{script} {marker}", streamed)
        call = Call(tenant, marker, script, json.dumps(body).encode(), session, streamed)
        self.calls.append(call)
        headers = {} if session is None else {"RLU-Session": session}
        await self._call(call, "POST", route, headers, leave)
        return call

    async def open(self, tenant: str) -> Opened | None:
        """A session, or None if it was refused."""
        call = Call(tenant, "", "", json.dumps({"nonce": b64u(NONCE)}).encode(), None)
        await self._call(call, "POST", "/v1/rlu/sessions", {}, None)
        self._note_own(call)
        if call.status != 201 or call.outcome != "whole":
            return None
        made = json.loads(call.content)
        opened = Opened(tenant, made["session"], made["statement"], made["receipt"], call.logged)
        self.opened.append(opened)
        return opened

    async def close(self, tenant: str, session: str) -> None:
        call = Call(tenant, "", "", b"", None)
        await self._call(call, "DELETE", f"/v1/rlu/sessions/{session}", {}, None)
        self._note_own(call)
        if call.status == 200 and call.outcome == "whole":
            self.closed.append(session)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection, encrypted. Raises OSError."""
        return await asyncio.open_connection(
            "127.0.0.1", self._deployment.port, ssl=self._context(), server_hostname="localhost"
        )

    def head(self, tenant: str, method: str, path: str, length: int, headers: Mapping[str, str]) -> bytes:
        lines = {
            "Host": "localhost",
            "Authorization": f"Bearer {self._deployment.api_keys[tenant]}",
            "Content-Type": "application/json",
            "Content-Length": str(length),
            "Connection": "close",
            **headers,
        }
        text = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
        return "\r\n".join([*text, "", ""]).encode()

    # --- one call ---

    async def _call(
        self, call: Call, method: str, path: str, headers: Mapping[str, str], leave: str | None
    ) -> None:
        call.began, began = time.time(), time.monotonic()
        head = self.head(call.tenant, method, path, len(call.request), headers)
        try:
            await asyncio.wait_for(self._exchange(call, head, leave), BOUND_S)
        except asyncio.TimeoutError:
            call.outcome = "hung"
        except (OSError, httptools.HttpParserError):
            # What had come stays in the journal; nothing else is known of it.
            call.outcome = "cut" if call.status else "none"
        finally:
            call.seconds = time.monotonic() - began

    async def _exchange(self, call: Call, head: bytes, leave: str | None) -> None:
        reader, writer = await self.connect()
        try:
            writer.write(head[: len(head) - 3] if leave == "headers" else head)
            if leave not in (None, "stream"):
                writer.write(b"" if leave == "headers" else call.request[: None if leave == "waiting" else 9])
                await writer.drain()
                await asyncio.sleep(LATER_S)
                call.outcome = "left"
                return
            writer.write(call.request)
            with contextlib.suppress(ConnectionError):  # refused without being read; the answer may be there
                await writer.drain()
            await self._read(call, reader, leave == "stream")
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _read(self, call: Call, reader: asyncio.StreamReader, leave: bool) -> None:
        answers = ResponseReader()
        while not answers.done:
            try:
                data = await reader.read(1 << 16)
            except OSError:
                data = b""
            if data and not call.logged:
                call.logged = self._deployment.logged()
            answers.feed(data)
            self._take(call, answers.done[0] if answers.done else answers.current)
            if not data and not answers.done:
                call.outcome = "cut" if call.status else "none"
                return
            if leave and call.content:
                call.outcome = "left"
                return
        call.outcome = "whole"

    def _take(self, call: Call, seen: Response | None) -> None:
        if seen is not None and seen.status:
            call.status, call.headers, call.content = seen.status, seen.headers, seen.content

    def _note_own(self, call: Call) -> None:
        """Of calls to our own routes only those that hang are of interest."""
        if call.outcome == "hung":
            self.calls.append(call)

    def _context(self) -> ssl.SSLContext:
        """Trusts the certificate of the gateway as it runs now. Raises OSError if there is none."""
        pem = self._deployment.certificate.read_bytes()
        if self._trust is None or self._trust[0] != pem:
            self._trust = pem, ssl.create_default_context(cadata=pem.decode())
        return self._trust[1]


def clients(traffic: Traffic, each: int = 2) -> list[asyncio.Task[None]]:
    """Clients of every tenant, at work."""
    return [asyncio.create_task(traffic.client(tenant)) for tenant in TENANTS for _ in range(each)]


def _body(route: str, text: str, streamed: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "m", "stream": streamed}
    if route == "/v1/completions":
        return {**body, "prompt": text}
    if route == "/v1/responses":
        return {**body, "input": text, "store": False}
    return {**body, "messages": [{"role": "user", "content": text}], "max_tokens": 1000}
