"""TPM evidence, field by field, under the TPM specification's names."""

from __future__ import annotations

from collections.abc import Callable

from rlu_attestation.errors import RluError
from rlu_attestation.evidence import tpm2
from rlu_attestation.evidence.tpm2 import Tpm2Evidence
from rlu_attestation.explain.certificates import explain_certificate
from rlu_attestation.explain.section import Row, Section
from rlu_attestation.tpm import describe, eventlog, ima_log
from rlu_attestation.tpm.attest import parse_attest, parse_signature
from rlu_attestation.tpm.constants import Alg
from rlu_attestation.tpm.public import parse_public
from rlu_attestation.x509 import Certificate


def explain_tpm2(evidence: Tpm2Evidence) -> Section:
    """All parts of an evidence item."""
    binding = evidence.binding
    parts = [
        _titled("ek_certificate", evidence.ek_certificate),
        *(_titled(f"ek_chain {n}", certificate) for n, certificate in enumerate(evidence.ek_chain)),
        _rows("ak_public", describe.describe_public(evidence.ak_public)),
        _titled("ak_certificate", evidence.ak_certificate),
        *(_titled(f"ak_chain {n}", certificate) for n, certificate in enumerate(evidence.ak_chain)),
        _rows("key_public", describe.describe_public(evidence.key_public)),
        _rows("certify", describe.describe_attested(evidence.certify)),
        _rows("quote", describe.describe_attested(evidence.quote)),
        _rows("pcrs", describe.describe_pcrs(evidence.pcrs)),
        Section(
            "binding",
            (
                Row("leaf_index", str(binding.leaf_index), "this statement among those that share the quote"),
                Row("tree_size", str(binding.tree_size), "statements that share the quote"),
                Row("path", " ".join(node.hex() for node in binding.path) or "empty"),
            ),
        ),
    ]
    if evidence.event_log is not None:
        events = describe.describe_event_log(evidence.event_log)
        parts.append(_rows(f"event_log: {len(events)} events", events))
    if evidence.ima_log is not None:
        entries = describe.describe_ima_log(evidence.ima_log)
        parts.append(_rows(f"ima_log: {len(entries)} entries", entries))
    return Section("TPM 2.0 evidence", (Row("kind", tpm2.KIND),), tuple(parts))


def explain_event_log(data: bytes) -> Section:
    """A firmware's event log. Raises Malformed: `tpm2.event_log`, `tdx.event_log.encoding`."""
    from rlu_attestation.evidence import tdx

    # Firmware for TDs describes the log in register 1, and pads it; a TPM's is described in PCR 0.
    log = tdx.parse_event_log(data) if data[:1] == b"\x01" else eventlog.parse(data)
    rows = describe.describe_event_log(log)
    return _rows(f"TCG event log, crypto-agile: {len(rows)} events", rows)


def explain_structure(data: bytes) -> Section | None:
    """A structure that no magic number tells: a public area, a signature, or a list of the kernel's; None for none of them."""
    for is_like, title, make in _STRUCTURES:
        if not is_like(data):
            continue
        try:
            return _rows(title, make(data))
        except RluError:
            continue
    return None


def _signature_rows(data: bytes) -> list[tuple[str, str, str]]:
    found = parse_signature(data)
    return [
        ("sigAlg", found.scheme.name, "scheme"),
        ("hash", found.hash.name, "hash of what was signed"),
        ("size", str(len(data)), "bytes; not verified here"),
    ]


def _algorithm(data: bytes) -> int:
    return int.from_bytes(data[:2], "big")


_STRUCTURES: tuple[
    tuple[Callable[[bytes], bool], str, Callable[[bytes], list[tuple[str, str, str]]]], ...
] = (
    (
        lambda data: _algorithm(data) in (Alg.RSA, Alg.ECC),
        "TPMT_PUBLIC",
        lambda data: describe.describe_public(parse_public(data)),
    ),
    (
        # TPM2B_PUBLIC, as tools write it: its size comes first.
        lambda data: _algorithm(data) == len(data) - 2,
        "TPM2B_PUBLIC",
        lambda data: describe.describe_public(parse_public(data[2:])),
    ),
    (lambda data: _algorithm(data) in (Alg.RSASSA, Alg.ECDSA, Alg.RSAPSS), "TPMT_SIGNATURE", _signature_rows),
    (
        lambda data: data[:4] == b"\x0a\0\0\0" or data[:3] == b"10 ",
        "IMA measurement list",
        lambda data: describe.describe_ima_log(ima_log.parse(data)),
    ),
)


def explain_attest(data: bytes, title: str) -> Section:
    """A TPMS_ATTEST. Raises Malformed, Unsupported."""
    return _rows(title, describe.describe_attest(parse_attest(data)))


def _titled(title: str, certificate: Certificate) -> Section:
    section = explain_certificate(certificate)
    return Section(f"{title}: {section.title}", section.rows)


def _rows(title: str, rows: list[tuple[str, str, str]]) -> Section:
    return Section(title, tuple(Row(*row) for row in rows))
