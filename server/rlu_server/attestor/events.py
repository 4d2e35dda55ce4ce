"""What the attestor writes to its standard output: fixed event names, stable codes and counts, as JSON lines. Nothing else."""

from __future__ import annotations

import json
import sys
from enum import Enum
from typing import TextIO


class Event(str, Enum):
    """Every event there is."""

    STARTED = "attestor.started"
    DRAINING = "attestor.draining"
    STOPPED = "attestor.stopped"
    REFUSED_TO_START = "attestor.refused_to_start"
    LOG_TAIL_DROPPED = "log.tail_dropped"
    LOG_WRITE_FAILED = "log.write_failed"
    LOG_READ_FAILED = "log.read_failed"
    TALLY_FAILED = "log.tally_failed"
    COSIGNATURES_DAMAGED = "log.cosignatures_damaged"
    SIGNER_FAILED = "signer.failed"
    SIGNER_RECOVERED = "signer.recovered"
    GATEWAY_GREETED = "gateway.greeted"
    GATEWAY_LOST = "gateway.lost"
    PEER_REFUSED = "peer.refused"
    FRAME_REFUSED = "frame.refused"
    RENEWAL_FAILED = "statement.renewal_failed"
    STATEMENT_RENEWED = "statement.renewed"
    INSTANCE_CHANGED = "instance.changed"
    FACTS_REFUSED = "facts.refused"
    DRIFTED = "instance.drifted"
    DRIFT_ENDED = "instance.drift_ended"
    KEY_ROTATED = "key.rotated"
    KEY_ROTATION_DUE = "key.rotation_due"
    KEY_ROTATION_FAILED = "key.rotation_failed"
    KEY_REHEARSED = "key.rotation_rehearsed"
    KEY_RETIRED = "key.retired"
    KEY_REMOVAL_FAILED = "key.removal_failed"
    CANARY_REPORTED = "canary.reported"
    CANARY_REFUSED = "canary.refused"
    LICENCE_VALID = "licence.valid"
    LICENCE_ENDING = "licence.ending"
    """`count`: within so many days."""
    LICENCE_GRACE = "licence.grace"
    LICENCE_EXPIRED = "licence.expired"
    LICENCE_NOT_YET = "licence.not_yet"
    LICENCE_INVALID = "licence.invalid"
    LICENCE_TIME = "licence.time"
    INTERNAL = "internal.error"


INFORMATION = frozenset(
    {
        Event.STARTED,
        Event.DRAINING,
        Event.STOPPED,
        Event.SIGNER_RECOVERED,
        Event.GATEWAY_GREETED,
        Event.STATEMENT_RENEWED,
        Event.DRIFT_ENDED,
        Event.KEY_ROTATED,
        Event.KEY_REHEARSED,
        Event.KEY_RETIRED,
        Event.CANARY_REPORTED,
        Event.LICENCE_VALID,
    }
)
ERRORS = frozenset(
    {
        Event.REFUSED_TO_START,
        Event.LOG_WRITE_FAILED,
        Event.LOG_READ_FAILED,
        Event.TALLY_FAILED,
        Event.SIGNER_FAILED,
        Event.DRIFTED,
        Event.LICENCE_EXPIRED,
        Event.LICENCE_INVALID,
        Event.INTERNAL,
    }
)
"""All others are warnings."""


def level(event: Event) -> str:
    """How much an event matters to who looks after the server."""
    return "error" if event in ERRORS else "info" if event in INFORMATION else "warning"


class EventLog:
    """Writes events to a stream."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream

    def emit(self, event: Event, code: str | None = None, count: int | None = None) -> None:
        """Write one event; `code` is the stable code of an error, never its text."""
        line: dict[str, str | int] = {"level": level(event), "event": event.value}
        if code is not None:
            line["code"] = code
        if count is not None:
            line["count"] = count
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
