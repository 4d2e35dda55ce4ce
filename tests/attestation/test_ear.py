"""EAR (draft-ietf-rats-ear-04) and the vectors in it: the rules of the drafts, and that nothing is affirmed that was not proved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fakes.deployment import AT, Deployment
from rlu_attestation import canonical, ear, jose
from rlu_attestation.catalogue import STEPS
from rlu_attestation.trustworthiness import TIERS, tier
from rlu_attestation.verdict import Blame, Claim, Outcome, Result, Source, Step, Verdict

CLAIMS = {
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
}
SUBJECT = bytes(range(32))
TEE = (
    Claim("evidence", "AMD SEV-SNP guest", Source.HARDWARE),
    Claim("tcb", "genoa snp=25", Source.HARDWARE),
    Claim("debug", "disabled", Source.HARDWARE),
)
SNP = [step for step in STEPS if step.startswith("sev-snp.")]
POLICY = ["policy.tpm", "policy.tee", "policy.tcb", "policy.measurements", "policy.debug"]


def step(
    name: str, outcome: Outcome = Outcome.PASSED, code: str = "", blame: Blame | None = None, detail: str = ""
) -> Step:
    return Step(id=name, title=name, outcome=outcome, code=code, blame=blame, detail=detail)


def verdict(*others: Step, claims: tuple[Claim, ...] = TEE, emulated: bool = False) -> Verdict:
    """Evidence of SEV-SNP in which everything passed but for the steps given."""
    changed = {other.id: other for other in others}
    steps = [changed.pop(name, step(name)) for name in (*SNP, *POLICY)]
    return Verdict(
        steps=(*steps, *changed.values()),
        claims=claims,
        covers=("evidence",),
        at=AT,
        freshness="verifier",
        policy=b"\x01" * 32,
        emulated=emulated,
    )


def made(found: Verdict, kind: str = "sev-snp", **further: Any) -> dict[str, Any]:
    return ear.ear(found, subject=SUBJECT, issued=AT, build="rlu 1", kind=kind, **further)


def appraisal(found: Verdict, kind: str = "sev-snp", label: str = "") -> dict[str, Any]:
    submods: dict[str, dict[str, Any]] = made(found, kind)["submods"]
    return submods[label or kind]


def vector(found: Verdict, kind: str = "sev-snp") -> dict[str, int]:
    value: dict[str, int] = appraisal(found, kind)["ear_trustworthiness_vector"]
    return value


def failed(name: str, cause: str, blame: Blame = Blame.UNTRUSTED) -> Step:
    return step(name, Outcome.FAILED, f"{name}.{cause}", blame)


def waived(name: str, cause: str) -> Step:
    return step(name, Outcome.WAIVED, f"{name}.{cause}")


def test_the_claims_set_of_the_draft() -> None:
    found = made(verdict())
    assert found.keys() == {"eat_profile", "iat", "ear_verifier_id", "submods"}
    assert found["eat_profile"] == "tag:ietf.org,2026:rats/ear#04"
    assert found["iat"] == AT
    assert found["ear_verifier_id"] == {"developer": "Remote Locked Use", "build": "rlu 1"}
    [(label, one)] = found["submods"].items()
    assert label == "sev-snp"
    assert one.keys() == {
        "ear_status",
        "ear_trustworthiness_vector",
        "ear_appraisal_policy_ids",
        "tag:rlu.internal,2026:verdict#1",
    }
    assert one["ear_appraisal_policy_ids"] == [f"urn:rlu:policy:sha256:{'01' * 32}"]
    assert one["tag:rlu.internal,2026:verdict#1"]["subject_sha256"] == SUBJECT.hex()


def test_everything_proved_is_affirming() -> None:
    assert vector(verdict()) == {"hardware": 2, "executables": 3, "runtime-opaque": 2, "configuration": 2}
    assert appraisal(verdict())["ear_status"] == "affirming"


@pytest.mark.parametrize(
    ("other", "claim", "value"),
    [
        (failed("sev-snp.signature", "invalid"), "hardware", 99),
        (failed("sev-snp.root", "unknown"), "hardware", 97),
        (failed("sev-snp.revocation", "revoked"), "hardware", 96),
        (failed("sev-snp.revocation", "missing", Blame.REFUSED), "hardware", 0),
        (failed("policy.tcb", "mismatch", Blame.REFUSED), "hardware", 96),
        (failed("policy.tcb", "unset", Blame.REFUSED), "hardware", 0),
        (failed("policy.measurements", "mismatch", Blame.REFUSED), "executables", 33),
        (failed("policy.measurements", "unset", Blame.REFUSED), "executables", 0),
        (failed("policy.measurements", "not_checked", Blame.DEPENDENCY), "executables", 0),
        (failed("policy.debug", "mismatch", Blame.REFUSED), "runtime-opaque", 96),
        (failed("policy.tee", "hazard", Blame.REFUSED), "runtime-opaque", 0),
        (step("policy.measurements", detail="any"), "executables", 0),
        (waived("sev-snp.revocation", "missing"), "hardware", -33),
        (step("policy.tee", detail="accepted by the policy: migration"), "runtime-opaque", -33),
        (failed("sev-snp.signature", "encoding", Blame.MALFORMED), "hardware", 1),
        (failed("sev-snp.signature", "algorithm", Blame.UNSUPPORTED), "hardware", 1),
    ],
)
def test_what_a_finding_does_to_the_vector(other: Step, claim: str, value: int) -> None:
    assert vector(verdict(other))[claim] == value


@pytest.mark.parametrize("name", [*SNP, *POLICY])
@pytest.mark.parametrize("how", ["failed", "waived", "malformed", "unsupported"])
def test_status_is_never_better_than_the_verdict_nor_than_the_vector(name: str, how: str) -> None:
    blames = {"failed": Blame.UNTRUSTED, "malformed": Blame.MALFORMED, "unsupported": Blame.UNSUPPORTED}
    other = waived(name, "missing") if how == "waived" else failed(name, "invalid", blames[how])
    found = verdict(other)
    status = appraisal(found)["ear_status"]
    order = TIERS.index
    assert all(
        order(status) >= order(tier(value)) for value in vector(found).values() if tier(value) != "affirming"
    )
    assert (
        status
        == {
            Result.REJECTED: "contraindicated",
            Result.MALFORMED: "contraindicated",
            Result.WAIVED: "warning",
            Result.UNSUPPORTED: status if status in ("none", "contraindicated") else "",
        }[found.result]
    )


def test_exit_11_is_at_most_a_warning_and_only_exit_0_is_affirming() -> None:
    found = verdict(waived("sev-snp.binding", "unknown"))
    assert found.exit_code == 11
    assert appraisal(found)["ear_status"] == "warning"
    assert (
        vector(found)["hardware"] == 2
    )  # what the report is about has no say in whether the hardware is genuine


def test_debugging_that_the_policy_accepts_is_told_all_the_same() -> None:
    found = verdict(claims=(*TEE[:2], Claim("debug", "enabled", Source.HARDWARE)))
    assert found.exit_code == 0
    assert vector(found)["runtime-opaque"] == 96
    assert appraisal(found)["ear_status"] == "contraindicated"


def test_known_vulnerabilities_that_the_policy_accepts_are_a_warning() -> None:
    for word in ("SWHardeningNeeded evaluation 17", "UpToDate evaluation 17 advisories INTEL-SA-00837"):
        found = verdict(claims=(TEE[0], Claim("tcb", word, Source.HARDWARE), TEE[2]))
        assert (vector(found)["hardware"], appraisal(found)["ear_status"]) == (32, "warning")


def test_what_only_the_cloud_or_the_server_says_is_not_affirmed() -> None:
    endorsed = verdict(claims=(Claim("evidence", "virtual TPM", Source.ENDORSED), *TEE[1:]))
    assert vector(endorsed)["hardware"] == 0
    asserted = verdict(step("policy.lock"), claims=(*TEE, Claim("lock", "…", Source.ASSERTED)))
    assert vector(asserted)["configuration"] == 0
    assert vector(verdict(emulated=True))["hardware"] == -33


def test_nothing_is_claimed_of_what_no_evidence_speaks_of() -> None:
    assert vector(verdict()).keys() <= CLAIMS - {"file-system", "storage-opaque", "sourced-data"}
    assert "instance-identity" not in vector(verdict())  # evidence alone names no instance


def test_an_empty_vector_is_not_allowed() -> None:
    assert vector(replace(verdict(), steps=())) == {"hardware": 0}
    broken = replace(verdict(), steps=(failed("statement.encoding", "claims", Blame.MALFORMED),), claims=())
    assert made(broken, "")["submods"]["instance"]["ear_trustworthiness_vector"] == {"instance-identity": 1}


def test_an_instance_and_its_gpus() -> None:
    steps = (
        step("statement.signature"),
        step("quote.signature"),
        step("nvidia.signature"),
        failed("nvidia.measurements", "mismatch"),
    )
    found = replace(verdict(), steps=steps, claims=(Claim("key", "key of TPM", Source.HARDWARE),))
    submods = made(found, "")["submods"]
    assert submods.keys() == {"instance", "gpu"}
    assert submods["instance"]["ear_trustworthiness_vector"] == {"instance-identity": 2, "hardware": 2}
    assert submods["gpu"]["ear_trustworthiness_vector"] == {"hardware": 99}
    # A reader of one submodule must not take a rejected deployment for a good one.
    assert {one["ear_status"] for one in submods.values()} == {"contraindicated"}


def test_a_real_verdict() -> None:
    from rlu_attestation import Context, Policy, verify

    found = verify(Context(bundle=Deployment().bundle(1), policy=Policy(), at=AT))
    one = made(found, "")["submods"]["instance"]
    assert one["ear_status"] == "contraindicated"
    assert one["ear_trustworthiness_vector"].keys() <= CLAIMS
    assert one[ear.EXTENSION]["failed"] == sorted({failure.code for failure in found.failures})


def test_a_signed_one_is_a_jws_of_the_very_claims() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    claims = made(verdict(waived("sev-snp.binding", "unknown")), policies=["urn:rlu:roots:sha256:00"])
    jws = jose.jws_parse(ear.sign(claims, key))
    jose.verify_es256(key.public_key(), jws.signing_input, jws.signature)
    assert jws.kid == jose.thumbprint(jose.public_jwk(key.public_key()))
    assert canonical.decode(jws.payload) == claims
