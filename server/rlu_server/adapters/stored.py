"""Answers about kept responses: an exchange like any other, numbered and with a receipt, only that no engine is asked.

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
_NOTHING = Content(0, hashlib.sha256().digest())


class Stored:
    """A job of a client connection, and an applicant of the ledger."""

    __slots__ = (
        "_connection",
        "_content",
        "_id",
        "_incoming",
        "_left",
        "_model",
        "_operation",
        "_page",
        "_principal",
        "_received",
        "_relay",
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
        self._relay.responses.find(self._principal, self._id, self._found)

    def client_gone(self) -> None:
        self._left = True

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    # --- the store's side ---

    def _found(self, found: Found | GatewayError) -> None:
        if self._left:
            return
        try:
            if isinstance(found, GatewayError):
                raise found
            self._content = self._answer(found)
            self._model = found.model
            named = self._incoming.headers.get(SESSION_HEADER)
            where = Explicit(found.session if named is None else named.decode("latin-1"))
            opening = Opening(self._received.size, self._received.digest)
            self._relay.ledger.admit(self._principal, where, opening, self)
        except GatewayError as error:
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
            self._record(entry, "aborted", 0, b"", "client_disconnected")
            return
        if self._operation is Operation.DELETE:
            self._relay.responses.delete(self._principal, self._id)
        session = entry.session_id.encode("ascii")
        lines = [
            b"RLU-Session: %b\r\nRLU-Receipt: /v1/rlu/receipts/%b/%d\r\n"
            % (session, session, entry.announced),
            b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(self._content),
        ]
        self._relay.answered(self._incoming.path, 200)
        self._connection.start(200, lines, self._content, ended=True)
        self._record(entry, "complete", 200, self._content, None)

    def refused(self, error: GatewayError) -> None:
        if not self._left:
            self._connection.refuse(error)

    def _record(
        self, entry: Entry, status: Status, http_status: int, sent: bytes, reason: str | None
    ) -> None:
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
