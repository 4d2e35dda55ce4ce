"""AWS Nitro: an enclave (`nitro`), or an EC2 instance with NitroTPM (`nitrotpm`); AWS's hypervisor signs what it measured."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence import nitro
from rlu_attestation.evidence.nitro import Kind, NitroClaims, NitroEvidence, Root
from rlu_attestation.verdict import Claim, Source
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.proof import Conditions, HardwareProof, Place
from rlu_attestation.verifier.trail import Failed, Trail, absent_is_not_made, blocking, need

T = TypeVar("T")

parse = nitro.parse


def check_enclave(
    trail: Trail, conditions: Conditions, subject: Subject, held: NitroEvidence | Failed
) -> HardwareProof | Failed:
    """Run the steps for an enclave."""
    return _check(Kind.NITRO, trail, conditions, subject, held)


def check_instance(
    trail: Trail, conditions: Conditions, subject: Subject, held: NitroEvidence | Failed
) -> HardwareProof | Failed:
    """Run the steps for an EC2 instance."""
    return _check(Kind.NITROTPM, trail, conditions, subject, held)


def _check(
    kind: Kind, trail: Trail, conditions: Conditions, subject: Subject, held: NitroEvidence | Failed
) -> HardwareProof | Failed:
    at, name = conditions.moment, kind.value
    roots = (*nitro.PINNED, *map(Root.of, conditions.roots(name)))
    age = timedelta(seconds=conditions.policy.max_evidence_age_s)

    def run(
        step: str, verify: Callable[[NitroEvidence], T], detail: Callable[[T], str] | None = None
    ) -> T | Failed:
        return trail.check(f"{name}.{step}", lambda: verify(need(held)), detail)

    results: tuple[object, ...] = (
        run("root", lambda found: nitro.verify_root(found, roots)),
        run("chain", lambda found: nitro.verify_chain(found, at)),
        run("certificate", nitro.verify_certificate),
        run("signature", nitro.verify_signature),
        run("timestamp", lambda found: nitro.verify_timestamp(found, at, age).isoformat(), str),
        run("revocation", lambda found: absent_is_not_made(lambda: _revocation(found, conditions)), str),
        run("binding", lambda found: _bind(found, name, subject), str),
    )
    failed = blocking(results)
    return proof(nitro.claims_of(need(held))) if failed is None else failed


def proof(claims: NitroClaims) -> HardwareProof:
    """The claims in the verifier's words."""
    enclave = claims.kind is Kind.NITRO
    what = "AWS Nitro Enclave" if enclave else "AWS EC2 instance with NitroTPM"
    return HardwareProof(
        kind=claims.kind.value,
        what=f"{what} {claims.module_id}",
        claims=(Claim("tee", f"PCRs {', '.join(map(str, sorted(claims.pcrs)))}", Source.HARDWARE),),
        measurements={f"pcr{number}": value for number, value in sorted(claims.pcrs.items())},
        debug=claims.debug,
        place=Place(region=claims.region, by="AWS"),
        isolated=True,
    )


def _bind(held: NitroEvidence, name: str, subject: Subject) -> str:
    def alone(expected: bytes) -> None:
        document = held.document
        if expected not in (document.user_data, document.nonce):
            raise Untrusted(f"{name}.binding.mismatch", "neither user_data nor nonce is what you expect")

    return subject.bound(f"{name}.binding", lambda binding: nitro.verify_binding(held, binding), alone)


def _revocation(held: NitroEvidence, conditions: Conditions) -> str:
    lists = nitro.verify_revocation(held, conditions.moment, conditions.crls())
    return f"{len(lists)} lists" if lists else "no certificate of the chain names a list"
