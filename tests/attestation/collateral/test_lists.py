"""What certificates name: revocation lists and issuers, followed to the root, which nobody trusts for having been fetched."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.pki import AT, YEAR, common_name
from fakes.publishers import Published, Publishers, pem
from fakes.tpm import private_key
from rlu_attestation import x509
from rlu_attestation.collateral import lists, run
from rlu_attestation.collateral.http import Network
from rlu_attestation.collateral.store import Store
from rlu_attestation.errors import Malformed, RluError

HOST = "https://pki.infineon.com"


@dataclass
class Made:
    name: str
    issuer: Made | None = None
    aia: str = ""
    crl: str = ""
    not_after: datetime = AT + YEAR

    def __post_init__(self) -> None:
        key = private_key("p256", f"aia/{self.name}")
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key
        parent = self.issuer or self
        builder = (
            pyca.CertificateBuilder()
            .subject_name(common_name(self.name))
            .issuer_name(common_name(parent.name))
            .public_key(key.public_key())
            .serial_number(1000 + len(self.name))
            .not_valid_before(AT - YEAR)
            .not_valid_after(self.not_after)
            .add_extension(pyca.BasicConstraints(True, None), critical=True)
        )
        if self.aia:
            access = [
                pyca.AccessDescription(method, pyca.UniformResourceIdentifier(self.aia))
                for method in (AuthorityInformationAccessOID.OCSP, AuthorityInformationAccessOID.CA_ISSUERS)
            ]
            builder = builder.add_extension(pyca.AuthorityInformationAccess(access), critical=False)
        if self.crl:
            point = pyca.DistributionPoint([pyca.UniformResourceIdentifier(self.crl)], None, None, None)
            builder = builder.add_extension(pyca.CRLDistributionPoints([point]), critical=False)
        self.der = builder.sign(parent.key, SHA256()).public_bytes(Encoding.DER)

    @property
    def parsed(self) -> x509.Certificate:
        return x509.parse(self.der)

    def revoke(self, *serials: int) -> bytes:
        builder = (
            pyca.CertificateRevocationListBuilder()
            .issuer_name(common_name(self.name))
            .last_update(AT - YEAR / 12)
            .next_update(AT + YEAR / 12)
        )
        for serial in serials:
            entry = pyca.RevokedCertificateBuilder().serial_number(serial).revocation_date(AT).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)


ROOT = Made("Vendor Root")
MIDDLE = Made("Vendor Intermediate", ROOT, aia="http://pki.infineon.com/root.crt")
LEAF = Made("TPM EK", MIDDLE, aia=f"{HOST}/middle.crt", crl=f"{HOST}/middle.crl")


def published() -> dict[str, Published]:
    return {
        f"{HOST}/middle.crt": Published(MIDDLE.der, "application/pkix-cert"),
        f"{HOST}/root.crt": Published(pem(ROOT.der), "application/x-pem-file"),
        f"{HOST}/middle.crl": Published(MIDDLE.revoke(5), "application/pkix-crl"),
    }


def follow(directory: Path, answers: dict[str, Published], at: datetime = AT) -> list[run.Fetched]:
    with Publishers(directory) as publishers:
        publishers.answers = answers
        network = Network(proxy=publishers.proxy, tls=publishers.client_tls(), timeout_s=5)
        return list(run.fetch(lists.want_issuer(LEAF.parsed, at), network, Store(directory / "c")))


def test_a_chain_is_followed_to_its_root_and_that_is_not_trusted(tmp_path: Path) -> None:
    found = follow(tmp_path, published())
    assert [result.failure for result in found] == [None] * 3
    whats = {result.checked.what: result.checked.warning for result in found if result.checked is not None}
    assert whats.keys() == {
        "certificate of Vendor Intermediate",
        "revocation list of Vendor Intermediate",
        "certificate of Vendor Root",
    }
    assert ROOT.parsed.fingerprint.hex() in whats["certificate of Vendor Root"]
    assert "trust it only if you know" in whats["certificate of Vendor Root"]
    kinds = [kind for kind, _ in Store(tmp_path / "c").pieces()]
    assert kinds == ["x509-certificates", "x509-certificates", "x509-crl"]


@pytest.mark.parametrize(
    ("url", "answer", "code"),
    [
        ("middle.crt", ROOT.der, "collateral.issuer.name"),
        ("middle.crt", b"garbage", "x509.encoding"),
        ("middle.crt", pem(MIDDLE.der, ROOT.der), "x509.encoding"),
        ("root.crt", MIDDLE.der, "collateral.issuer.name"),
        ("middle.crl", ROOT.revoke(), "collateral.crl.issuer"),
    ],
)
def test_other_certificates_and_lists_are_refused(tmp_path: Path, url: str, answer: bytes, code: str) -> None:
    answers = published()
    answers[f"{HOST}/{url}"].content = answer
    found = follow(tmp_path, answers)
    assert [result.failure.code for result in found if result.failure is not None] == [code]


def test_an_issuer_of_the_same_name_that_did_not_sign() -> None:
    namesake = Made("Vendor Root")
    namesake.key = ec.derive_private_key(99, ec.SECP256R1())
    (want,) = lists.want_issuer(Made("child", namesake, aia=f"{HOST}/root.crt").parsed, AT)
    with pytest.raises(RluError) as caught:
        want.check(pem(ROOT.der))
    assert caught.value.code == "collateral.issuer.signature"


def test_an_issuer_that_is_over(tmp_path: Path) -> None:
    found = follow(tmp_path, published(), AT + 2 * YEAR)
    assert [result.failure.code for result in found if result.failure is not None] == [
        "collateral.issuer.expired"
    ]


def test_urls_that_certificates_name() -> None:
    assert lists.distribution_points(LEAF.parsed) == (f"{HOST}/middle.crl",)
    assert lists.issuers(LEAF.parsed) == (f"{HOST}/middle.crt",)
    assert lists.distribution_points(ROOT.parsed) == lists.issuers(ROOT.parsed) == ()
    assert lists.want_issuer(ROOT.parsed, AT) == ()
    ldap = Made("directory", ROOT, crl="ldap://pki.infineon.com/x")
    assert lists.distribution_points(ldap.parsed) == ()
    for url in (f"{HOST}/a b", f"{HOST}/\n", f"{HOST}/{'x' * 1024}"):
        with pytest.raises(Malformed) as caught:
            lists.distribution_points(Made("bad", ROOT, crl=url).parsed)
        assert caught.value.code == "collateral.url"


@settings(max_examples=80)
@given(st.binary(max_size=80))
def test_arbitrary_extensions_raise_only_our_errors(value: bytes) -> None:
    for oid, read in (
        (lists.CRL_DISTRIBUTION_POINTS, lists.distribution_points),
        (lists.AUTHORITY_INFORMATION_ACCESS, lists.issuers),
    ):
        certificate = replace(ROOT.parsed, extensions=(x509.Extension(oid, False, value),))
        with suppress(RluError):
            read(certificate)
