"""TPM 2.0 evidence (FORMATS section 4): parse, verify step by step, and what attestor and registrar need to make it.

For the verifier:

    evidence = tpm2.parse(data)                                   # Tpm2Evidence: well-formed, nothing verified
    tpm2.verify_ek_chain(evidence, ek_roots, at)                  # step ek.chain        -> path of certificates
    tpm2.ek_vendor(evidence)                                      # step ek.vendor       -> TpmVendor(…, emulator)
    tpm2.verify_ak_certificate(evidence, registrars, at)          # step ak.certificate  -> Endorsement(region, boundary, site, …)
    tpm2.verify_ak_attributes(evidence)                           # step ak.attributes
    tpm2.verify_key_attributes(evidence)                          # step key.attributes  -> the instance key; compare with `cnf`
    tpm2.verify_key_policy(evidence)                              # step key.policy
    tpm2.verify_key_certify(evidence)                             # step key.certify
    tpm2.verify_quote_signature(evidence)                         # step quote.signature
    tpm2.verify_quote_binding(evidence, binding)                  # step quote.binding
    tpm2.verify_quote_pcrs(evidence)                              # step quote.pcrs      -> {bank: {pcr: value}}
    tpm2.verify_quote_clock(evidence)                             # step quote.clock
    tpm2.verify_quote_eventlog(evidence)                          # step quote.eventlog  -> Replay, or None without a log
    tpm2.verify_quote_ima(evidence)                               # step quote.ima       -> ImaReplay, or None without a list

A refusal is `Untrusted` (or `Unsupported`, `Malformed`) with the code `<step>.<cause>`. Trust anchors are `x509.Certificate`s
(`x509.parse_many` reads PEM or DER files); `at` is an aware datetime. The steps do not depend on one another's order, but only all of
them together prove anything.

Structures, policy digests and the steps that do not depend on who vouches for the AK come from `rlu_attestation.tpm`.

For the attestor: `selection_bytes`, `pcr_digest`, `key_policy`, `KEY_ATTRIBUTES`, `parse_public`, `name_of`, `trim_nv`, `encode`.
For the registrar: `verify_ek_certificate`, `trim_nv`, `vendor_of`, `parse_public`, `check_ak`, `name_of`,
`make_credential`, and `rlu_attestation.endorsement.issue`.
"""

from __future__ import annotations

from rlu_attestation.evidence.binding import BindingPath
from rlu_attestation.evidence.tpm2.credential import Challenge, make_credential
from rlu_attestation.evidence.tpm2.ek import TpmVendor, trim_nv, vendor_of
from rlu_attestation.evidence.tpm2.item import KIND, Tpm2Evidence, encode, parse
from rlu_attestation.evidence.tpm2.steps import (
    ek_vendor,
    verify_ak_certificate,
    verify_ek_certificate,
    verify_ek_chain,
)
from rlu_attestation.tpm.attest import (
    Attest,
    PcrSelection,
    Signature,
    parse_attest,
    parse_pcr_selection,
    parse_signature,
)
from rlu_attestation.tpm.checks import (
    KEY_ATTRIBUTES,
    check_ak,
    verify_ak_attributes,
    verify_key_attributes,
    verify_key_certify,
    verify_key_policy,
    verify_quote_binding,
    verify_quote_clock,
    verify_quote_eventlog,
    verify_quote_ima,
    verify_quote_pcrs,
    verify_quote_signature,
)
from rlu_attestation.tpm.constants import Alg, Attribute, Curve
from rlu_attestation.tpm.eventlog import Event, EventLog, Replay
from rlu_attestation.tpm.ima import ImaReplay
from rlu_attestation.tpm.ima_log import ImaEntry, ImaLog
from rlu_attestation.tpm.members import Attested
from rlu_attestation.tpm.policy import PcrValues, key_policy, pcr_digest, selection_bytes
from rlu_attestation.tpm.public import Public, name_of, parse_public

__all__ = [
    "KEY_ATTRIBUTES",
    "KIND",
    "Alg",
    "Attest",
    "Attested",
    "Attribute",
    "BindingPath",
    "Challenge",
    "Curve",
    "Event",
    "EventLog",
    "ImaEntry",
    "ImaLog",
    "ImaReplay",
    "PcrSelection",
    "PcrValues",
    "Public",
    "Replay",
    "Signature",
    "Tpm2Evidence",
    "TpmVendor",
    "check_ak",
    "ek_vendor",
    "encode",
    "key_policy",
    "make_credential",
    "name_of",
    "parse",
    "parse_attest",
    "parse_pcr_selection",
    "parse_public",
    "parse_signature",
    "pcr_digest",
    "selection_bytes",
    "trim_nv",
    "vendor_of",
    "verify_ak_attributes",
    "verify_ak_certificate",
    "verify_ek_certificate",
    "verify_ek_chain",
    "verify_key_attributes",
    "verify_key_certify",
    "verify_key_policy",
    "verify_quote_binding",
    "verify_quote_clock",
    "verify_quote_eventlog",
    "verify_quote_ima",
    "verify_quote_pcrs",
    "verify_quote_signature",
]
