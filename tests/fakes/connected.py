"""A gateway for `rlu connect` to connect to: sessions, answers in every API's form, and genuine receipts over the bytes it sends.

What stands between it and the client is in the hooks, each of which is one attack: `on_wire` changes content after the receipt's
commitments were made, `on_receipt` what is answered for a receipt, `on_nonce` which nonce is signed, `receipt_header` what the answer
announces. `gate` holds every receipt back until it is set.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fakes.deployment import content
from fakes.server import API_KEY, Answer, FakeServer, Seen, _json, _logged
from rlu_attestation.commitment import Tag, key_digest
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.merkle import leaf_hash
from scripted import load_book
from scripted.application import Application

MODEL = "demo"
TURNS: dict[str, Any] = {
    "model": MODEL,
    "default": {"turns": [{"text": "hello yourself, whoever you are"}]},
    "scripts": {
        "tool": {
            "turns": [
                {
                    "reasoning": "I have to look.",
                    "text": "Let me look.",
                    "calls": [
                        {"name": "look", "arguments": {"at": "it"}},
                        {"name": "look", "arguments": {"at": "that"}},
                    ],
                }
            ]
        },
        "error": {"events": 3, "fault": {"kind": "error_event", "after": 2}},
        "refuses": {"fault": {"kind": "status", "status": 500}},
    },
}


@dataclass
class OpenedSession:
    id: str
    statement: bytes
    key: bytes
    made: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Changes to the receipt of each exchange that began."""
    logged: dict[int, bytes] = field(default_factory=dict)
    closed: bool = False


