"""Answers about kept responses: an exchange like any other, numbered and with a receipt, only that no engine is asked.

A long answer goes out as fast as the client reads; until then it counts as the tenant's request content in memory does, so that nobody
fills the gateway's memory by asking again and again and not reading.

It belongs to the session that the request names, else to the one the response was made in; the route of its receipt is the path with the
id in it, so that the receipt says what was asked for. Refusals have no receipt, as everywhere before admission.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from rlu_server.adapters.client import Connection
from rlu_server.adapters.http1 import Incoming
from rlu_server.adapters.ledger import Entry, Opening
from rlu_server.adapters.recorder import Content, Outcome
from rlu_server.adapters.responses import Found
from rlu_server.attestor.messages import Status
from rlu_server.core import responses
from rlu_server.core.apikeys import Principal
from rlu_server.core.conversation import SESSION_HEADER, Explicit
from rlu_server.core.errors import GatewayError
from rlu_server.core.responses import Operation, Page

if TYPE_CHECKING:
    from rlu_server.adapters.relay import Relay

MAX_CONTENT = 4096
"""None of these requests needs content; what comes is committed to and not looked at."""
SLICE = 256 * 1024
_NOTHING = Content(0, hashlib.sha256().digest())


class Stored:
    """A job of a client connection, and an applicant of the ledger."""

    __slots__ = (
        "_connection",
        "_content",
        "_entry",
        "_held",
        "_id",
        "_incoming",
        "_left",
        "_model",
        "_operation",
        "_page",
        "_principal",
        "_received",
        "_relay",
        "_sent",
    )

    def __init__(
        self,
        relay: Relay,
        connection: Connection,
        incoming: Incoming,
        principal: Principal,
        operation: Operation,
        response_id: str,
    ) -> None:
        self._relay = relay
        self._connection = connection
        self._incoming = incoming
        self._principal = principal
        self._operation = operation
        self._id = response_id
        self._page = Page()
        self._content = b""
        self._model = ""
        self._received = _NOTHING
        self._left = False
        self._entry: Entry | None = None
        self._held = 0
        self._sent = 0

    @property
    def session_id(self) -> str | None:
        """The session it was admitted to."""
        return self._entry.session_id if self._entry is not None else None

    # --- the client's side ---

    def content_arrived(self) -> None:
        if self._incoming.size > MAX_CONTENT:
            self._left = True
            self._connection.refuse(GatewayError("body_too_large"))

    def complete(self) -> None:
        if self._left:
            return
        raw = self._incoming.content()
        self._received = Content(len(raw), hashlib.sha256(raw).digest())
        try:
            if self._operation is Operation.INPUT_ITEMS:
                self._page = responses.page(self._incoming.query)
            elif self._operation is Operation.RETRIEVE:
                responses.check_retrieval(self._incoming.query)
        except GatewayError as error:
            self._connection.refuse(error)
            return
        items = self._operation is Operation.INPUT_ITEMS
        self._relay.responses.find(self._principal, self._id, items, self._found)

    def client_gone(self) -> None:
        self._left = True
        if self._entry is not None:
            self._record(self._entry, "aborted", 200, "client_disconnected")

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        if self._entry is not None:
            self._send(self._entry)

    # --- the store's side ---

    def _found(self, found: Found | GatewayError) -> None:
        if self._left:
            return
        try:
            if isinstance(found, GatewayError):
                raise found
            self._content = self._answer(found)
            self._relay.hold(self._principal.tenant_pseudonym, len(self._content))
            self._held = len(self._content)
            self._model = found.model
            named = self._incoming.headers.get(SESSION_HEADER)
            where = Explicit(found.session if named is None else named.decode("latin-1"))
            opening = Opening(self._received.size, self._received.digest)
            self._relay.ledger.admit(self._principal, where, opening, self)
        except GatewayError as error:
            self._let_go()
            self._connection.refuse(error)

    def _answer(self, found: Found) -> bytes:
        if self._operation is Operation.CANCEL:
            raise GatewayError("cancel_unsupported")
        if self._operation is Operation.INPUT_ITEMS:
            return responses.listing(found.items, self._id, self._page)
        if self._operation is Operation.DELETE:
            return responses.deleted(self._id)
        return found.response

    # --- the ledger's side ---

    def accepted(self) -> None:
        pass

    def admitted(self, entry: Entry) -> None:
        if self._left:
            self._record(entry, "aborted", 0, "client_disconnected")
            return
        self._entry = entry
        self._relay.exchanges.add(self)
        if self._operation is Operation.DELETE:
            self._relay.responses.delete(self._principal, self._id)
        session = entry.session_id.encode("ascii")
        lines = [
            b"RLU-Session: %b\r\nRLU-Receipt: /v1/rlu/receipts/%b/%d\r\n"
            % (session, session, entry.announced),
            b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(self._content),
        ]
        self._relay.answered(self._incoming.path, 200, self._connection.request_id)
        first = self._content[:SLICE]
        self._sent = len(first)
        self._connection.start(200, lines, first, ended=False)
        self._send(entry)

    def refused(self, error: GatewayError) -> None:
        self._let_go()
        if not self._left:
            self._connection.refuse(error)

    # --- time ---

    def tick(self, now: float) -> None:
        pass  # who does not read is the connection's concern

    def stop(self, error: GatewayError) -> None:
        """End it from our side, so that nobody takes the rest for complete."""
        if self._entry is not None:
            self._connection.abort()
            self._record(self._entry, "partial", 200, error.code)

    # --- inside ---

    def _send(self, entry: Entry) -> None:
        """Send on, until the client has to read first."""
        while self._sent < len(self._content) and self._connection.paused_since is None:
            piece = self._content[self._sent : self._sent + SLICE]
            self._sent += len(piece)
            self._connection.write(piece)
        if self._sent == len(self._content):
            self._connection.finish()
            self._record(entry, "complete", 200, None)

    def _record(self, entry: Entry, status: Status, http_status: int, reason: str | None) -> None:
        self._entry = None
        self._relay.exchanges.discard(self)
        sent = self._content[: self._sent]
        self._let_go()
        outcome = Outcome(
            route=self._incoming.path.decode("ascii"),
            model=self._model,
            status=status,
            http_status=http_status,
            request=self._received,
            forwarded=None,
            rewritten=(),
            response=Content(len(sent), hashlib.sha256(sent).digest()),
            usage=None,
            reason=reason,
        )
        self._relay.ledger.record(entry, outcome)

    def _let_go(self) -> None:
        self._content = b""
        if self._held:
            self._relay.let_go(self._principal.tenant_pseudonym, self._held)
            self._held = 0
