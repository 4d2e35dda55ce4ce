"""A request that waits for its principal to be known. Then the job that would have begun at once begins."""

from __future__ import annotations

from collections.abc import Callable

from rlu_server.adapters.auth.authenticator import Decided, Pending
from rlu_server.adapters.client import Connection, Job
from rlu_server.core.apikeys import Principal
from rlu_server.core.errors import GatewayError

MOST = 256 * 1024
"""Content that may arrive meanwhile; beyond it the connection is not read."""


class Held:
    """Holds one request.

    Args:
        begin: makes the job for a principal; raises GatewayError.
    """

    def __init__(self, connection: Connection, pending: Pending, begin: Callable[[Principal], Job]) -> None:
        self._connection = connection
        self._begin = begin
        self._gone = False
        self._size = 0
        pending.then(self._decided)

    def content_arrived(self) -> None:
        self._connection.hold_reading(MOST)

    def complete(self) -> None:
        pass

    def client_gone(self) -> None:
        self._gone = True

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def _decided(self, decided: Decided) -> None:
        if self._gone:
            return
        try:
            if isinstance(decided, GatewayError):
                # One answer serves all who waited: each gets an error of its own.
                raise GatewayError(decided.code, param=decided.param, retry_after_s=decided.retry_after_s)
            job = self._begin(decided)
        except GatewayError as error:
            self._connection.refuse(error)
        else:
            self._connection.hand_over(job)
