"""AWS Nitro Enclaves and NitroTPM evidence (FORMATS section 4.3): parse, verify step by step, claims.

For the verifier:

    evidence = nitro.parse(data)                          # NitroEvidence of kind `nitro` or `nitrotpm`: well-formed, nothing verified
    nitro.verify_root(evidence, roots)                    # step <kind>.root         -> Root; `roots` default to AWS's
    nitro.verify_chain(evidence, at)                      # step <kind>.chain        -> path of certificates
    nitro.verify_certificate(evidence)                    # step <kind>.certificate  -> the signer's key
    nitro.verify_signature(evidence)                      # step <kind>.signature
    nitro.verify_timestamp(evidence, at, max_age)         # step <kind>.timestamp    -> when it was made
    nitro.verify_revocation(evidence, at)                 # step <kind>.revocation   -> the revocation lists used
    nitro.verify_binding(evidence, binding)               # step <kind>.binding

or `claims = nitro.verify(evidence, at, roots)`, which runs the first four. `from_parts` takes a bare document, `verify_nonce` checks one
that is not RLU's, `describe` gives rows for people, `encode` makes an item.
"""

from __future__ import annotations

from rlu_attestation.evidence.nitro.claims import NitroClaims
from rlu_attestation.evidence.nitro.describe import Row, describe
from rlu_attestation.evidence.nitro.document import AttestationDocument, Kind, parse_document
from rlu_attestation.evidence.nitro.item import KINDS, NitroEvidence, encode, from_parts, parse
from rlu_attestation.evidence.nitro.roots import PINNED, Root
from rlu_attestation.evidence.nitro.steps import (
    MAX_SKEW,
    claims_of,
    verify,
    verify_binding,
    verify_certificate,
    verify_chain,
    verify_nonce,
    verify_revocation,
    verify_root,
    verify_signature,
    verify_timestamp,
)

__all__ = [
    "KINDS",
    "MAX_SKEW",
    "PINNED",
    "AttestationDocument",
    "Kind",
    "NitroClaims",
    "NitroEvidence",
    "Root",
    "Row",
    "claims_of",
    "describe",
    "encode",
    "from_parts",
    "parse",
    "parse_document",
    "verify",
    "verify_binding",
    "verify_certificate",
    "verify_chain",
    "verify_nonce",
    "verify_revocation",
    "verify_root",
    "verify_signature",
    "verify_timestamp",
]
