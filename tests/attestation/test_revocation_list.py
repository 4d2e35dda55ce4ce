"""Revocation lists: made, read, refused, merged; and as the policy names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.deployment import Deployment
from rlu_attestation import canonical, cose, policy_file
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.policy import PolicyError
from rlu_attestation.policy_signature import PrivateKey
from rlu_attestation.revocation import Revocation
from rlu_attestation.revocation_list import RevocationList, merge, sign, verify

UEID = b64u(b"\x01" + bytes(32))
KEYS: list[PrivateKey] = [ec.generate_private_key(ec.SECP256R1()), Ed25519PrivateKey.generate()]
KEY = KEYS[0]


def listing(number: int = 7, *entries: Revocation) -> RevocationList:
    return RevocationList(number, 1_000_000, entries or (Revocation(UEID, "compromise", 999_999),))


@pytest.mark.parametrize("key", KEYS)
def test_a_list_is_read_as_it_was_made(key: PrivateKey) -> None:
    deployment = Deployment()
    deployment.append(b"a leaf")
    head = cose.parse_head(deployment.head())
    full = listing(1, Revocation(deployment.instance_claims().ueid, "lost", 5, head), *listing().entries)
    assert verify(sign(full, key), [other.public_key() for other in KEYS], 1) == full


def perturbed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A list that is signed, whatever it says."""
    value = listing().to_json()
    change(value)

    class Raw(RevocationList):
        def to_json(self) -> dict[str, Any]:
            return value

    return sign(Raw(7, 0, ()), KEY)


def flip(data: bytes, part: int) -> bytes:
    parts = data.strip().split(b".")
    raw = bytearray(unb64u(parts[part].decode()))
    raw[-3] ^= 1
    parts[part] = b64u(bytes(raw)).encode()
    return b".".join(parts)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("another-signer", sign(listing(), ec.generate_private_key(ec.SECP256R1())), "revocations.signer"),
        ("changed-payload", flip(sign(listing(), KEY), 1), "revocations.invalid"),
        ("changed-signature", flip(sign(listing(), KEY), 2), "revocations.invalid"),
        ("rolled-back", sign(listing(6), KEY), "revocations.rolled_back"),
        ("empty", b"", "revocations.encoding"),
        ("two-line-feeds", sign(listing(), KEY) + b"\n", "revocations.encoding"),
        ("too-long", b"a" * 65537, "revocations.encoding"),
        ("not-ascii", "é.é.é".encode(), "revocations.encoding"),
        ("unknown-member", perturbed(lambda v: v.update(x=1)), "revocations.encoding"),
        ("no-number", perturbed(lambda v: v.pop("rlu_number")), "revocations.encoding"),
        ("not-an-array", perturbed(lambda v: v.update(rlu_revoked={})), "revocations.encoding"),
        ("a-key-twice", perturbed(lambda v: v["rlu_revoked"].append(v["rlu_revoked"][0])), "revocations.encoding"),
        ("another-reason", perturbed(lambda v: v["rlu_revoked"][0].update(reason="?")), "revocations.encoding"),
        ("no-ueid", perturbed(lambda v: v["rlu_revoked"][0].update(ueid="AAAA")), "revocations.encoding"),
        ("garbage-head", perturbed(lambda v: v["rlu_revoked"][0].update(last_good="AAAA")), "revocations.encoding"),
        (
            "head-of-another",
            perturbed(lambda v: v["rlu_revoked"][0].update(last_good=b64u(Deployment().head()))),
            "revocations.encoding",
        ),
    ],
)  # fmt: skip
def test_refused(name: str, data: bytes, code: str) -> None:
    with pytest.raises(RluError) as refused:
        verify(data, [KEY.public_key()], 7)
    assert refused.value.code == code, name


def test_an_algorithm_is_the_keys_own() -> None:
    header, payload, signature = sign(listing(), KEYS[1]).strip().split(b".")
    other = canonical.encode({**canonical.decode(unb64u(header.decode())), "alg": "none"})
    data = b".".join((b64u(other).encode(), payload, signature))
    with pytest.raises(RluError, match=r"revocations\.signer"):
        verify(data, [KEYS[1].public_key()])


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.from_regex(rb"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")))
def test_arbitrary_bytes_raise_only_our_errors(data: bytes) -> None:
    with pytest.raises(RluError):
        verify(data, [KEY.public_key()])


def test_the_stricter_entry_counts() -> None:
    deployment = Deployment()
    ueid = deployment.instance_claims().ueid
    heads = []
    for leaf in (b"a", b"b"):
        deployment.append(leaf)
        heads.append(cose.parse_head(deployment.head()))
    early, late = (Revocation(ueid, "lost", 1, head) for head in heads)
    never = Revocation(ueid, "compromise", 2)
    for order in ((early, late), (late, early)):
        assert merge(listing(1, entry) for entry in order) == {ueid: early}
    for order in ((early, never), (never, late)):
        assert merge(listing(1, entry) for entry in order) == {ueid: never}


# --- in a policy ---

PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
TRUST = "version = 1\n[trust]\nrevocations = ['list.jws']\nrevocation_keys = ['key.pem']\n"


def read(toml: str, number: int = 7) -> policy_file.Policy:
    files = {"list.jws": sign(listing(number), KEY), "key.pem": PEM}

    def read_file(name: str) -> bytes:
        try:
            return files[name]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    return policy_file.parse(toml.encode(), read_file)


def test_a_policy_with_a_list() -> None:
    policy = read(TRUST)
    assert set(policy.revocations) == {UEID}
    inline = TRUST.replace("'key.pem'", f"'''{PEM.decode()}'''")
    assert read(inline).revocations == policy.revocations
    assert read(TRUST).digest != read(TRUST, 8).digest, "the list is part of what pins the policy"


@pytest.mark.parametrize(
    ("name", "toml", "code"),
    [
        ("rolled-back", TRUST + "revocation_minimum = 8", "policy.revocations.rolled_back"),
        ("no-list", TRUST.replace("list.jws", "gone.jws"), "policy.revocations.unreadable"),
        ("no-key-file", TRUST.replace("key.pem", "gone.pem"), "policy.revocations.unreadable"),
        ("no-signer", "version = 1\n[trust]\nrevocations = ['list.jws']", "policy.value"),
        ("no-names", "version = 1\n[trust]\nrevocation_keys = ['key.pem']", "policy.value"),
        ("a-minimum-of-nothing", "version = 1\n[trust]\nrevocation_minimum = 1", "policy.value"),
        ("key-is-none", TRUST.replace("key.pem", "list.jws"), "policy.key"),
        ("list-is-none", TRUST.replace("list.jws", "key.pem"), "policy.revocations.encoding"),
    ],
)
def test_policies_that_are_refused(name: str, toml: str, code: str) -> None:
    with pytest.raises(PolicyError) as refused:
        read(toml)
    assert refused.value.code == code, name
