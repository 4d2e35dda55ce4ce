"""A cosignature on its way to the attestor: every part of it, and no text; what cannot be read is refused here."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.log_operator import AT, Operator
from rlu_attestation import cose
from rlu_attestation.log.cosignature import WitnessKey, cosign
from rlu_server.core.cosignatures import taken_apart
from rlu_server.core.errors import GatewayError


def test_every_part_of_it() -> None:
    operator = Operator().grow(3)
    secret = ed25519.Ed25519PrivateKey.generate()
    witness = WitnessKey("w.example", secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    encoded = operator.head()
    head = cose.parse_head(encoded)
    made = cosign(head, AT + 5, witness, secret.sign)
    found = taken_apart(7, encoded, made.line)
    assert (found.id, found.issuer, found.tree_size, found.root) == (7, operator.issuer, 3, head.root)
    assert (found.signed_at, found.signature) == (head.iat, head.signature)
    assert (found.witness, found.time, found.cosignature) == (witness.hash, AT + 5, made.signature)
    for given in ((b"garbage", made.line), (encoded, "garbage"), (encoded[:-1], made.line)):
        with pytest.raises(GatewayError, match="cosignature_refused"):
            taken_apart(7, *given)
