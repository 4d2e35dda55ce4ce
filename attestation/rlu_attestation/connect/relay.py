"""One exchange: verify first, send, hold what matters, prove, release.

    talk = relay(guard, request)          a shell runs it: `Begin` once, then `Emit` for each piece of the answer

Whatever goes wrong ends in an error in the shape of the client's API: as an answer of its own while nothing was passed on, as the last
event of the stream afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rlu_attestation.connect import apis
from rlu_attestation.connect.apis import Route, route_of
from rlu_attestation.connect.closing import close_idle, fetch
from rlu_attestation.connect.errors import Misuse, Unproven
from rlu_attestation.connect.guard import Guard
from rlu_attestation.connect.screen import MAX_HELD, Screen, StreamScreen, screen
from rlu_attestation.connect.session import Session
from rlu_attestation.connect.steps import (
    Begin,
    Emit,
    Head,
    Look,
    Moment,
    Read,
    Send,
    Talk,
)
from rlu_attestation.errors import RluError, Unreachable, Untrusted
from rlu_attestation.statements import Receipt

RECEIPT_WAIT_S = 30.0
"""How long a receipt may take after the last byte of its answer."""
MAX_RESPONSE = 256 * 1024 * 1024
"""Of an answer, which is kept until its receipt was held against it."""
ATTEMPTS = 2
GONE = frozenset({"session_not_found", "session_expired", "session_closed"})
PASSED_ON = ("accept", "anthropic-beta", "anthropic-version", "content-encoding", "content-type")
"""Of the client's headers, those the server gets. Others may say more than the client's user wants said."""
CODINGS = frozenset({"identity", "gzip", "deflate", "zstd"})
"""Of requests: passed on as they are, and receipts commit to what was passed on."""
GIVEN_BACK = ("content-type", "retry-after", "rlu-receipt", "rlu-session")


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the client's. `headers` have lower-case names. No receipt covers a query, so none is sent; `query`: was there one?"""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: bool = False


