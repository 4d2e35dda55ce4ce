"""What every kind with a TPM shares: the instance key is in the TPM of the AK, and that TPM quoted for this statement.

Who vouches for the AK differs: a registrar (`tpm2`), Google (`gcp_vtpm`), or the TEE around a virtual TPM (`azure_vtpm`).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation.errors import Untrusted
from rlu_attestation.tpm import checks
from rlu_attestation.tpm.eventlog import Replay
from rlu_attestation.tpm.ima import ImaReplay
from rlu_attestation.tpm.members import TpmEvidence
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.proof import PcrBanks
from rlu_attestation.verifier.trail import Failed, NotApplicable, Trail, need


@dataclass(frozen=True, slots=True)
class Quoted:
    """Outcomes of the shared steps; `pcrs` counts for nothing as long as one of `results` blocks."""

    pcrs: PcrBanks | Failed
    results: tuple[object, ...]


def check_tpm(trail: Trail, subject: Subject, held: TpmEvidence | Failed) -> Quoted:
    """Run the steps."""
    run = trail.check
    restricted = run("ak.attributes", lambda: checks.verify_ak_attributes(need(held)))
    key = run("key.attributes", lambda: checks.verify_key_attributes(need(held)))
    same = run("key.match", lambda: verify_match(subject, need(key)))
    authorized = run("key.policy", lambda: checks.verify_key_policy(need(held)))
    certified = run("key.certify", lambda: checks.verify_key_certify(need(held)))
    quoted = run("quote.signature", lambda: checks.verify_quote_signature(need(held)))
    bound = run("quote.binding", lambda: _bind(need(held), subject), str)
    pcrs = run("quote.pcrs", lambda: checks.verify_quote_pcrs(need(held)), describe_pcrs)
    clock = run("quote.clock", lambda: checks.verify_quote_clock(need(held)))
    log = run("quote.eventlog", lambda: verify_eventlog(need(held)), describe_replay)
    ima = run("quote.ima", lambda: verify_ima(need(held)), str)
    return Quoted(pcrs, (restricted, key, same, authorized, certified, quoted, bound, pcrs, clock, log, ima))


def verify_match(subject: Subject, key: ec.EllipticCurvePublicKey) -> None:
    """The key in the evidence is the one that signed the statement.

    Raises:
        Untrusted: `key.match.differs`.
    """
    if subject.signed is None:
        raise NotApplicable("evidence alone: no statement is here")
    if key != need(subject.signed).key:
        raise Untrusted("key.match.differs", "the evidence is about another key than the one that signs")


def verify_eventlog(evidence: TpmEvidence) -> Replay:
    """The replayed log; not applicable without one."""
    replay = checks.verify_quote_eventlog(evidence)
    if replay is None:
        raise NotApplicable("the evidence holds no event log")
    return replay


def verify_ima(evidence: TpmEvidence) -> str:
    """The kernel's list, replayed; not applicable without one."""
    replay = checks.verify_quote_ima(evidence)
    if replay is None:
        raise NotApplicable("the evidence holds no list of the kernel's")
    return describe_ima(replay)


def describe_ima(replay: ImaReplay) -> str:
    """What the list proves, and what not."""
    later = f", {replay.later} later ones prove nothing" if replay.later else ""
    boot = f", boot aggregate {replay.boot_aggregate}" if replay.boot_aggregate else ""
    return f"{replay.covered} files, {replay.violations} violations{later}{boot}"


def describe_pcrs(pcrs: PcrBanks) -> str:
    """Banks and numbers in words."""
    return "; ".join(f"{bank} {', '.join(map(str, sorted(values)))}" for bank, values in sorted(pcrs.items()))


def describe_replay(replay: Replay) -> str:
    return f"{len(replay.log.events)} events"


def _bind(held: TpmEvidence, subject: Subject) -> str:
    def alone(expected: bytes) -> None:
        if not hmac.compare_digest(expected, held.quote.attest.extra_data):
            raise Untrusted("quote.binding.mismatch", "the qualifying data is not what you expect")

    return subject.bound("quote.binding", lambda binding: checks.verify_quote_binding(held, binding), alone)
