from __future__ import annotations

import json

from rlu_attestation.canary import EXCHANGES
from rlu_server.selftest.scenarios import Composer

LIMIT = 1 << 18


def test_every_kind_is_sent_and_carries_all_its_markers(secret: bytes) -> None:
    composer = Composer(secret, "m", LIMIT)
    shots = [*composer.all(), composer.load()]
    assert [shot.kind for shot in shots] == [*dict.fromkeys(shot.kind for shot in shots)]
    assert {shot.kind for shot in shots} == set(EXCHANGES)
    for shot in shots:
        sent = b"\n".join(
            [shot.path.encode(), shot.body, *(value.encode() for value in shot.headers.values())]
        )
        ours = [text for text, kind in composer.markers.items() if kind == shot.kind]
        assert ours
        assert [text for text in ours if text.encode() not in sent] == [], shot.kind
        assert set(shot.markers) <= set(ours)


def test_no_marker_is_sent_twice(secret: bytes) -> None:
    composer = Composer(secret, "m", LIMIT)
    first = {text for shot in composer.all() for text in shot.markers}
    second = {text for shot in composer.all() for text in shot.markers}
    assert first
    assert not first & second


def test_what_is_too_large_is(secret: bytes) -> None:
    composer = Composer(secret, "m", LIMIT)
    declared, chunked = composer.kind("oversize_declared"), composer.kind("oversize_chunked")
    assert declared.declared == LIMIT + 1
    assert chunked.chunked
    assert len(chunked.body) > LIMIT
    assert len(composer.kind("too_long").body) < LIMIT
    json.loads(composer.kind("too_long").body)
