"""Frames of the attestor's socket, the gateway's side: sizes."""

from __future__ import annotations

import pytest

from rlu_server.adapters.frames import FrameError, FrameReader, encode
from rlu_server.attestor import frames, messages
from rlu_server.attestor.messages import MAX_ANSWER, MAX_FRAME


def test_evidence_of_many_gpus_fits_into_an_answer() -> None:
    item = messages.EvidenceItem(kind="nvidia", data=bytes(8 * 1024 * 1024))
    answer = messages.Attestation(id=1, statement="x", evidence=[item])
    reader, frame = FrameReader(), frames.encode(answer)
    assert reader.feed(frame[:MAX_FRAME]) == []
    assert reader.feed(frame[MAX_FRAME:]) == [answer]


def test_an_answer_without_end_refuses_before_it_came() -> None:
    with pytest.raises(FrameError):
        FrameReader().feed((MAX_ANSWER + 1).to_bytes(4, "big"))


def test_a_request_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(FrameError):
        encode(messages.Attest(id=1, nonce=bytes(MAX_FRAME)))
