"""What a policy can ask of a verified document."""

from __future__ import annotations

from typing import Any

import pytest

from fakes import aws
from fakes.aws import Module
from fakes.pki import AT
from rlu_attestation import x509
from rlu_attestation.evidence import nitro
from rlu_attestation.evidence.nitro import NitroClaims, Root
from rlu_attestation.evidence.nitro.claims import region_of


def claims(module: Module, **fields: Any) -> NitroClaims:
    document = module.document(module.fields() | fields)
    return nitro.verify(nitro.from_parts(document), AT, [Root.of(x509.parse(aws.root().der))])


@pytest.mark.parametrize("zeroed", [(0, 1, 2), (0,), (1,), (2,)])
def test_debug_on_is_genuine_and_a_claim(zeroed: tuple[int, ...]) -> None:
    module = Module()
    assert claims(module).debug is False
    assert claims(module, pcrs=module.pcrs() | dict.fromkeys(zeroed, bytes(48))).debug is True


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_an_enclave_without_its_image_pcrs_counts_as_debugged(missing: int) -> None:
    module = Module()
    pcrs = module.pcrs()
    del pcrs[missing]
    assert claims(module, pcrs=pcrs).debug is True


def test_other_zero_pcrs_say_nothing_of_debug() -> None:
    assert claims(Module(), pcrs=Module().pcrs() | {3: bytes(48), 4: bytes(48)}).debug is False


def test_a_tpm_has_no_debug_mode() -> None:
    assert claims(Module("nitrotpm"), nitrotpm_pcrs={0: bytes(48)}).debug is None


def test_data() -> None:
    found = claims(Module(), public_key=b"k", user_data=b"", nonce=b"n")
    assert (found.public_key, found.user_data, found.nonce) == (b"k", b"", b"n")
    bare = claims(Module())
    assert bare.public_key is bare.user_data is bare.nonce is None
    assert bare.created == bare.document.created


def test_region_comes_from_the_certificates_name() -> None:
    module = Module()
    assert claims(module).region == aws.REGION
    assert claims(module, module_id="i-another").region is None
    assert claims(module, certificate=module.certificate(common_name="someone")).region is None
    two = aws.asn1.name((("2.5.4.3", "a"), ("2.5.4.3", "b")))
    assert claims(module, certificate=module.certificate(subject=two)).region is None


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("i-1-enc2.us-east-1.aws", "us-east-1"),
        ("i-1-enc2.us-gov-west-1.aws", "us-gov-west-1"),
        ("i-1-enc2.us-east-1.aws.", None),
        ("i-1-enc2.us-east-1.aws\n", None),
        ("i-1-enc2.us-east-1", None),
        ("i-1-enc2..aws", None),
        ("i-1-enc2.US-EAST-1.aws", None),
        ("xi-1-enc2.us-east-1.aws", None),
        ("i-1-enc23.us-east-1.aws", None),
        ("i-1-enc2.evil.us-east-1.aws", None),
    ],
)
def test_region_of(name: str, region: str | None) -> None:
    assert region_of(name, "i-1-enc2") == region