class ConnectedServer(FakeServer):
    """`receipts` are changes to the fields of every receipt; `sessions` what was opened, in order."""

    def __init__(self, directory: Path, book: dict[str, Any] | None = None, **deployment: Any) -> None:
        self.application = Application(load_book(book or TURNS))
        self.sessions: dict[str, OpenedSession] = {}
        self.receipts: dict[str, Any] = {}
        self.session_claims: dict[str, Any] = {}
        self.on_wire: Callable[[bytes], bytes] = lambda data: data
        self.on_nonce: Callable[[bytes], bytes] = lambda nonce: nonce
        self.on_session_nonce: Callable[[bytes], bytes] = lambda nonce: nonce
        self.on_receipt: Callable[[OpenedSession, int], Answer | None] = lambda session, number: None
        self.receipt_header: Callable[[OpenedSession, int], str | None] = _announce
        self.gate = threading.Event()
        self.gate.set()
        self.turn = threading.RLock()
        super().__init__(directory, **deployment)

    @property
    def prompts(self) -> list[Seen]:
        """The requests that carried content."""
        return [seen for seen in self.seen if seen.method == "POST" and not seen.path.startswith("/v1/rlu/")]

    def clock(self) -> float:
        """For the client, so that both live in the same time."""
        return float(self.deployment.at)

    def respond(self, seen: Seen) -> Answer:
        if seen.method == "GET" and seen.path.startswith("/v1/rlu/receipts/"):
            self.gate.wait(60)
        with self.turn:
            return self._respond(seen)

    def _respond(self, seen: Seen) -> Answer:
        path = urlsplit(seen.path).path
        if path in self.answers:
            return super().respond(seen)
        if path == "/v1/rlu/attestation":
            return self.attest(seen)
        if seen.headers.get("authorization") != f"Bearer {API_KEY}":
            error = {"error": {"code": "key_invalid", "message": "The API key is not valid here."}}
            return _json(401, error)
        if (seen.method, path) == ("POST", "/v1/rlu/sessions"):
            return self.open_session(seen)
        if (seen.method, path) == ("GET", "/v1/models"):
            return self._scripted(seen)
        found = re.fullmatch(r"/v1/rlu/(sessions|receipts)/([A-Za-z0-9_-]{22})(?:/([0-9]+))?", path)
        if found is not None:
            session = self.sessions[found[2]]
            if found[1] == "receipts":
                return self.receipt_of(session, int(found[3]))
            return self.close_session(session)
        return self.exchange(seen, path)

    def attest(self, seen: Seen) -> Answer:
        nonce = unb64u(parse_qs(urlsplit(seen.path).query)["nonce"][0])
        return self.attestation(
            Seen(seen.method, f"/v1/rlu/attestation?nonce={b64u(self.on_nonce(nonce))}", {}, b"")
        )

    def open_session(self, seen: Seen) -> Answer:
        nonce = self.on_session_nonce(unb64u(json.loads(seen.content)["nonce"]))
        name = hashlib.sha256(b"session %d" % len(self.sessions)).digest()
        session, key = b64u(name[:16]), hashlib.sha256(name).digest()
        fields = {
            "session": session,
            "nonce": nonce,
            "commitment_key": key_digest(key),
            **self.session_claims,
        }
        statement = self.deployment.session_statement(**fields).encode()
        self.sessions[session] = OpenedSession(session, statement, key)
        logged = self.deployment.logged(self.deployment.append(statement))
        return _json(201, {"session": session, "commitment_key": b64u(key), "expires": 1, **_logged(logged)})

    def exchange(self, seen: Seen, path: str) -> Answer:
        session = self.sessions.get(seen.headers.get("rlu-session", ""))
        if session is None or session.closed:
            return _json(410, {"error": {"code": "session_closed", "message": "The session is closed."}})
        number = len(session.made) + 1
        status, headers, sent = self._answered(seen)
        failed = status != 200 or b'"error":' in sent
        contents = {
            name: content(tag, data, number, session.id, session.key)
            for name, tag, data in (
                ("request", Tag.REQUEST, seen.content),
                ("forwarded", Tag.FORWARDED, seen.content),
                ("response", Tag.RESPONSE, sent),
            )
        }
        session.made[number] = {
            **contents,
            "session": session.id,
            "route": path,
            "http_status": status,
            "status": "failed" if failed else "complete",
            "reason": "engine_error" if failed else None,
            **self.receipts,
        }
        where = self.receipt_header(session, number)
        if where is not None:
            headers["RLU-Receipt"] = where
        headers["RLU-Session"] = session.id
        return Answer(status, _chunked(self.on_wire(sent)), headers | {"Transfer-Encoding": "chunked"})

    def _scripted(self, seen: Seen) -> Answer:
        status, headers, sent = self._answered(seen)
        return Answer(status, sent, headers)

    def _answered(self, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        reply = self.application.reply(seen.method, urlsplit(seen.path).path, seen.content)
        response = HTTPResponse(_Readable(reply.head + b"".join(reply.writes)))  # type: ignore[arg-type]
        response.begin()
        return response.status, {"Content-Type": response.headers["content-type"]}, response.read()

    def receipt_of(self, session: OpenedSession, number: int) -> Answer:
        special = self.on_receipt(session, number)
        if special is not None:
            return special
        return _json(200, _logged(self.deployment.logged(self.log(session, number))))

    def log(self, session: OpenedSession, number: int) -> int:
        """The index of the receipt in the log, into which it is put now unless it is there."""
        if number not in session.logged:
            changes = session.made[number]
            made = self.deployment.receipt_statement(leaf_hash(session.statement), number, **changes)
            session.logged[number] = made.encode()
            return self.deployment.append(session.logged[number])
        return self.deployment.leaves.index(session.logged[number])

    def close_session(self, session: OpenedSession) -> Answer:
        session.closed = True
        for number in session.made:
            self.log(session, number)
        in_order = sorted(session.logged.values(), key=self.deployment.leaves.index)
        close = self.deployment.close_statement(session.statement, in_order, session=session.id).encode()
        return _json(200, _logged(self.deployment.logged(self.deployment.append(close))))


class _Readable(io.BytesIO):
    def makefile(self, *_: object) -> io.BytesIO:
        return self


def _announce(session: OpenedSession, number: int) -> str:
    return f"/v1/rlu/receipts/{session.id}/{number}"


def _chunked(data: bytes, size: int = 61) -> bytes:
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
