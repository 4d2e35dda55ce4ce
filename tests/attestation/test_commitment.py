from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.commitment import OPENING_SESSION, SessionCommitter, Tag, commit, key_digest

KEY = st.binary(min_size=32, max_size=32)
SESSION = st.binary(min_size=16, max_size=16)
NUMBER = st.integers(0, 2**53 - 1)
TAGS = st.sampled_from([Tag.REQUEST, Tag.RESPONSE, Tag.FORWARDED])


@given(KEY, SESSION, TAGS, NUMBER, NUMBER, KEY)
def test_a_sessions_committer_makes_the_same_commitments(
    key: bytes, session: bytes, tag: Tag, seq: int, length: int, digest: bytes
) -> None:
    committer = SessionCommitter(key, session)
    expected = commit(key, tag, session, seq, length, digest)
    assert committer.commit(tag, seq, length, digest) == expected
    # Its prepared state is not used up.
    assert committer.commit(tag, seq, length, digest) == expected


def test_everything_that_is_committed_to_changes_the_commitment() -> None:
    base = (bytes(32), Tag.REQUEST, bytes(16), 1, 2, bytes(32))
    others = (b"k" * 32, Tag.RESPONSE, b"s" * 16, 2, 3, b"d" * 32)
    seen = {commit(*base)}
    for place, other in enumerate(others):
        changed = list(base)
        changed[place] = other
        seen.add(commit(*changed))  # type: ignore[arg-type]
    assert len(seen) == 1 + len(base)


def test_sizes_are_checked() -> None:
    for key, session, digest in [(31, 16, 32), (32, 15, 32), (32, 16, 31)]:
        with pytest.raises(ValueError):
            commit(bytes(key), Tag.REQUEST, bytes(session), 1, 1, bytes(digest))
    for key, session in [(31, 16), (32, 15)]:
        with pytest.raises(ValueError):
            SessionCommitter(bytes(key), bytes(session))
    with pytest.raises(ValueError):
        SessionCommitter(bytes(32), bytes(16)).commit(Tag.REQUEST, 1, 1, bytes(31))
    with pytest.raises(ValueError):
        key_digest(bytes(31))


def test_an_opening_is_no_exchanges_commitment() -> None:
    assert len(OPENING_SESSION) == 16
    with pytest.raises(KeyError):
        SessionCommitter(bytes(32), OPENING_SESSION).commit(Tag.OPENING, 0, 1, bytes(32))
