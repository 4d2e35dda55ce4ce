"""Cosignatures in the form of C2SP: byte for byte, and one thing wrong at a time."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from fakes.log_operator import AT, Operator
from rlu_attestation import cose
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.log.cosignature import (
    Cosignature,
    WitnessKey,
    checkpoint,
    cosign,
    verify_cosignature,
)

SECRET = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = SECRET.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
WITNESS = WitnessKey("witness.example/1", PUBLIC)
OPERATOR = Operator().grow(5)
HEAD = cose.parse_head(OPERATOR.head())


def test_every_byte_is_as_specified() -> None:
    """Written down anew from c2sp.org/tlog-cosignature, sharing nothing with the code."""
    body = f"{HEAD.issuer}\n5\n{base64.b64encode(HEAD.root).decode()}\n"
    assert checkpoint(HEAD).decode() == body
    key_id = hashlib.sha256(b"witness.example/1\n\x04" + PUBLIC).digest()[:4]
    assert (
        WITNESS.text == f"witness.example/1+{key_id.hex()}+{base64.b64encode(bytes([4]) + PUBLIC).decode()}"
    )
    signature = SECRET.sign(f"cosignature/v1\ntime {AT}\n{body}".encode())
    line = "— witness.example/1 " + base64.b64encode(key_id + AT.to_bytes(8, "big") + signature).decode()
    made = cosign(HEAD, AT, WITNESS, SECRET.sign)
    assert made.line == line
    assert verify_cosignature(HEAD, Cosignature.parse(line), WitnessKey.parse(WITNESS.text)) == AT


@pytest.mark.parametrize("what", ["size", "root", "origin", "time", "signature", "name", "key"])
def test_a_cosignature_is_about_one_head_at_one_time_by_one_witness(what: str) -> None:
    head, made, witness = HEAD, cosign(HEAD, AT, WITNESS, SECRET.sign), WITNESS
    if what == "size":
        head = cose.parse_head(OPERATOR.head(4))
    elif what == "root":
        head = replace(HEAD, root=bytes(32))
    elif what == "origin":
        head = replace(HEAD, issuer=Operator().issuer)
    elif what == "time":
        made = replace(made, time=AT + 1)
    elif what == "signature":
        made = replace(made, signature=bytes(64))
    elif what == "name":
        made = replace(made, name="other.example")
    else:
        other = ed25519.Ed25519PrivateKey.generate().public_key()
        witness = replace(WITNESS, public=other.public_bytes(Encoding.Raw, PublicFormat.Raw))
    code = "cosignature.key" if what in ("name", "key") else "cosignature.invalid"
    with pytest.raises(Untrusted, match=code.replace(".", r"\.")):
        verify_cosignature(head, made, witness)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "- witness.example/1 AAAA",
        "— two words AAAA",
        "— plus+ AAAA",
        "— witness.example/1 AAAA",
        "— witness.example/1 " + base64.b64encode(bytes(75)).decode(),
        "— witness.example/1 " + base64.b64encode(bytes(77)).decode(),
        "— witness.example/1 " + base64.b64encode(b"\xff" * 76).decode(),
        "— witness.example/1 " + base64.b64encode(bytes(76)).decode() + "\n",
        "— witness.example/1 " + base64.b64encode(bytes(76)).decode()[:-3] + "B==",
        "— " + "n" * 129 + " " + base64.b64encode(bytes(76)).decode(),
    ],
)
def test_other_lines_refuse(line: str) -> None:
    with pytest.raises(Malformed, match=r"cosignature\.encoding"):
        Cosignature.parse(line)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("+", " "),
        lambda text: text[:-4],
        lambda text: text.replace("witness", "Witness"),
        lambda text: text.replace("+", "+0", 1),
        lambda text: WitnessKey("n", b"\x00" * 31).text,
        lambda text: "n" * 600 + text,
    ],
)
def test_other_verifier_keys_refuse(change: object) -> None:
    with pytest.raises(Malformed, match=r"cosignature\.encoding"):
        WitnessKey.parse(change(WITNESS.text))  # type: ignore[operator]


@given(st.text(max_size=200))
def test_arbitrary_text_raises_only_our_own(text: str) -> None:
    for parse in (Cosignature.parse, WitnessKey.parse):
        for given_text in (text, "— w " + text, "w+00000000+" + text):
            try:
                parse(given_text)
            except RluError:
                continue
