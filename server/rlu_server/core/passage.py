"""One relayed request as it is measured, logged and traced: times, sizes, ids and codes, nothing that was said.

Times are of one monotonic clock, in seconds; 0 stands for what did not happen.
"""

from __future__ import annotations

import msgspec

from rlu_server.core.usage import Usage


class Passage(msgspec.Struct):
    """Filled in on the way.

    Attributes:
        route: one of `routes.RELAYED`; tenant: its pseudonym; parent: the client's `traceparent`, if it is to be continued.
        arrived: its head was here; completed: all of it; asked: through the gate, a session was asked for; posted: given to an engine;
            numbered: its session is signed and it has its number; first: its answer began; ended.
        streamed: the answer was an event stream; refused: it was one of our own errors.
        status: of the answer, by HTTP; outcome: of the exchange, as in its receipt; code: why it was refused or did not complete.
    """

    request_id: str
    route: str
    tenant: str
    arrived: float
    parent: bytes = b""
    completed: float = 0.0
    asked: float = 0.0
    posted: float = 0.0
    numbered: float = 0.0
    first: float = 0.0
    ended: float = 0.0
    model: str = ""
    session: str = ""
    seq: int = 0
    status: int = 0
    outcome: str = "refused"
    code: str = ""
    request_bytes: int = 0
    response_bytes: int = 0
    usage: Usage | None = None
    streamed: bool = False
    refused: bool = False
