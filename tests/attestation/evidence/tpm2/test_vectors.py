"""Real quotes, certifications and certificates: each must give what its PROVENANCE.json states."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from fakes import tpm_marshal as marshal
from fakes.vectors import vector
from rlu_attestation import chain, x509
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.evidence import tpm2
from rlu_attestation.evidence.tpm2.ek import EK_PURPOSE
from rlu_attestation.tpm import attest as structures
from rlu_attestation.tpm import eventlog, policy, signatures

pytestmark = pytest.mark.vectors
AT = datetime(2026, 11, 22, tzinfo=timezone.utc)
EK_EXTENSIONS = frozenset({x509.SUBJECT_ALTERNATIVE_NAME})


def claims(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "PROVENANCE.json").read_text())["expected_claims"]
    return found


def one(path: Path) -> x509.Certificate:
    (certificate,) = x509.parse_many(path.read_bytes())
    return certificate


def check_quote(attest: tpm2.Attest, expected: dict[str, Any]) -> structures.QuoteInfo:
    """The parsed quote says what the provenance says."""
    assert isinstance(attest.attested, structures.QuoteInfo)
    assert attest.extra_data.hex() == expected["extra_data"]
    assert attest.qualified_signer.hex() == expected["qualified_signer"]
    assert attest.clock_info.clock == expected["clock"]
    assert attest.clock_info.reset_count == expected["reset_count"]
    assert attest.clock_info.restart_count == expected["restart_count"]
    assert attest.clock_info.safe is bool(expected["safe"])
    assert hex(attest.firmware_version) == expected["fw"]
    selected = [[policy.BANKS[bank], list(pcrs)] for bank, pcrs in attest.attested.pcr_select.banks]
    assert selected == expected["pcr_select"]
    assert attest.attested.pcr_digest.hex() == expected["pcr_digest"]
    return attest.attested


def corrupted(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


# --- swtpm: the whole chain ---------------------------------------------------------------------------------------------


def test_swtpm_keys_have_the_stated_names() -> None:
    path = vector("tpm", "swtpm-full-chain")
    expected = claims(path)
    ak = tpm2.parse_public((path / "ak.pub").read_bytes())
    key = tpm2.parse_public((path / "sk.pub").read_bytes())
    assert tpm2.name_of(ak).hex() == expected["ak_name"]
    assert tpm2.name_of(key).hex() == expected["sk_name"]
    tpm2.check_ak(ak)
    with pytest.raises(Untrusted, match="not a restricted signing key"):
        tpm2.check_ak(key)


def test_swtpm_quote_and_certification_verify() -> None:
    path = vector("tpm", "swtpm-full-chain")
    expected = claims(path)
    ak = tpm2.parse_public((path / "ak.pub").read_bytes())
    quote = tpm2.parse_attest((path / "quote.msg").read_bytes())
    certify = tpm2.parse_attest((path / "certify.att").read_bytes())
    check_quote(quote, expected["quote"])
    assert isinstance(certify.attested, structures.CertifyInfo)
    assert certify.attested.name.hex() == expected["certify"]["name"]
    assert certify.attested.qualified_name.hex() == expected["certify"]["qualified_name"]
    assert certify.qualified_signer == quote.qualified_signer
    for attest, file in ((quote, "quote.sig"), (certify, "certify.sig")):
        signature = tpm2.parse_signature((path / file).read_bytes())
        signatures.verify(ak, attest.raw, signature, "x")
        with pytest.raises(Untrusted, match="does not verify"):
            signatures.verify(ak, corrupted(attest.raw, 40), signature, "x")


@pytest.mark.parametrize("file", ["ek_cert.der", "ek_ecc_p384_cert.der"])
def test_swtpm_ek_certificates_lead_to_the_local_authority_and_are_an_emulators(file: str) -> None:
    path = vector("tpm", "swtpm-full-chain")
    ek, root, intermediate = one(path / file), one(path / "ca_root.pem"), one(path / "ca_intermediate.pem")
    assert chain.verify_chain(ek, [intermediate], [root], AT, "ek.chain", EK_EXTENSIONS) == (
        ek,
        intermediate,
        root,
    )
    with pytest.raises(Untrusted) as refused:
        chain.verify_chain(ek, [], [root], AT, "ek.chain", EK_EXTENSIONS)
    assert refused.value.code == "ek.chain.unknown_issuer"
    vendor = tpm2.vendor_of(ek)
    assert (vendor.manufacturer, vendor.model, vendor.emulator) == ("id:00001014", "swtpm", True)
    assert ek.extended_key_usage() == {EK_PURPOSE}


# --- Google Compute Engine ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "bank"), [(0, "sha1"), (1, "sha256"), (2, "sha384")])
def test_gce_quotes_verify_in_every_bank_and_the_event_log_replays(index: int, bank: str) -> None:
    path = vector("tpm", "gce-gce-cos-85-no-nonce")
    ak = tpm2.parse_public((path / "ak_tpmt_public.bin").read_bytes())
    assert tpm2.name_of(ak).hex() == claims(path)["ak_name"]
    tpm2.check_ak(ak)
    attest = tpm2.parse_attest((path / f"quote{index}_{bank}.msg").read_bytes())
    signature = tpm2.parse_signature((path / f"quote{index}_{bank}.sig").read_bytes())
    signatures.verify(ak, attest.raw, signature, "x")
    values = json.loads((path / f"pcrs{index}_{bank}.json").read_text())
    pcrs = {bank: {int(number): bytes.fromhex(value) for number, value in values.items()}}
    assert isinstance(attest.attested, structures.QuoteInfo)
    assert tpm2.pcr_digest(signature.hash, attest.attested.pcr_select, pcrs) == attest.attested.pcr_digest
    log = eventlog.parse((path / "eventlog.bin").read_bytes())
    assert eventlog.verify_replay(log, pcrs).covered == {bank: tuple(range(10))}
    pcrs[bank][4] = corrupted(pcrs[bank][4], 0)
    with pytest.raises(Untrusted, match=f"PCR {bank}:4") as refused:
        eventlog.verify_replay(log, pcrs)
    assert refused.value.code == "quote.eventlog.mismatch"


def test_gce_event_log_says_what_was_measured() -> None:
    log = eventlog.parse((vector("tpm", "gce-gce-cos-85-no-nonce") / "eventlog.bin").read_bytes())
    assert len(log.events) == 44
    assert [algorithm.name for algorithm in log.algorithms] == ["SHA1", "SHA256", "SHA384"]
    assert any("GCE Virtual Firmware".encode("utf-16-le") in event.data for event in log.events)


GCE = [
    f"gce-{age}_tpm_{kind}_{use}_cert"
    for age in ("pca", "uca")
    for kind in ("ecc", "rsa")
    for use in ("enc", "sign")
]


@pytest.mark.parametrize("name", GCE)
def test_gce_certificates_lead_to_googles_roots(name: str) -> None:
    path = vector("tpm", name)
    leaf = one(path / "cert.pem")
    authorities = [one(file) for pattern in ("ca_*.crt", "ca_*.cer") for file in sorted(path.glob(pattern))]
    roots = [found for found in authorities if found.subject == found.issuer]
    others = [found for found in authorities if found.subject != found.issuer]
    found = chain.verify_chain(leaf, others, roots, AT, "ek.chain", EK_EXTENSIONS)
    assert len(found) == 3
    purposes = leaf.extended_key_usage()
    assert sorted(purposes or ()) == claims(path)["eku"]
    kind = rsa.RSAPublicKey if claims(path)["key"] == "RSAPublicKey" else ec.EllipticCurvePublicKey
    assert isinstance(leaf.public_key(), kind)
    early = datetime(2020, 1, 1, tzinfo=timezone.utc)
    with pytest.raises(Untrusted) as refused:
        chain.verify_chain(leaf, others, roots, early, "ek.chain", EK_EXTENSIONS)
    assert refused.value.code == "ek.chain.not_yet_valid"
    usage = leaf.key_usage()
    assert usage is not None
    assert (x509.DIGITAL_SIGNATURE in usage) is name.endswith("sign_cert")


# --- hardware TPMs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "intermediate", "root"),
    [
        ("hw-ek-st-p256", "ca_STM_ECC_01I.pem", "ca_STM_ECC_01RT.pem"),
        ("hw-ek-st-rsa2048", "ca_STM_RSA_05I.pem", "ca_STM_RSA_RT.pem"),
    ],
)
def test_st_ek_certificates(name: str, intermediate: str, root: str) -> None:
    path = vector("tpm", name)
    raw = (path / "ek_nv_raw.bin").read_bytes()
    trimmed = tpm2.trim_nv(raw)
    assert trimmed == (path / "ek.der").read_bytes()
    ek = x509.parse(trimmed)
    anchors, others = [one(path / root)], [one(path / intermediate)]
    assert len(chain.verify_chain(ek, others, anchors, AT, "ek.chain", EK_EXTENSIONS)) == 3
    vendor = tpm2.vendor_of(ek)
    assert (vendor.vendor, vendor.model, vendor.version) == (
        "STMicroelectronics",
        "ST33HTPHAHB4",
        "id:00490004",
    )
    assert not vendor.emulator
    late = datetime(2029, 1, 1, tzinfo=timezone.utc)
    with pytest.raises(Untrusted) as refused:
        chain.verify_chain(ek, others, anchors, late, "ek.chain", EK_EXTENSIONS)
    assert refused.value.code == "ek.chain.expired"


def test_padding_in_nv_is_trimmed_by_the_collector_and_refused_in_an_item() -> None:
    raw = (vector("tpm", "hw-ek-st-rsa2048") / "ek_nv_raw.bin").read_bytes()
    with pytest.raises(Malformed) as refused:
        x509.parse(raw)
    assert refused.value.code == "x509.encoding"
    with pytest.raises(Malformed) as refused:
        tpm2.trim_nv(raw[:-1] + b"\x01")
    assert refused.value.code == "tpm2.ek_nv"


def test_a_root_that_the_certificate_loader_of_cryptography_refuses() -> None:
    data = (vector("tpm", "quirk-nuvoton-rootca-badset") / "ca.der").read_bytes()
    root = x509.parse(data)
    chain.verify_signed_by(root, root, "ek.chain")
    assert root.basic_constraints() == (True, 0)
    assert isinstance(root.public_key(), ec.EllipticCurvePublicKey)
    assert b"Nuvoton TPM Root CA 2110" in root.subject


# --- Azure --------------------------------------------------------------------------------------------------------------


def azure_key(path: Path) -> tpm2.Public:
    """Azure hands out the AK as a PEM or JWK; only the key and RSASSA with SHA-256 matter here."""
    pem = path / "akpub.pem"
    if pem.exists():
        key = load_pem_public_key(pem.read_bytes())
    else:
        report = (path / "hcl_report.bin").read_bytes()
        start = report.index(b'{"keys"')
        document = json.loads(report[start : report.rindex(b"}") + 1])
        jwk = next(found for found in document["keys"] if found["kid"] == "HCLAkPub")
        numbers = [int.from_bytes(unb64u(jwk[name]), "big") for name in ("e", "n")]
        key = rsa.RSAPublicNumbers(*numbers).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    return tpm2.parse_public(
        marshal.public(key, attributes=marshal.AK_ATTRIBUTES, scheme=(marshal.RSASSA, "sha256"))
    )


AZURE = [("tpm", "azure-vtpm-quote", "quote")] + [
    ("azure-vtpm", name, "tpm_quote")
    for name in ("azure-milan-v0", "azure-milan-v1", "azure-milan-v2", "azure-tdx-v0")
]


@pytest.mark.parametrize(("kind", "name", "stem"), AZURE)
def test_azure_quotes(kind: str, name: str, stem: str) -> None:
    path = vector(kind, name)
    ak = azure_key(path)
    attest = tpm2.parse_attest((path / f"{stem}.msg").read_bytes())
    raw = marshal.rsa_signature(marshal.RSASSA, "sha256", (path / f"{stem}.sig").read_bytes())
    signature = tpm2.parse_signature(raw)
    signatures.verify(ak, attest.raw, signature, "x")
    with pytest.raises(Untrusted):
        signatures.verify(ak, attest.raw, tpm2.parse_signature(corrupted(raw, 100)), "x")
    expected = claims(path)
    assert attest.extra_data.hex() == expected.get("nonce_hex", expected.get("extra_data"))
    values = (path / "pcrs_sha256.hex").read_text().split()
    pcrs = {"sha256": {number: bytes.fromhex(value) for number, value in enumerate(values)}}
    assert isinstance(attest.attested, structures.QuoteInfo)
    assert tpm2.pcr_digest(signature.hash, attest.attested.pcr_select, pcrs) == attest.attested.pcr_digest
    assert attest.attested.pcr_digest.hex() == expected["pcr_digest"]


def test_the_key_of_another_vector_verifies_nothing() -> None:
    path, other = vector("azure-vtpm", "azure-milan-v0"), vector("tpm", "azure-vtpm-quote")
    attest = (path / "tpm_quote.msg").read_bytes()
    raw = marshal.rsa_signature(marshal.RSASSA, "sha256", (path / "tpm_quote.sig").read_bytes())
    with pytest.raises(Untrusted):
        signatures.verify(azure_key(other), attest, tpm2.parse_signature(raw), "x")


# --- every binary file, cut and lengthened ---------------------------------------------------------------------------

PARSERS: list[tuple[str, str, Callable[[bytes], object]]] = [
    ("swtpm-full-chain", "ak.pub", tpm2.parse_public),
    ("swtpm-full-chain", "quote.msg", tpm2.parse_attest),
    ("swtpm-full-chain", "certify.att", tpm2.parse_attest),
    ("swtpm-full-chain", "quote.sig", tpm2.parse_signature),
    ("swtpm-full-chain", "ek_cert.der", x509.parse),
    ("gce-gce-cos-85-no-nonce", "ak_tpmt_public.bin", tpm2.parse_public),
    ("gce-gce-cos-85-no-nonce", "quote2_sha384.msg", tpm2.parse_attest),
    ("gce-gce-cos-85-no-nonce", "quote2_sha384.sig", tpm2.parse_signature),
    ("hw-ek-st-p256", "ek.der", x509.parse),
    ("quirk-nuvoton-rootca-badset", "ca.der", x509.parse),
]


@pytest.mark.parametrize(("name", "file", "parse"), PARSERS)
def test_every_truncation_and_a_trailing_byte_refuse(
    name: str, file: str, parse: Callable[[bytes], object]
) -> None:
    data = (vector("tpm", name) / file).read_bytes()
    parse(data)
    for size in range(len(data)):
        with pytest.raises(RluError):
            parse(data[:size])
    with pytest.raises(Malformed):
        parse(data + b"\x00")


def test_spki_is_the_der_of_the_key() -> None:
    ek = x509.parse((vector("tpm", "hw-ek-st-p256") / "ek.der").read_bytes())
    assert ek.spki == ek.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
