"""Step 5: TPM evidence. Each check is a function of `evidence.tpm2`; all must pass before the key counts as held by the TPM."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence import tpm2
from rlu_attestation.evidence.tpm2 import PcrValues, Replay, Tpm2Evidence, TpmVendor
from rlu_attestation.verifier.context import Context, SignedStatement, TpmProof, VerifiedInstance
from rlu_attestation.verifier.trail import Failed, NotApplicable, Trail, need

_STEPS = (
    "ek.chain",
    "ek.vendor",
    "ak.certificate",
    "ak.attributes",
    "key.attributes",
    "key.match",
    "key.policy",
    "key.certify",
    "quote.signature",
    "quote.binding",
    "quote.pcrs",
    "quote.clock",
    "quote.eventlog",
)


def check_tpm(
    trail: Trail, context: Context, signed: SignedStatement | Failed, held: Tpm2Evidence | Failed
) -> VerifiedInstance | Failed:
    """Run the steps; gives a `Failed` unless every one passed."""
    roots, registrars, at = context.policy.ek_roots, context.policy.registrars, context.moment
    check = trail.check
    chain = check("ek.chain", lambda: tpm2.verify_ek_chain(need(held), roots, at))
    vendor = check("ek.vendor", lambda: tpm2.ek_vendor(need(held)), describe_vendor)
    place = check("ak.certificate", lambda: tpm2.verify_ak_certificate(need(held), registrars, at))
    restricted = check("ak.attributes", lambda: tpm2.verify_ak_attributes(need(held)))
    key = check("key.attributes", lambda: tpm2.verify_key_attributes(need(held)))
    same = check("key.match", lambda: verify_match(need(signed), need(key)))
    authorized = check("key.policy", lambda: tpm2.verify_key_policy(need(held)))
    certified = check("key.certify", lambda: tpm2.verify_key_certify(need(held)))
    quoted = check("quote.signature", lambda: tpm2.verify_quote_signature(need(held)))
    bound = check("quote.binding", lambda: tpm2.verify_quote_binding(need(held), need(signed).binding))
    pcrs = check("quote.pcrs", lambda: tpm2.verify_quote_pcrs(need(held)), describe_pcrs)
    clock = check("quote.clock", lambda: tpm2.verify_quote_clock(need(held)))
    log = check("quote.eventlog", lambda: verify_eventlog(need(held)), describe_replay)
    results = (
        chain,
        vendor,
        place,
        restricted,
        key,
        same,
        authorized,
        certified,
        quoted,
        bound,
        pcrs,
        clock,
        log,
    )
    failed = next((result for result in results if isinstance(result, Failed)), None)
    if failed is not None:
        return failed
    return VerifiedInstance(need(signed), TpmProof(need(vendor), need(place), need(pcrs)))


def skip_tpm(trail: Trail) -> None:
    """List the steps for a software key that the caller accepts."""

    def nothing() -> None:
        raise NotApplicable("no hardware holds this key")

    for step in _STEPS:
        trail.check(step, nothing)


def verify_match(signed: SignedStatement, key: ec.EllipticCurvePublicKey) -> None:
    """The key in the evidence is the one that signed the statement.

    Raises:
        Untrusted: `key.match.differs`.
    """
    if key != signed.key:
        raise Untrusted("key.match.differs", "the evidence is about another key than the one that signs")


def verify_eventlog(evidence: Tpm2Evidence) -> Replay:
    """The replayed log; not applicable without one."""
    replay = tpm2.verify_quote_eventlog(evidence)
    if replay is None:
        raise NotApplicable("the evidence holds no event log")
    return replay


def describe_vendor(vendor: TpmVendor) -> str:
    """The TPM in words."""
    parts = (vendor.vendor or vendor.manufacturer or "unknown vendor", vendor.model, vendor.version)
    named = " ".join(part for part in parts if part)
    return f"{named}, an emulator" if vendor.emulator else named


def describe_pcrs(pcrs: PcrValues) -> str:
    """Banks and numbers in words."""
    return "; ".join(f"{bank} {', '.join(map(str, sorted(values)))}" for bank, values in sorted(pcrs.items()))


def describe_replay(replay: Replay) -> str:
    return f"{len(replay.log.events)} events"
