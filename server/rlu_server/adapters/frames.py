"""The attestor protocol's frames (server/DESIGN.md): `u32` big-endian length, then one MessagePack map."""

from __future__ import annotations

import msgspec

from rlu_server.attestor.messages import MAX_ANSWER, MAX_FRAME, Answer, Message

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Answer).decode


class FrameError(Exception):
    """The peer sent something that is not a frame of this protocol; the connection is of no further use."""


def encode(message: Message) -> bytes:
    """One message as a frame."""
    payload = _encode(message)
    if len(payload) > MAX_FRAME:
        raise FrameError(f"a frame has at most {MAX_FRAME} bytes")
    return len(payload).to_bytes(4, "big") + payload


class FrameReader:
    """Cuts a byte stream into answers."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Answer]:
        """All answers that are complete now.

        Raises:
            FrameError: too long, or not an answer of this protocol.
        """
        buffer = self._buffer
        buffer += data
        answers: list[Answer] = []
        start = 0
        while len(buffer) - start >= 4:
            size = int.from_bytes(buffer[start : start + 4], "big")
            if size > MAX_ANSWER:
                raise FrameError("the frame is too long")
            end = start + 4 + size
            if len(buffer) < end:
                break
            try:
                answers.append(_decode(bytes(buffer[start + 4 : end])))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise FrameError("not an answer of this protocol") from error
            start = end
        if start:
            del buffer[:start]
        return answers
