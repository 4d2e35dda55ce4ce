"""`explain` recognises everything that RLU hands out, names every field, and never trips over what is broken."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.deployment import KEY, Deployment
from fakes.machine import registrar, vendor_root
from rlu_attestation import canonical, cose, jose
from rlu_attestation.bundle import Bundle
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError, Unsupported
from rlu_attestation.evidence import tpm2
from rlu_attestation.explain import Section, explain
from rlu_attestation.explain.statements import MEANINGS
from rlu_attestation.instance import Predecessor
from rlu_attestation.mentions import CanaryMention, LicenceMention
from rlu_attestation.models import FurtherModel, Software

VECTORS = Path(__file__).resolve().parents[3] / "attestation" / "vectors"


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return Deployment()


@pytest.fixture(scope="module")
def bundle(deployment: Deployment) -> Bundle:
    return deployment.bundle(1)


def names(section: Section) -> list[str]:
    return [row.name for row in section.rows]


def value(section: Section, name: str) -> str:
    return next(row.value for row in section.rows if row.name == name)


def part(section: Section, title: str) -> Section:
    return next(found for found in section.parts if found.title.startswith(title))


def test_a_bundle_with_all_its_parts(bundle: Bundle) -> None:
    section = explain(bundle.encode())
    assert section.title == "Bundle"
    assert [found.title.partition(":")[0] for found in section.parts] == [
        "attestation.statement",
        "evidence tpm2",
        "session",
        "exchange 1",
        "close",
        "head",
    ]
    exchange = part(section, "exchange 1")
    assert value(exchange, "request") == f"{len(bundle.exchanges[0].request or b'')} bytes"
    assert value(part(exchange, "statement"), "rlu_status") == "complete"
    assert value(part(exchange, "receipt"), "leaf_index") == "2"


def test_secrets_and_contents_are_not_shown(bundle: Bundle) -> None:
    text = json.dumps(explain(bundle.encode()).to_json())
    assert b64u(KEY) not in text
    assert "hello" not in text


def test_every_claim_of_every_statement_has_a_meaning(deployment: Deployment, bundle: Bundle) -> None:
    claims = replace(
        deployment.instance_claims(),
        predecessor=Predecessor("urn:x", b"head"),
        canary=CanaryMention(bytes(32), 1, "clean"),
        licence=LicenceMention(bytes(32), 1),
        further_models=(FurtherModel("another", bytes(32), Software("vllm", "0.32.0", bytes(32))),),
    )
    statements = [explain(deployment.jws(claims.encode()).encode())]
    for case in json.loads((VECTORS / "sessions.json").read_text()).values():
        statements += [explain(item["statement"].encode()) for item in case if isinstance(item, dict)]
    for section in statements:
        without = [row.name for row in section.rows if not row.meaning]
        assert without == [], section.title
    used = {name for section in statements for row in section.rows for name in _prefixes(row.name)}
    assert set(MEANINGS) - used == {"submods"}  # this one names no evidence


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def test_times_are_told_in_words(bundle: Bundle) -> None:
    section = explain(bundle.statement.encode())
    assert value(section, "iat") == "1780271990 (2026-05-31T23:59:50Z)"
    payload = canonical.decode(jose.jws_parse(bundle.statement).payload)
    payload["exp"] = 2**53 - 1
    assert "beyond the calendar" in value(explain(canonical.encode(payload)), "exp")


def test_tpm_evidence(bundle: Bundle) -> None:
    section = explain(bundle.evidence[0].data)
    titles = [found.title for found in section.parts]
    assert titles[:4] == [
        "ek_certificate: EK certificate",
        "ek_chain 0: certificate of an authority",
        "ak_public",
        "ak_certificate: AK certificate",
    ]
    assert value(part(section, "ek_certificate"), "tpmModel") == "SLB9672"
    assert value(part(section, "ak_certificate"), "region") == "eu-central-1"
    key = part(section, "key_public")
    assert "objectAttributes.USER_WITH_AUTH" not in names(key)
    assert "objectAttributes.FIXED_TPM" in names(key)
    assert value(part(section, "quote"), "magic") == "TPM_GENERATED_VALUE"
    assert "pcrDigest" in names(part(section, "quote"))
    assert "qualifiedName" in names(part(section, "certify"))
    assert len(part(section, "pcrs").rows) == 8


@pytest.mark.parametrize(
    ("file", "title"),
    [
        ("evidence-tpm2.json", "TPM 2.0 evidence"),
        ("evidence-sev-snp.json", "AMD SEV-SNP evidence"),
        ("evidence-nitro.json", "AWS Nitro"),
        ("evidence-gcp-vtpm.json", "Google"),
        ("evidence-azure-vtpm.json", "Azure"),
    ],
)
def test_published_evidence_of_every_kind(file: str, title: str) -> None:
    found = list(_items(json.loads((VECTORS / file).read_text())))
    assert found
    for item in found:
        section = explain(canonical.encode(item))
        assert section.title.startswith(title)
        assert len(section.rows) + len(section.parts) > 5


def _items(value: Any) -> Any:
    """The genuine items in a file of vectors, wherever they are."""
    if isinstance(value, dict):
        if isinstance(value.get("item"), dict) and "kind" in value["item"]:
            yield value["item"]
        else:
            for name, inner in value.items():
                if name != "refused":
                    yield from _items(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _items(inner)


def test_heads_receipts_and_what_is_base64url(deployment: Deployment, bundle: Bundle) -> None:
    assert bundle.session is not None
    assert bundle.head is not None
    assert explain(bundle.head).title == "signed head"
    receipt = explain(bundle.session.receipt)
    assert receipt.title == "COSE Receipt of inclusion"
    assert explain(b64u(bundle.session.receipt).encode() + b"\n") == receipt
    size = deployment.tree.size
    protected = deployment.protected(size)
    path = deployment.tree.consistency_path(2)
    proof = cose.assemble_consistency(protected, bytes(64), 2, size, path)
    assert explain(proof).title == "COSE Receipt of consistency"
    logged = {"statement": b64u(bundle.session.statement), "receipt": b64u(bundle.session.receipt)}
    assert [found.title for found in explain(json.dumps(logged).encode()).parts] == [
        "statement: session statement",
        "receipt: COSE Receipt of inclusion",
    ]


def test_certificates_and_bare_structures(bundle: Bundle) -> None:
    assert explain(vendor_root().der).title == "certificate of an authority"
    pem = b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
        for der in (vendor_root().der, registrar().der)
    )
    assert len(explain(pem).parts) == 2
    evidence = tpm2.parse(bundle.evidence[0].data)
    assert explain(evidence.quote.attest.raw).title == "TPMS_ATTEST"
    assert explain(b'{"kind":"none"}').title == "no evidence"


def test_a_broken_part_leaves_the_others_readable(bundle: Bundle) -> None:
    assert bundle.session is not None
    broken = replace(bundle, statement="x", session=replace(bundle.session, receipt=b"garbage"))
    section = explain(broken.encode())
    assert value(part(section, "attestation.statement"), "unreadable") == "statement.encoding"
    assert value(part(part(section, "session"), "receipt"), "unreadable") == "receipt.encoding"
    assert names(part(part(section, "session"), "statement"))


@pytest.mark.parametrize(
    ("name", "data", "kind", "code"),
    [
        ("empty", b"", Unsupported, "inspect.unknown"),
        ("text", b"hello world", Unsupported, "inspect.unknown"),
        ("base64url-of-nothing-known", b"AAAA", Unsupported, "inspect.unknown"),
        ("json-of-no-kind", b"{}", Unsupported, "inspect.unknown"),
        ("broken-json", b"{", Unsupported, "inspect.unknown"),
        ("unknown-profile", b'{"eat_profile":"x"}', Unsupported, "inspect.profile"),
        ("unknown-evidence", b'{"kind":"abacus"}', Unsupported, "inspect.kind"),
        ("broken-bundle", b'{"rlu_bundle":"1"}', Malformed, "bundle.encoding"),
        ("broken-evidence", b'{"kind":"tpm2"}', Malformed, "tpm2.item"),
        ("broken-cose", b"\xd2\x84", Malformed, "receipt.encoding"),
        ("broken-attest", b"\xffTCG", Malformed, "tpm2.attest"),
        ("broken-certificate", b"\x30\x82", Malformed, "x509.encoding"),
        ("logged-but-not-text", b'{"statement":1,"receipt":2}', Unsupported, "inspect.unknown"),
        ("dots", b"a.b.c", Malformed, None),
    ],
)
def test_what_is_unknown_or_broken(name: str, data: bytes, kind: type[RluError], code: str | None) -> None:
    with pytest.raises(kind) as refusal:
        explain(data)
    assert code is None or refusal.value.code == code, name


@given(
    st.binary(max_size=300)
    | st.builds(
        lambda a, b: a + b,
        st.sampled_from(
            [b"\xd2", b"\xffTCG", b"\x30", b"{", b"a.b.", b'{"kind":"', b"-----BEGIN CERTIFICATE-----"]
        ),
        st.binary(max_size=100),
    )
)
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    with suppress(RluError):
        explain(data)
