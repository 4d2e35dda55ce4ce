"""Verify what an RLU deployment signs, offline and from the bytes: `verify(Context(bundle=…, policy=…, at=…)) -> Verdict`.

    from rlu_attestation import Context, load_bundle, load_policy, verify

    verdict = verify(Context(bundle=load_bundle(path), policy=load_policy(policy), at=int(time.time())))
    verdict.exit_code, verdict.failures, verdict.claims

Names are loaded when they are first used, so that importing the package costs nothing. What is not in `__all__` may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlu_attestation.assemble import Assembled, Pieces, read_piece, recognise
    from rlu_attestation.assemble import assemble as assemble_evidence
    from rlu_attestation.assemble import join as join_pieces
    from rlu_attestation.bundle import Bundle, Collateral, EvidenceItem, Exchange, Logged
    from rlu_attestation.bundle import parse as parse_bundle
    from rlu_attestation.errors import Malformed, Refused, RluError, Unreachable, Unsupported, Untrusted
    from rlu_attestation.files import load_bundle, load_policy
    from rlu_attestation.policy import Policy, PolicyError
    from rlu_attestation.policy_file import parse as parse_policy
    from rlu_attestation.policy_sources import OperatorRoot, with_roots
    from rlu_attestation.root_files import load_roots
    from rlu_attestation.verdict import Claim, Outcome, Result, Source, Step, Verdict
    from rlu_attestation.verifier import Context, EvidenceContext, verify, verify_evidence

__all__ = [
    "Assembled",
    "Bundle",
    "Claim",
    "Collateral",
    "Context",
    "EvidenceContext",
    "EvidenceItem",
    "Exchange",
    "Logged",
    "Malformed",
    "OperatorRoot",
    "Outcome",
    "Pieces",
    "Policy",
    "PolicyError",
    "Refused",
    "Result",
    "RluError",
    "Source",
    "Step",
    "Unreachable",
    "Unsupported",
    "Untrusted",
    "Verdict",
    "assemble_evidence",
    "join_pieces",
    "load_bundle",
    "load_policy",
    "load_roots",
    "parse_bundle",
    "parse_policy",
    "read_piece",
    "recognise",
    "verify",
    "verify_evidence",
    "with_roots",
]

_HOME = {
    "assemble": ("Assembled", "Pieces", "read_piece", "recognise"),
    "bundle": ("Bundle", "Collateral", "EvidenceItem", "Exchange", "Logged"),
    "errors": ("Malformed", "Refused", "RluError", "Unreachable", "Unsupported", "Untrusted"),
    "files": ("load_bundle", "load_policy"),
    "policy": ("Policy", "PolicyError"),
    "verdict": ("Claim", "Outcome", "Result", "Source", "Step", "Verdict"),
    "policy_sources": ("OperatorRoot", "with_roots"),
    "root_files": ("load_roots",),
    "verifier": ("Context", "EvidenceContext", "verify", "verify_evidence"),
}
_PLACES = {name: (module, name) for module, names in _HOME.items() for name in names} | {
    "assemble_evidence": ("assemble", "assemble"),  # the name without its object is the module's
    "join_pieces": ("assemble", "join"),
    "parse_bundle": ("bundle", "parse"),
    "parse_policy": ("policy_file", "parse"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)
