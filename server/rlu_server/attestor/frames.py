"""Frames of the attestor's socket (server/DESIGN.md): `u32` big-endian length, one MessagePack map. Bounded, without I/O."""

from __future__ import annotations

import msgspec

from rlu_attestation.errors import Malformed
from rlu_server.attestor.messages import MAX_FRAME, Answer, Request

PREFIX = 4
_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_encode = msgspec.msgpack.Encoder().encode


class RequestReader:
    """Cuts a byte stream into requests."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Request]:
        """All requests that are complete now.

        Raises:
            Malformed: too long, or not a request of this protocol; what came before it is lost too.
        """
        buffer = self._buffer
        buffer += data
        requests: list[Request] = []
        at = 0
        while len(buffer) - at >= PREFIX:
            size = int.from_bytes(buffer[at : at + PREFIX], "big")
            if size > MAX_FRAME:
                raise Malformed("malformed", f"a frame has at most {MAX_FRAME} bytes")
            end = at + PREFIX + size
            if end > len(buffer):
                break
            requests.append(_request(bytes(buffer[at + PREFIX : end])))
            at = end
        del buffer[:at]
        return requests


def encode(answer: Answer) -> bytes:
    """An answer as a frame."""
    payload = _encode(answer)
    return len(payload).to_bytes(PREFIX, "big") + payload


def _request(payload: bytes) -> Request:
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        # msgspec's text can repeat values that were sent; none of it is kept.
        raise Malformed("malformed", "not a request of this protocol") from error
