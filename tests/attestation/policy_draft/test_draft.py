"""Drafts of policies: each accepts exactly the evidence it was taken from, refuses what is changed, and weakens nothing by itself."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import tomllib

from fakes import amd, intel
from fakes.deployment import AT, NONCE, SPKI, Deployment, findings
from fakes.machine import registrar, vendor_root
from fakes.tee import CHIP, GPUS, ITEMS, MACHINES, PLATFORM, ROOTS, Tee, padded
from rlu_attestation import policy_file
from rlu_attestation.bundle import Bundle
from rlu_attestation.channel import Channel
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Untrusted
from rlu_attestation.models import FurtherModel, ModelSignature, Software
from rlu_attestation.policy import Policy
from rlu_attestation.policy_draft import Draft, Observation, draft, observe, observe_evidence, require_sound
from rlu_attestation.verdict import Outcome, Verdict
from rlu_attestation.verifier import Context, EvidenceContext, verify
from rlu_attestation.verifier.kinds import ROOMS

REFERENCES = "policy.references.toml"
ANCHORS: dict[str, bytes] = {"vendor.der": vendor_root().der, "registrar.der": registrar().der} | {
    f"{kind}-{number}.der": found.raw for kind, roots in ROOTS.items() for number, found in enumerate(roots)
}
KINDS = ["tpm2", *sorted(ITEMS), *sorted(MACHINES)]


def files_of(kind: str, gpus: bool = False) -> dict[str, tuple[str, ...]]:
    if kind == "tpm2":
        return {"ek_roots": ("vendor.der",), "registrars": ("registrar.der",)}
    rooted = kind.partition(" on ")[2] or kind  # a virtual TPM of Azure's rests on AMD's or Intel's root
    found = {f"roots.{rooted}": tuple(f"{rooted}-{n}.der" for n in range(len(ROOTS[rooted])))}
    return found | (
        {"roots.nvidia": ("nvidia-0.der",), "roots.nvidia-rim": ("nvidia-rim-0.der",)} if gpus else {}
    )


def trusting(files: dict[str, tuple[str, ...]]) -> Policy:
    roots = ", ".join(
        f"{rule[6:]} = {list(names)}" for rule, names in files.items() if rule.startswith("roots.")
    )
    rest = "".join(
        f"{rule} = {list(names)}\n" for rule, names in files.items() if not rule.startswith("roots.")
    )
    text = f"version = 1\n[trust]\n{rest}" + (f"roots = {{ {roots} }}\n" if roots else "")
    return policy_file.parse(text.encode(), ANCHORS.__getitem__)


def made(kind: str, **claims: Any) -> Bundle:
    """A genuine bundle of an instance on hardware of a kind."""
    if kind != "tpm2":
        return Tee(kind, claims=claims).bundle()
    deployment = Deployment(claims=claims)
    statement, evidence = deployment.attestation()
    return Bundle(statement=statement, evidence=evidence)


def looked(bundle: Bundle, kind: str, *, gpus: bool = False, **changes: Any) -> Observation:
    fields: dict[str, Any] = {"at": AT, "nonce": NONCE, "channel": SPKI}
    context = Context(bundle=bundle, policy=trusting(files_of(kind, gpus)), **(fields | changes))
    return observe(context, "https://host.example")


def drafted(observation: Observation, kind: str, *, gpus: bool = False) -> Draft:
    return draft(
        observation,
        references_name=REFERENCES,
        files=files_of(kind, gpus),
        read_file=ANCHORS.__getitem__,
    )


def parsed(made: Draft) -> Policy:
    files = ANCHORS | {REFERENCES: made.references.encode()}
    return policy_file.parse(made.policy.encode(), files.__getitem__)


def judged(made: Draft, bundle: Bundle, **changes: Any) -> Verdict:
    fields: dict[str, Any] = {
        "bundle": bundle,
        "policy": parsed(made),
        "at": AT,
        "nonce": NONCE,
        "channel": SPKI,
    }
    return verify(Context(**(fields | changes)))


@pytest.fixture(scope="module")
def drafts() -> dict[str, tuple[Bundle, Draft]]:
    found = {}
    for kind in KINDS:
        bundle = made(kind)
        observation = looked(bundle, kind)
        require_sound(observation)
        found[kind] = bundle, drafted(observation, kind)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_draft_accepts_the_evidence_it_is_from(drafts: dict[str, tuple[Bundle, Draft]], kind: str) -> None:
    bundle, made_draft = drafts[kind]
    verdict = judged(made_draft, bundle)
    assert (findings(verdict), verdict.exit_code) == ([], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_draft_says_what_it_is(drafts: dict[str, tuple[Bundle, Draft]], kind: str) -> None:
    _, made_draft = drafts[kind]
    for text in (made_draft.policy, made_draft.references):
        assert text.startswith("# REVIEW: this is a draft")
        assert "From: https://host.example" in text
        assert re.search(rf"Evidence: {kind.partition(' ')[0]}, sha256 [0-9a-f]{{64}}", text)
        assert "Time of every check: 2026-06-01T00:00:00Z" in text
    assert "\nunsafe_" not in made_draft.policy
    assert "[[waive]]" not in re.sub(r"(?m)^#.*$", "", made_draft.policy)
    policy = parsed(made_draft)
    assert (policy.waivers, policy.hazards, policy.unsafe_accept_emulated_tpm) == ({}, frozenset(), False)
    assert '"any"' not in re.sub(r"(?m)^#.*$", "", made_draft.policy)


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model_manifest": bytes(32)}, "policy.model.mismatch"),
    "further-model": (
        {"further_models": (FurtherModel("b", bytes(32), Software("vllm", "0.32.0", bytes(32))),)},
        "policy.model.mismatch",
    ),
    "engine": ({"engine": Software("vllm", "0.31.0", bytes(32))}, "policy.engine.mismatch"),
    "engine-arguments": ({"engine": Software("vllm", "0.32.0", bytes(32))}, "policy.engine.mismatch"),
    "gateway": ({"gateway": Software("rlu", "0.0.9", bytes(32))}, "policy.gateway.mismatch"),
    "gateway-image": ({"gateway": Software("rlu", "0.1.0")}, "policy.gateway.mismatch"),
    "boundary": ({"boundary": "cloud"}, "policy.boundary.mismatch"),
    "site": ({"site": "rack-13"}, "policy.site.mismatch"),
    "profile": ({"hardware_profile": "nitro-p5.48xlarge"}, "policy.hardware_profile.mismatch"),
    "tls": ({"tls": Channel("provisioned", SPKI)}, "policy.channel.mismatch"),
    "lock": ({"lock": {"engine": {"swap": "on"}}}, "policy.lock.mismatch"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_draft_refuses_another_statement(
    drafts: dict[str, tuple[Bundle, Draft]], kind: str, change: str
) -> None:
    claims, code = CHANGES[change]
    assert code in findings(judged(drafts[kind][1], made(kind, **claims)))


def test_a_draft_refuses_another_platform_state(drafts: dict[str, tuple[Bundle, Draft]]) -> None:
    """Each PCR and each measurement that a draft names counts."""
    for kind in KINDS:
        bundle, made_draft = drafts[kind]
        values = re.findall(r'(?m)^\w+ = \["([0-9a-f]+)"\]$', made_draft.references)
        assert len(values) >= 6, kind
        for value in dict.fromkeys(values):
            other = ("11" if value[:2] == "00" else "00") + value[2:]
            changed = replace(
                made_draft, references=made_draft.references.replace(f'"{value}"', f'"{other}"')
            )
            codes = findings(judged(changed, bundle))
            assert codes
            assert set(codes) <= {
                "policy.pcrs.mismatch",
                "policy.measurements.mismatch",
                "azure-vtpm.paravisor.mismatch",
            }


def test_older_firmware_is_refused_and_newer_accepted(drafts: dict[str, tuple[Bundle, Draft]]) -> None:
    _, made_draft = drafts["sev-snp"]
    newer = amd.Chip(label="newer", tcb=bytes([5, 0, 0, 0, 0, 0, 24, 220]))
    older = amd.Chip(label="older", tcb=bytes([4, 0, 0, 0, 0, 0, 24, 218]))
    for chip, codes in ((newer, []), (older, ["policy.tcb.mismatch"])):
        tee = Tee("sev-snp")
        bundle = tee.bundle(lambda items, root, chip=chip: {"sev-snp": amd.parts(chip, padded(root)).item()})
        assert findings(judged(made_draft, bundle)) == codes


def test_intels_word_and_its_evaluation_number(drafts: dict[str, tuple[Bundle, Draft]]) -> None:
    bundle, made_draft = drafts["tdx"]
    table = tomllib.loads(made_draft.policy)["tcb"]["tdx"]
    assert table == {"statuses": ["UpToDate"], "advisories": [], "evaluation": 17}
    later = replace(made_draft, policy=made_draft.policy.replace("evaluation = 17", "evaluation = 18"))
    assert findings(judged(later, bundle)) == ["policy.tcb.mismatch"]


def test_gpus_are_named_with_their_versions() -> None:
    tee = Tee("sev-snp", GPUS)
    observation = looked(tee.bundle(), "sev-snp", gpus=True)
    require_sound(observation)
    made_draft = drafted(observation, "sev-snp", gpus=True)
    assert findings(judged(made_draft, tee.bundle())) == []
    assert "As their reports say" in made_draft.policy
    assert tomllib.loads(made_draft.policy)["profiles"]["lab"]["keys"] == ["sev-snp"]
    fewer = replace(made_draft, policy=made_draft.policy.replace("count = 2\n", "count = 3\n"))
    assert findings(judged(fewer, tee.bundle())) == ["policy.gpu.mismatch"]


def test_gpus_that_nothing_attests_are_left_to_a_person() -> None:
    mi300x = replace(
        GPUS, name="AMD Instinct MI300X", count=8, memory_mib=196592, attestation="none", mode=None
    )
    tee = Tee("sev-snp", mi300x, claims={"hardware_profile": "mi300x8"})
    observation = looked(tee.bundle(), "sev-snp")
    require_sound(observation)
    made_draft = drafted(observation, "sev-snp")
    assert "Nothing attests it" in made_draft.policy
    assert '# step = "gpu.attestation"' in made_draft.policy
    assert findings(judged(made_draft, tee.bundle())) == ["gpu.attestation.none"]


def test_what_weakens_is_left_to_a_person() -> None:
    tee = Tee("sev-snp", claims={"dbgstat": "enabled"})
    policy = 0x30000 | 1 << 18 | 1 << 19

    def weak(items: dict[str, bytes], root: bytes) -> dict[str, bytes]:
        parts = amd.parts(CHIP, padded(root))
        return {"sev-snp": replace(parts, report=CHIP.report(padded(root), POLICY=policy)).item()}

    bundle = tee.bundle(weak)
    observation = looked(bundle, "sev-snp")
    require_sound(observation)
    made_draft = drafted(observation, "sev-snp")
    assert findings(judged(made_draft, bundle)) == ["policy.debug.unset", "policy.tee.hazard"]
    assert '# accept = ["migration"]' in made_draft.policy
    assert '# debug_states = ["enabled"]' in made_draft.policy


def test_an_emulator_is_left_to_a_person() -> None:
    from fakes.machine import Machine

    deployment = Deployment(machine=Machine(ek_fields={"manufacturer": "id:00001014", "model": "swtpm"}))
    statement, evidence = deployment.attestation()
    bundle = Bundle(statement=statement, evidence=evidence)
    observation = looked(bundle, "tpm2")
    require_sound(observation)
    made_draft = drafted(observation, "tpm2")
    assert "# unsafe_accept_emulated_tpm = true" in made_draft.policy
    assert findings(judged(made_draft, bundle)) == ["policy.tpm.emulator"]


def test_what_could_not_be_checked_is_said_and_not_waived() -> None:
    tee = Tee("sev-snp")
    bundle = tee.bundle(
        lambda items, root: {"sev-snp": replace(amd.parts(CHIP, padded(root)), crl=None).item()}
    )
    observation = looked(bundle, "sev-snp", channel=None)
    require_sound(observation)
    assert {step.id for step in observation.unchecked} == {"channel", "sev-snp.revocation"}
    made_draft = drafted(observation, "sev-snp")
    assert "NOT checked, for lack of what to check it by: sev-snp.revocation.missing, channel.unknown" in (
        made_draft.policy.replace("\n# ", " ")
    )
    assert findings(judged(made_draft, bundle)) == ["sev-snp.revocation.missing"]


def test_tdx_without_collateral_gets_no_rule_on_its_tcb() -> None:
    tee = Tee("tdx")
    bundle = tee.bundle(
        lambda items, root: {"tdx": replace(intel.parts(PLATFORM, padded(root)), collateral=None).item()}
    )
    observation = looked(bundle, "tdx")
    require_sound(observation)
    text = drafted(observation, "tdx").policy
    assert tomllib.loads(text)["tcb"]["tdx"] == {}
    assert "could not be evaluated" in text


def forged(kind: str) -> Bundle:
    bundle = made(kind)
    signature = bundle.statement.rpartition(".")
    return replace(bundle, statement=f"{signature[0]}.{b64u(bytes(63) + bytes([1]))}")


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_that_does_not_hold_gives_no_draft(kind: str) -> None:
    with pytest.raises(Untrusted) as caught:
        require_sound(looked(forged(kind), kind))
    assert caught.value.code == "policy.draft.false"
    assert "statement.signature.invalid" in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_of_another_statement_gives_no_draft(kind: str) -> None:
    bundle = replace(made(kind), evidence=made(kind, site="elsewhere").evidence)
    with pytest.raises(Untrusted, match=r"evidence\.digest\.mismatch"):
        require_sound(looked(bundle, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_an_unsound_draft_says_so_and_holds_the_evidences_own_words(
    drafts: dict[str, tuple[Bundle, Draft]], kind: str
) -> None:
    made_draft = drafted(looked(forged(kind), kind), kind)
    text = made_draft.policy.replace("\n# ", " ")
    assert "FALSE: statement.signature.invalid" in text
    assert "prove nothing" in text
    values = [
        re.findall(r'(?m)^\w+ = \["[0-9a-f]+"\]$', found.references)
        for found in (made_draft, drafts[kind][1])
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_evidence_alone(kind: str) -> None:
    root = b"\x07" * 32
    data = ITEMS[kind](root)
    context = EvidenceContext(
        kind=kind,
        evidence=ROOMS[kind].parse(data),
        policy=trusting(files_of(kind)),
        at=AT,
        expected=root if kind.startswith("nitro") else padded(root),
    )
    observation = observe_evidence(context, "report.bin", bytes(32))
    require_sound(observation)
    made_draft = drafted(observation, kind)
    assert "No instance statement was here" in made_draft.policy
    verdict = observation.judge(parsed(made_draft))
    assert (findings(verdict), verdict.exit_code) == ([], 0)
    assert verdict.step("policy.measurements").outcome is Outcome.PASSED


def test_a_draft_names_who_signed_every_model() -> None:
    signed = ModelSignature("verified", b"v" * 32)
    further = FurtherModel("second", bytes(32), Software("vllm", "0.31.0", bytes(32)), signed)
    bundle = made("tpm2", model_signature=signed, further_models=(further,))
    found = drafted(looked(bundle, "tpm2"), "tpm2")
    assert tomllib.loads(found.policy)["model"] == {"signers": [b64u(b"v" * 32)]}
    other = made("tpm2", model_signature=ModelSignature("verified", b"o" * 32), further_models=(further,))
    assert "policy.model_signer.mismatch" in findings(judged(found, other))
    assert "policy.model_signer.mismatch" not in findings(judged(found, bundle))
    unsure = made("tpm2", model_signature=ModelSignature("unsigned"), further_models=(further,))
    assert "model" not in tomllib.loads(drafted(looked(unsure, "tpm2"), "tpm2").policy)


def test_a_draft_accepts_every_model_that_was_seen() -> None:
    second = FurtherModel("second", bytes(32), Software("vllm", "0.31.0", bytes(range(32))))
    bundle = made("tpm2", further_models=(second,))
    found = drafted(looked(bundle, "tpm2"), "tpm2")
    assert "the model demo and second:" in found.policy
    assert findings(judged(found, bundle)) == findings(
        judged(drafted(looked(made("tpm2"), "tpm2"), "tpm2"), made("tpm2"))
    )
