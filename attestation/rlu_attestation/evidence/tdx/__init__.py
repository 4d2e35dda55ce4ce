"""Intel TDX evidence (FORMATS section 4.4): parse, verify step by step, claims.

For the verifier:

    evidence = tdx.parse(data)                                # TdxEvidence: well-formed, nothing verified
     1. tdx.verify_root(evidence, roots)                      # step tdx.root            -> Root; `roots` default to Intel's
     2. tdx.verify_chain(evidence, at)                        # step tdx.chain           -> path of certificates
     3. pck = tdx.verify_pck(evidence)                        # step tdx.pck             -> PckExtensions(fmspc, pce_id, tcb, …)
     4. tdx.verify_qe_report(evidence)                        # step tdx.qe_report       -> EnclaveReport
     5. tdx.verify_attestation_key(evidence)                  # step tdx.attestation_key -> public key
     6. tdx.verify_signature(evidence)                        # step tdx.signature
     7. info = tdx.verify_tcb_info(evidence, at)              # step tdx.tcb_info        -> TcbInfo
     8. identity = tdx.verify_qe_identity(evidence, at)       # step tdx.qe_identity     -> QeIdentity
     9. qe = tdx.verify_qe(evidence, identity)                # step tdx.qe              -> SvnLevel
    10. module = tdx.verify_module(evidence, info)            # step tdx.module          -> ModuleLevel
    11. tdx.verify_tcb(evidence, pck, info, module, qe)       # step tdx.tcb             -> TcbEvaluation
    12. tdx.verify_revocation(evidence, at)                   # step tdx.revocation      -> the two revocation lists
    13. tdx.verify_binding(evidence, binding)                 # step tdx.binding
    14. tdx.verify_event_log(evidence)                        # step tdx.event_log       -> Replay; only where a log is stapled

or `claims = tdx.verify(evidence, at, roots)`, which runs the first eleven; `claims_of` makes the claims of steps that were run singly.
Without collateral, 7, 8 and 12 fail as `tdx.collateral.missing`. `from_parts` takes a bare quote, which `trim` cuts out of a platform's
buffer; `collateral_from_json` reads what PCCS clients store, `split_signed` what Intel's service answers; `describe` gives rows for
people; `encode` makes an item.
"""

from __future__ import annotations

from rlu_attestation.evidence.tdx.body import BodyType, TdAttributes, TdReport
from rlu_attestation.evidence.tdx.claims import TdxClaims, claims_of
from rlu_attestation.evidence.tdx.collateral import Collateral, collateral_from_json, split_signed
from rlu_attestation.evidence.tdx.describe import Row, describe, describe_quote
from rlu_attestation.evidence.tdx.enclave import EnclaveReport
from rlu_attestation.evidence.tdx.endorsements import verify_qe_identity, verify_revocation, verify_tcb_info
from rlu_attestation.evidence.tdx.event_log import Replay, parse_event_log, verify_event_log
from rlu_attestation.evidence.tdx.item import KIND, TdxEvidence, encode, from_parts, parse
from rlu_attestation.evidence.tdx.pck import PckExtensions, PckTcb, SgxType, parse_extensions
from rlu_attestation.evidence.tdx.qe_identity import QeIdentity, parse_qe_identity
from rlu_attestation.evidence.tdx.quote import Quote, is_quote, parse_quote, trim
from rlu_attestation.evidence.tdx.roots import PINNED, Root
from rlu_attestation.evidence.tdx.status import TcbStatus, converge, relaunch
from rlu_attestation.evidence.tdx.steps import (
    verify,
    verify_attestation_key,
    verify_binding,
    verify_chain,
    verify_module,
    verify_pck,
    verify_qe,
    verify_qe_report,
    verify_report_data,
    verify_root,
    verify_signature,
    verify_tcb,
)
from rlu_attestation.evidence.tdx.tcb import ModuleLevel, TcbEvaluation
from rlu_attestation.evidence.tdx.tcb_info import SvnLevel, TcbInfo, TcbLevel, parse_tcb_info

__all__ = [
    "KIND",
    "PINNED",
    "BodyType",
    "Collateral",
    "EnclaveReport",
    "ModuleLevel",
    "PckExtensions",
    "PckTcb",
    "QeIdentity",
    "Quote",
    "Replay",
    "Root",
    "Row",
    "SgxType",
    "SvnLevel",
    "TcbEvaluation",
    "TcbInfo",
    "TcbLevel",
    "TcbStatus",
    "TdAttributes",
    "TdReport",
    "TdxClaims",
    "TdxEvidence",
    "claims_of",
    "collateral_from_json",
    "converge",
    "describe",
    "describe_quote",
    "encode",
    "from_parts",
    "is_quote",
    "parse",
    "parse_event_log",
    "parse_extensions",
    "parse_qe_identity",
    "parse_quote",
    "parse_tcb_info",
    "relaunch",
    "split_signed",
    "trim",
    "verify",
    "verify_attestation_key",
    "verify_binding",
    "verify_chain",
    "verify_event_log",
    "verify_module",
    "verify_pck",
    "verify_qe",
    "verify_qe_identity",
    "verify_qe_report",
    "verify_report_data",
    "verify_revocation",
    "verify_root",
    "verify_signature",
    "verify_tcb",
    "verify_tcb_info",
]
