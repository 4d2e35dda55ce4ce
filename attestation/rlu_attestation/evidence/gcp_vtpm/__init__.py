"""Evidence of a Google Compute Engine instance's virtual TPM (FORMATS section 4.6): parse, verify step by step, claims.

For the verifier:

    evidence = gcp_vtpm.parse(data)                       # GcpVtpmEvidence: well-formed, nothing verified
    gcp_vtpm.verify_root(evidence, roots)                 # step gcp-vtpm.root         -> Root; `roots` default to Google's
    gcp_vtpm.verify_chain(evidence, at)                   # step gcp-vtpm.chain        -> path of certificates
    gcp_vtpm.verify_certificate(evidence)                 # step gcp-vtpm.certificate  -> GceInstance(zone, region, project_id, …)
    gcp_vtpm.verify_ak(evidence)                          # step gcp-vtpm.ak
    gcp_vtpm.verify_revocation(evidence, at, beside)      # step gcp-vtpm.revocation   -> the revocation lists

and, of `rlu_attestation.tpm.checks`, all from `ak.attributes` to `quote.ima`; or `claims = gcp_vtpm.verify(evidence, at, roots)`, which
runs all but revocation and binding. `describe` gives rows for people, `encode` makes an item. Region and zone are *endorsed* by Google.
"""

from __future__ import annotations

from rlu_attestation.evidence.gcp_vtpm.claims import GcpVtpmClaims
from rlu_attestation.evidence.gcp_vtpm.describe import Row, describe
from rlu_attestation.evidence.gcp_vtpm.instance import GceInstance, instance_of, parse_instance
from rlu_attestation.evidence.gcp_vtpm.item import KIND, GcpVtpmEvidence, encode, parse
from rlu_attestation.evidence.gcp_vtpm.roots import PINNED, Root
from rlu_attestation.evidence.gcp_vtpm.steps import (
    verify,
    verify_ak,
    verify_certificate,
    verify_chain,
    verify_revocation,
    verify_root,
)

__all__ = [
    "KIND",
    "PINNED",
    "GceInstance",
    "GcpVtpmClaims",
    "GcpVtpmEvidence",
    "Root",
    "Row",
    "describe",
    "encode",
    "instance_of",
    "parse",
    "parse_instance",
    "verify",
    "verify_ak",
    "verify_certificate",
    "verify_chain",
    "verify_revocation",
    "verify_root",
]
