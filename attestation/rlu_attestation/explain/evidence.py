"""Evidence items: which kind, and how that kind explains itself."""

from __future__ import annotations

from rlu_attestation.errors import Unsupported
from rlu_attestation.evidence import kind_of, tpm2
from rlu_attestation.explain.section import Row, Section
from rlu_attestation.explain.tpm import explain_tpm2


def explain_evidence(data: bytes) -> Section:
    """An item of evidence.

    Raises:
        Malformed: it is of a known kind and broken.
        Unsupported: `inspect.kind`.
    """
    kind = kind_of(data)
    if kind == tpm2.KIND:
        return explain_tpm2(tpm2.parse(data))
    if kind == "none":
        return Section("no evidence", (Row("kind", "none", "a software key: no hardware speaks for it"),))
    raise Unsupported("inspect.kind", "evidence of a kind that is not known here")
