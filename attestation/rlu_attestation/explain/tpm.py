"""TPM evidence, field by field, under the TPM specification's names."""

from __future__ import annotations

from rlu_attestation.evidence import tpm2
from rlu_attestation.evidence.tpm2 import Tpm2Evidence
from rlu_attestation.explain.certificates import explain_certificate
from rlu_attestation.explain.section import Row, Section
from rlu_attestation.tpm import describe
from rlu_attestation.tpm.attest import parse_attest
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


def explain_attest(data: bytes, title: str) -> Section:
    """A TPMS_ATTEST. Raises Malformed, Unsupported."""
    return _rows(title, describe.describe_attest(parse_attest(data)))


def _titled(title: str, certificate: Certificate) -> Section:
    section = explain_certificate(certificate)
    return Section(f"{title}: {section.title}", section.rows)


def _rows(title: str, rows: list[tuple[str, str, str]]) -> Section:
    return Section(title, tuple(Row(*row) for row in rows))
