"""A verdict as an EAT Attestation Result (draft-ietf-rats-ear-04), with the vectors of `trustworthiness`.

`ear_status` is never better than the worst claim of the vector, nor than the verdict: rejected and malformed are `contraindicated`,
unsupported is `none`, verified except for waivers is `warning` at best.

Not done here: `ear_raw_evidence` (the bundle is the better carrier), CWT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from rlu_attestation import canonical, jose
from rlu_attestation.trustworthiness import AFFIRMING, CONTRAINDICATED, NONE, TIERS, WARNING, tier, vectors
from rlu_attestation.verdict import Result, Verdict

PROFILE = "tag:ietf.org,2026:rats/ear#04"
DEVELOPER = "Remote Locked Use"
EXTENSION = "tag:rlu.internal,2026:verdict#1"
"""Our extension of an appraisal: what was appraised, and the verdict's own words."""

_OVERALL = {
    Result.VERIFIED: NONE,
    Result.WAIVED: WARNING,
    Result.REJECTED: CONTRAINDICATED,
    Result.MALFORMED: CONTRAINDICATED,
    Result.UNSUPPORTED: NONE,
}


def ear(
    verdict: Verdict, *, subject: bytes, issued: int, build: str, kind: str = "", policies: Sequence[str] = ()
) -> dict[str, Any]:
    """The EAR claims-set of a verdict.

    Args:
        subject: SHA-256 of what was verified, 32 bytes.
        issued: `iat`, seconds since the epoch.
        build: of the verifier.
        kind: of evidence that was verified alone, which becomes the label; empty for a bundle (labels `instance` and `gpu`).
        policies: further identifiers of what it was appraised by, such as roots that the operator added.
    """
    ids = [f"urn:rlu:policy:sha256:{verdict.policy.hex()}"] if verdict.policy else ["urn:rlu:policy:none"]
    extension: dict[str, Any] = {
        "subject_sha256": subject.hex(),
        "result": verdict.result.value,
        "exit_code": verdict.exit_code,
        "at": verdict.at,
        "time": verdict.time,
        "freshness": verdict.freshness,
        "failed": sorted({step.code for step in verdict.failures}),
        "waived": sorted({step.code for step in verdict.waivers}),
    }
    if verdict.witnessed is not None:
        extension["witnessed"] = verdict.witnessed.to_json()
    submods = {
        label: {
            "ear_status": _status(vector, verdict),
            "ear_trustworthiness_vector": vector,
            "ear_appraisal_policy_ids": [*ids, *policies],
            EXTENSION: extension,
        }
        for label, vector in vectors(verdict, kind)
    }
    return {
        "eat_profile": PROFILE,
        "iat": issued,
        "ear_verifier_id": {"developer": DEVELOPER, "build": build},
        "submods": submods,
    }


def sign(claims: Mapping[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    """The claims-set as a JWS, `typ` eat+jwt, `alg` ES256, `kid` the thumbprint of the key, which is on P-256."""
    kid = jose.thumbprint(jose.public_jwk(key.public_key()))
    signing_input = jose.jws_signing_input(kid, canonical.encode(dict(claims)))
    r, s = utils.decode_dss_signature(key.sign(signing_input, ec.ECDSA(SHA256())))
    return jose.jws_assemble(signing_input, r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def _status(vector: Mapping[str, int], verdict: Verdict) -> str:
    if verdict.result is Result.UNSUPPORTED:
        return _worst_tier(tier(value) for value in vector.values() if tier(value) != AFFIRMING)
    return _worst_tier((*map(tier, vector.values()), _OVERALL[verdict.result]))


def _worst_tier(tiers: Iterable[str]) -> str:
    return max(tiers, key=TIERS.index, default=NONE)
