"""Client certificates: whom their names make, and when they stop counting."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from fakes.issuer import Authority
from rlu_attestation.errors import Malformed
from rlu_server.core.auth import certificates
from rlu_server.core.auth.certificates import ClientCertificate, Revoked, rule
from rlu_server.core.errors import GatewayError

CA = Authority()
NOW = datetime.now(timezone.utc)
RULES = [
    rule("uri", "spiffe://example.org/{tenant}/agent/{principal}", ""),
    rule("dns", "{principal}.agents.example.org", "acme"),
    rule("subject", "CN={principal}", "staff"),
]
URI, DNS = x509.UniformResourceIdentifier, x509.DNSName


def issued(*names: x509.GeneralName, subject: str = "") -> ClientCertificate:
    certificate, _ = CA.issue(*names, subject=subject)
    return certificates.read(certificate.public_bytes(Encoding.DER))


def named(*names: x509.GeneralName, subject: str = "") -> tuple[str, str]:
    return certificates.name(issued(*names, subject=subject), RULES)


def test_the_first_rule_that_fits_decides():
    assert named(URI("spiffe://example.org/acme/agent/7")) == ("acme", "7")
    assert named(DNS("dana.agents.example.org")) == ("acme", "dana")
    assert named(DNS("dana.agents.example.org"), URI("spiffe://example.org/b/agent/7")) == ("b", "7")
    assert named(subject="dana") == ("staff", "dana")


@pytest.mark.parametrize(
    "names",
    [
        [],
        [URI("spiffe://example.org/acme/agent/7/more")],
        [URI("spiffe://example.org/acme/x/agent/7")],
        [URI("spiffe://example.orgx/acme/agent/7")],
        [URI("xspiffe://example.org/acme/agent/7")],
        [URI("spiffe://example.org/acme/agent/")],
        [URI("spiffe://example.org/acme/agent/a%2Fb")],
        [URI("spiffe://example.org/" + "a" * 129 + "/agent/7")],
        [DNS("spiffe://example.org/acme/agent/7")],
        [DNS("dana.agentsxexample.org")],
        # They contradict each other.
        [URI("spiffe://example.org/acme/agent/7"), URI("spiffe://example.org/globex/agent/7")],
        [DNS("a.agents.example.org"), DNS("b.agents.example.org")],
    ],
)
def test_names_that_are_nobodys(names: list[x509.GeneralName]):
    with pytest.raises(GatewayError) as caught:
        named(*names)
    assert caught.value.code == "certificate_unknown"


@pytest.mark.parametrize(
    ("pattern", "tenant"),
    [("x", "acme"), ("{principal}", ""), ("{tenant}{principal}", "acme"), ("{principal}{principal}", "a")],
)
def test_patterns_that_say_too_little_or_too_much(pattern: str, tenant: str):
    with pytest.raises(ValueError):
        rule("uri", pattern, tenant)


def code(certificate: ClientCertificate, revoked: Revoked | None, now: float) -> str:
    with pytest.raises(GatewayError) as caught:
        certificates.check(certificate, revoked, now)
    return caught.value.code


def test_it_counts_while_it_is_valid_and_not_revoked():
    good, bad = issued(DNS("a")), issued(DNS("b"))
    revoked = certificates.lists(CA.revoke(bad.serial, until=timedelta(hours=1)), [CA.certificate], NOW)
    now = NOW.timestamp()
    certificates.check(good, None, now)
    certificates.check(good, revoked, now)
    assert code(bad, revoked, now) == "certificate_revoked"
    assert code(good, None, good.not_after) == "certificate_expired"
    assert code(good, None, good.not_before - 61) == "certificate_expired"
    # A list that is out of date, or none of this issuer, tells nothing.
    assert code(good, revoked, revoked.until) == "certificate_unverifiable"
    assert code(good, Revoked(), now) == "certificate_unverifiable"


def test_several_lists_in_one_file():
    other = Authority("Another")
    data = CA.revoke(1) + other.revoke(2, 3)
    found = certificates.lists(data, [CA.certificate, other.certificate], NOW)
    assert {serial for _, serial in found.serials} == {1, 2, 3}
    assert len(found.issuers) == 2
    der = x509.load_pem_x509_crl(CA.revoke(1)).public_bytes(Encoding.DER)
    assert len(certificates.lists(der, [CA.certificate], NOW).serials) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        Authority().revoke(1),  # the same name, another key
        Authority("Another").revoke(1),
        CA.revoke(1, until=timedelta(days=-1)),
        CA.pem,
    ],
    ids=["empty", "garbled", "forged", "unknown", "old", "certificate"],
)
def test_lists_that_are_not_believed(data: bytes):
    with pytest.raises(Malformed) as caught:
        certificates.lists(data, [CA.certificate], NOW)
    assert caught.value.code == "auth.crl"


def test_a_bundle_holds_authorities_and_nothing_else():
    assert certificates.authorities(b"noise\n" + CA.pem) == [CA.certificate]
    leaf, _ = CA.issue(DNS("a"))
    for data in (b"", b"x", CA.pem + leaf.public_bytes(Encoding.PEM), CA.pem[:-40]):
        with pytest.raises(Malformed) as caught:
            certificates.authorities(data)
        assert caught.value.code == "auth.ca"


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_our_errors(data: bytes):
    with pytest.raises(GatewayError):
        certificates.read(data)
    with pytest.raises(Malformed):
        certificates.authorities(data)
    with pytest.raises(Malformed):
        certificates.lists(data, [CA.certificate], NOW)
