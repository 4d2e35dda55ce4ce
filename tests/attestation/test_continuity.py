"""Continuity statements: whatever is not one is refused by code, and people can read one without trusting it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.deployment import AT, Deployment
from rlu_attestation import continuity, jose
from rlu_attestation.continuity import Continuity
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_attestation.explain import explain
from rlu_attestation.policy_signature import generate, load_private_key
from rlu_attestation.revocation import Revocation
from rlu_attestation.revocation_list import RevocationList, sign


def word() -> str:
    deployment = Deployment()
    deployment.append(b"a leaf")
    made = Continuity(jwk=deployment.jwk, issued_at=AT, successor=bytes(32), head=deployment.head())
    signing_input = made.signing_input()
    return jose.jws_assemble(signing_input, deployment.sign(signing_input))


WORD = word()


def test_one_is_read_as_it_was_made() -> None:
    found, head = continuity.verify(WORD)
    assert (found.issued_at, found.successor, head.tree_size) == (AT, bytes(32), 1)
    assert continuity.peek(WORD) == found


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True),
        st.integers(0, len(WORD) - 1).map(lambda at: WORD[:at] + WORD[at + 1 :]),
    )
)
def test_arbitrary_text_raises_only_our_errors(text: str) -> None:
    with pytest.raises(RluError):
        continuity.verify(text)


def test_people_can_read_both() -> None:
    shown = explain(WORD.encode())
    assert shown.title.startswith("Continuity statement")
    ueid = b64u(b"\x01" + bytes(32))
    key = load_private_key(generate("ES256")[0])
    listed = explain(sign(RevocationList(3, AT, (Revocation(ueid, "lost", AT),)), key))
    assert listed.title == "Revocation list of instance keys"
    assert [part.title for part in listed.parts] == [ueid]