@dataclass(slots=True, eq=False)
class _Exchange:
    guard: Guard
    request: Request
    session: Session | None = None
    receipt: str = ""
    begun: bool = False
    response: bytearray = field(default_factory=bytearray)

    def run(self) -> Talk[None]:
        request = self.request
        route = route_of(request.method, request.path)
        if route is None:
            raise Misuse("connect.route", f"{request.method} {request.path[:128]} is not relayed")
        if request.query and request.path.startswith(apis.KEPT):
            # Left out, it would change what is answered: the first page again and again.
            raise Misuse("connect.query", "no receipt covers a query, so these routes take none here", 400)
        head = yield from self._send(route)
        if head is None:
            return
        if route.api is None:
            yield from self._pass(head)
            return
        assert self.session is not None
        self.receipt = _announced(head, self.session)
        if not self.receipt:
            if head.status < 400:
                raise Unproven("receipt.absent", "the answer names no receipt")
            # A refusal: nothing was asked of the model, so there is nothing to prove.
            yield from self._pass(head)
            return
        self.session.open[self.receipt] = None
        content_type = head.headers.get("content-type", "")
        screened = screen(route.api, head.status, content_type)
        if isinstance(screened, StreamScreen):
            yield self._begin(head)
        yield from self._receive(screened)
        made = yield from self._prove(head, route)
        yield from self._release(head, made, screened)

    def use(self, session: Session | None) -> None:
        """Be one of a session's users, and of no other's."""
        if self.session is not None:
            self.session.users -= 1
        if session is not None:
            session.users += 1
        self.session = session

    def _send(self, route: Route) -> Talk[Head | None]:
        """The head of the answer, asked for in a session that verified; `None` when the answer was passed on already."""
        headers = {name: self.request.headers[name] for name in PASSED_ON if name in self.request.headers}
        for attempt in range(1, ATTEMPTS + 1):
            self.use(None)  # whatever goes wrong now, the guard has taken note of it
            session = yield from self.guard.ready()
            self.use(session)
            yield from close_idle(self.guard)
            sent = headers if route.api is None else {**headers, "rlu-session": session.id}
            try:
                head: Head = yield Send(route.method, route.path, sent, self.request.body)
            except Untrusted as error:
                # The key has changed, and nothing was sent. Perhaps the gateway was restarted: its new key has to be attested.
                self.guard.drop(session)
                if attempt == ATTEMPTS:
                    raise Unproven(error.code, f"nothing was sent: {error.message}") from error
                continue
            coding = head.headers.get("content-encoding", "identity")
            if coding != "identity":
                raise Unproven("response.coding", "the answer is compressed, which was not asked for")
            if head.status not in (404, 410) or "rlu-receipt" in head.headers or route.api is None:
                return head
            yield from self._read_all()
            if apis.code_of(bytes(self.response)) in GONE and attempt < ATTEMPTS:
                self.guard.drop(session, gone=True)
                self.response.clear()
                continue
            yield self._begin(head, len(self.response))
            yield Emit(bytes(self.response))
            break
        return None

    def _receive(self, screened: Screen) -> Talk[None]:
        while True:
            piece = yield from self._read()
            if not piece:
                return
            self.response += piece
            if len(self.response) > MAX_RESPONSE:
                raise Unproven("response.too_large", f"the answer is longer than {MAX_RESPONSE} bytes")
            passed = screened.feed(piece)
            if passed:
                yield Emit(passed)

    def _prove(self, head: Head, route: Route) -> Talk[Receipt]:
        session = self.session
        assert session is not None
        logged = yield from fetch(self.receipt, RECEIPT_WAIT_S)
        moment: Moment = yield Look()
        made = session.prove(logged, self.request.body, bytes(self.response), moment.at)
        session.open.pop(self.receipt, None)
        stated = (("route", made.route, route.path), ("http_status", made.http_status, head.status))
        for name, said, seen in stated:
            if said != seen:
                raise Untrusted(f"receipt.{name}", f"the receipt is about {name} {said}, not {seen}")
        models = [one.name for one in session.signed.claims.models]
        if made.model not in models:
            raise Untrusted(
                "receipt.model", f"the receipt is about model {made.model}, not {' or '.join(models)}"
            )
        return made

    def _release(self, head: Head, made: Receipt, screened: Screen) -> Talk[None]:
        held = screened.held()
        if made.status == "failed" and isinstance(screened, StreamScreen) and screened.error():
            yield Emit(screened.error())
            return
        if made.status != "complete" and not (made.status == "failed" and head.status >= 400):
            why = made.reason or "no reason given"
            raise Unproven("receipt.status", f"the server calls this answer {made.status} ({why})")
        if not self.begun:
            yield self._begin(head, len(held))
        if held:
            yield Emit(held)

    def _pass(self, head: Head) -> Talk[None]:
        yield from self._read_all()
        yield self._begin(head, len(self.response))
        yield Emit(bytes(self.response))

    def _read_all(self) -> Talk[None]:
        while True:
            piece = yield from self._read()
            if not piece:
                return
            self.response += piece
            if len(self.response) > MAX_HELD:
                raise Unproven("response.too_large", f"the answer is longer than {MAX_HELD} bytes")

    def _read(self) -> Talk[bytes]:
        try:
            piece: bytes = yield Read()
        except Unreachable as error:
            raise Unproven(
                "response.cut", f"the answer broke off after {len(self.response)} bytes: {error.message}"
            ) from error
        return piece

    def _begin(self, head: Head, length: int | None = None) -> Begin:
        self.begun = True
        headers = {name: head.headers[name] for name in GIVEN_BACK if name in head.headers}
        if length is not None:
            headers["content-length"] = str(length)
        return Begin(head.status, headers)


def relay(guard: Guard, request: Request) -> Talk[None]:
    """Answer one request of the client's."""
    exchange = _Exchange(guard, request)
    try:
        yield from exchange.run()
    except RluError as error:
        if exchange.session is not None and not isinstance(error, Misuse):
            yield from guard.failed(error, exchange.session)
        if exchange.begun:
            route = route_of(request.method, request.path)
            yield Emit(apis.error_events(route.api if route else None, error, apis.advise(error.code)))
        else:
            yield from refuse(request.path, error)
    finally:
        exchange.use(None)


def refuse(path: str, error: RluError) -> Talk[None]:
    """Answer a request with an error."""
    body = apis.error_body(apis.dialect_of(path), error, apis.advise(error.code))
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    status = 502
    if isinstance(error, Misuse):
        status = error.status
    elif isinstance(error, Unreachable):
        status = 503
    if status == 502 or error.code == "server.refused":
        headers["x-should-retry"] = "false"  # the SDKs obey it; the same request would end in the same way
    yield Begin(status, headers)
    yield Emit(body)


def _announced(head: Head, session: Session) -> str:
    """Where the receipt will be, empty if the answer does not say.

    Raises:
        Untrusted: `receipt.session.id`.
    """
    where = head.headers.get("rlu-receipt", "")
    found = re.fullmatch(r"/v1/rlu/receipts/([A-Za-z0-9_-]{22})/[1-9][0-9]{0,14}", where, re.ASCII)
    if found is None:
        return ""
    if found[1] != session.id:
        raise Untrusted("receipt.session.id", "the answer names a receipt of another session")
    return where
