"""Watches for the end of an answer that is to be kept, so that it can be continued as soon as the client has seen that end.

The stream's last event may reach the client well before the engine ends its answer. So what was sent is looked at as soon as the terminal
event's name was in it; until then looking costs one search in each piece.
"""

from __future__ import annotations

from rlu_server.adapters.observation import Observation

_MARKS = (b"response.completed", b"response.incomplete")
_LONGEST = max(len(mark) for mark in _MARKS)


class Keeping:
    """One exchange's ticket for the store."""

    __slots__ = ("_concluding", "_tail", "ticket")

    def __init__(self, ticket: int) -> None:
        self.ticket = ticket
        self._concluding = False
        self._tail = b""

    def sent(self, content: bytes, ended: bool, observation: Observation) -> bytes | None:
        """Content was sent, and the observation knows of it: the response object, once it is complete."""
        if not self._concluding:
            # A name may be cut in two between reads.
            seen = self._tail + content
            self._concluding = any(mark in seen for mark in _MARKS)
            self._tail = seen[-_LONGEST:]
        if ended:
            observation.end()
        elif not self._concluding:
            return None
        return observation.answer()
