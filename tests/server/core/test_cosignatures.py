"""The gateway hands out what the witnesses of its settings signed, on heads of its own instance, and nothing else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.log_operator import AT, Operator
from rlu_attestation import cose
from rlu_attestation.errors import Malformed
from rlu_attestation.log.cosignature import WitnessKey, cosign
from rlu_server.core.cosignatures import Cosignatures
from rlu_server.core.errors import GatewayError


class Witness:
    def __init__(self, name: str) -> None:
        self.secret = ed25519.Ed25519PrivateKey.generate()
        self.key = WitnessKey(name, self.secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def line(self, head: bytes, time: int = AT) -> str:
        return cosign(cose.parse_head(head), time, self.key, self.secret.sign).line


ONE, TWO, STRANGER = Witness("one"), Witness("two"), Witness("stranger")


def test_of_each_witness_the_one_on_the_largest_head() -> None:
    operator = Operator().grow(8)
    kept = Cosignatures([ONE.key.text, TWO.key.text])
    for witness, size, time in ((ONE, 3, AT), (ONE, 8, AT), (ONE, 5, AT + 9), (ONE, 8, AT - 1), (TWO, 2, AT)):
        head = operator.head(size)
        kept.offer(head, witness.line(head, time), operator.issuer, operator.jwk)
    found = [(c.tree_size, c.time) for c in kept.of(operator.issuer)]
    assert found == [(8, AT), (2, AT)]
    other = Operator()
    assert kept.of(other.issuer) == []
    assert kept.of(operator.issuer) == [], "they were of an instance that is no more"


@pytest.mark.parametrize(
    "what", ["stranger", "other-head", "other-instance", "unsigned-head", "garbage", "line"]
)
def test_everything_else_refuses(what: str) -> None:
    operator, other = Operator().grow(8), Operator().grow(8)
    kept = Cosignatures([ONE.key.text])
    head = operator.head()
    line = ONE.line(head)
    if what == "stranger":
        line = STRANGER.line(head)
    elif what == "other-head":
        head = operator.head(7)
    elif what == "other-instance":
        head = other.head()
        line = ONE.line(head)
    elif what == "unsigned-head":
        head = other.head(issuer=operator.issuer, kid=operator.kid)
        line = ONE.line(head)
    elif what == "garbage":
        head = b"garbage"
    else:
        line = "garbage"
    with pytest.raises(GatewayError, match="cosignature_refused"):
        kept.offer(head, line, operator.issuer, operator.jwk)
    assert kept.of(operator.issuer) == []


def test_settings_name_real_keys() -> None:
    with pytest.raises(Malformed, match=r"cosignature\.encoding"):
        Cosignatures(["witness.example"])
