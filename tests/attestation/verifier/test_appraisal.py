"""Step 13: every rule of the policy, refused for what it does not accept, with what was expected and found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.deployment import NONCE, SPKI, Deployment, findings, verdict_of
from fakes.machine import Machine
from rlu_attestation.bundle import Bundle
from rlu_attestation.channel import Channel
from rlu_attestation.encoding import b64u
from rlu_attestation.models import FurtherModel, Software
from rlu_attestation.policy import ACCEPT, Bound
from rlu_attestation.verdict import Outcome, Result, Source

STEP_OF_RULE = {
    "hardware_profiles": "policy.hardware_profile",
    "regions": "policy.region",
    "boundaries": "policy.boundary",
    "sites": "policy.site",
    "models": "policy.model",
    "engines": "policy.engine",
    "engine_arguments": "policy.engine",
    "gateways": "policy.gateway",
    "gateway_images": "policy.gateway",
    "debug_states": "policy.debug",
}


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return Deployment()


@pytest.fixture(scope="module")
def bundle(deployment: Deployment) -> Bundle:
    return instance(deployment)


def instance(deployment: Deployment, **changes: Any) -> Bundle:
    statement, evidence = deployment.attestation(**changes)
    return Bundle(statement=statement, evidence=evidence, channel=SPKI, nonce=NONCE)


def test_every_rule_has_its_step() -> None:
    assert set(STEP_OF_RULE) == set(ACCEPT)


@pytest.mark.parametrize("rule", ACCEPT)
def test_a_rule_accepts_what_it_lists_any_and_nothing_else(
    deployment: Deployment, bundle: Bundle, rule: str
) -> None:
    accept, step = deployment.policy().accept, STEP_OF_RULE[rule]

    def verdict(value: frozenset[str] | None) -> Any:
        return verdict_of(deployment, bundle, deployment.policy(accept={**accept, rule: value}))

    assert findings(verdict(None)) == []
    assert "(any)" in verdict(None).step(step).detail
    other = verdict(frozenset({"something else"}))
    assert findings(other) == [f"{step}.mismatch"]
    assert "expected something else; found " in other.step(step).detail
    assert findings(verdict(frozenset())) == [f"{step}.unset"]
    without = {name: value for name, value in accept.items() if name != rule}
    assert findings(verdict_of(deployment, bundle, deployment.policy(accept=without))) == [f"{step}.unset"]


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"manifest": bytes(32)}, "policy.model"),
        ({"engine": Software("vllm", "0.1", bytes(32))}, "policy.engine"),
        ({"engine": Software("vllm", "0.32.0", bytes(range(32)))}, "policy.engine"),
    ],
)
def test_every_model_must_be_accepted(deployment: Deployment, changes: dict[str, Any], step: str) -> None:
    first = deployment.instance_claims()
    accept = {**deployment.policy().accept, "engine_arguments": frozenset({b64u(first.engine.digest or b"")})}
    policy = deployment.policy(accept=accept)
    alike = FurtherModel("second", first.model_manifest, first.engine)
    assert findings(verdict_of(deployment, instance(deployment, further_models=(alike,)), policy)) == []
    bundle = instance(deployment, further_models=(alike, replace(alike, name="third", **changes)))
    assert findings(verdict_of(deployment, bundle, policy)) == [f"{step}.mismatch"]
    verdict = verdict_of(deployment, bundle, deployment.policy())
    assert "third" in next(claim.value for claim in verdict.claims if claim.name == "model")


def test_an_image_that_is_not_stated_is_accepted_only_unseen(deployment: Deployment) -> None:
    bundle = instance(deployment, gateway=Software("rlu", "0.1.0"))
    assert findings(verdict_of(deployment, bundle)) == []
    accept = {**deployment.policy().accept, "gateway_images": frozenset({"AAAA"})}
    verdict = verdict_of(deployment, bundle, deployment.policy(accept=accept))
    assert findings(verdict) == ["policy.gateway.mismatch"]
    assert "found nothing" in verdict.step("policy.gateway").detail


def test_all_violations_are_found_at_once(deployment: Deployment, bundle: Bundle) -> None:
    policy = deployment.policy(
        accept=dict.fromkeys(ACCEPT, frozenset({"other"})),
        pcrs={"sha256": {0: frozenset({bytes(32)})}},
        channel_origins=frozenset({"provisioned"}),
        lock={key: {"swap": Bound(values=("never",))} for key in ("attestor", "engine", "gateway")},
        minimum_source={"model": Source.MEASURED, "engine": Source.ENDORSED},
    )
    verdict = verdict_of(deployment, bundle, policy)
    assert findings(verdict) == [
        "policy.boundary.mismatch",
        "policy.channel.mismatch",
        "policy.debug.mismatch",
        "policy.engine.mismatch",
        "policy.gateway.mismatch",
        "policy.hardware_profile.mismatch",
        "policy.lock.mismatch",
        "policy.model.mismatch",
        "policy.pcrs.mismatch",
        "policy.region.mismatch",
        "policy.site.mismatch",
        "policy.sources.weak",
    ]
    lock = verdict.step("policy.lock").detail
    assert lock.count('expected "never"; found "off"') == 3
    sources = verdict.step("policy.sources").detail
    assert sources == "model expected measured; found asserted; engine expected endorsed; found asserted"


# --- TPM and boot -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulated() -> Deployment:
    return Deployment(machine=Machine(ek_fields={"model": "swtpm"}))


def test_an_emulator_is_refused(emulated: Deployment) -> None:
    policy = emulated.policy(minimum_source={})
    verdict = verdict_of(emulated, instance(emulated), policy)
    assert findings(verdict) == ["policy.tpm.emulator"]
    assert verdict.exit_code == 10
    assert verdict.emulated


def test_an_accepted_emulator_is_a_waiver_and_proves_no_hardware(emulated: Deployment) -> None:
    policy = emulated.policy(minimum_source={}, unsafe_accept_emulated_tpm=True)
    verdict = verdict_of(emulated, instance(emulated), policy)
    assert (verdict.result, verdict.exit_code) == (Result.WAIVED, 11)
    assert [step.id for step in verdict.waivers] == ["policy.tpm"]
    assert "unsafe_accept_emulated_tpm" in verdict.waivers[0].detail
    sources = {claim.name: claim.source for claim in verdict.claims}
    assert sources["key"] is sources["tpm"] is sources["pcrs"] is Source.ASSERTED
    assert sources["region"] is Source.ENDORSED
    strict = emulated.policy(minimum_source={"key": Source.HARDWARE}, unsafe_accept_emulated_tpm=True)
    assert findings(verdict_of(emulated, instance(emulated), strict)) == ["policy.sources.weak"]


def test_a_real_tpm_needs_no_waiver_even_where_one_is_offered(deployment: Deployment, bundle: Bundle) -> None:
    verdict = verdict_of(deployment, bundle, deployment.policy(unsafe_accept_emulated_tpm=True))
    assert verdict.result is Result.VERIFIED
    assert not verdict.emulated


def test_boot_that_is_not_verified(deployment: Deployment) -> None:
    bundle = instance(deployment, oemboot=False)
    assert findings(verdict_of(deployment, bundle)) == ["policy.boot.off"]
    verdict = verdict_of(deployment, bundle, deployment.policy(unsafe_accept_unverified_boot=True))
    assert verdict.exit_code == 11
    assert [step.id for step in verdict.waivers] == ["policy.boot"]


# --- PCRs ---------------------------------------------------------------------------------------------------------------


def test_pcrs(deployment: Deployment, bundle: Bundle) -> None:
    value = deployment.machine.tpm.pcrs["sha256"][3]

    def verdict(pcrs: Any) -> Any:
        return verdict_of(deployment, bundle, deployment.policy(pcrs=pcrs))

    assert verdict(None).step("policy.pcrs").detail == "any"
    assert findings(verdict({})) == ["policy.pcrs.unset"]
    assert findings(verdict({"sha256": {3: frozenset({bytes(32), value})}})) == []
    other = verdict({"sha256": {3: frozenset({bytes(32)}), 4: frozenset({bytes(32)})}})
    assert findings(other) == ["policy.pcrs.mismatch"]
    assert f"sha256:3 expected {bytes(32).hex()}; found {value.hex()}" in other.step("policy.pcrs").detail
    assert "sha256:4" in other.step("policy.pcrs").detail


@pytest.mark.parametrize(
    "pcrs", [{"sha256": {9: frozenset({bytes(32)})}}, {"sha384": {0: frozenset({bytes(48)})}}]
)
def test_a_pcr_that_was_not_quoted_does_not_count(deployment: Deployment, bundle: Bundle, pcrs: Any) -> None:
    verdict = verdict_of(deployment, bundle, deployment.policy(pcrs=pcrs))
    assert findings(verdict) == ["policy.pcrs.mismatch"]
    assert "it was not quoted" in verdict.step("policy.pcrs").detail


# --- channel, lock, sources ---------------------------------------------------------------------------------------------


def test_the_origin_of_the_tls_key(deployment: Deployment) -> None:
    bundle = instance(deployment, tls=Channel("provisioned", SPKI))
    assert findings(verdict_of(deployment, bundle)) == ["policy.channel.mismatch"]
    policy = deployment.policy(channel_origins=frozenset({"provisioned"}))
    assert findings(verdict_of(deployment, bundle, policy)) == []
    assert findings(verdict_of(deployment, bundle, deployment.policy(channel_origins=frozenset()))) == [
        "policy.channel.unset"
    ]


@pytest.mark.parametrize(
    ("nodes", "bounds", "verified"),
    [
        (None, {}, True),
        (1, {}, True),
        (2, {}, False),
        (True, {}, False),
        (2, {"nodes": Bound(at_most=2)}, True),
        (3, {"nodes": Bound(at_most=2)}, False),
        (2, None, True),
    ],
)
def test_machines_without_evidence_are_not_overlooked(
    deployment: Deployment, nodes: int | None, bounds: dict[str, Bound] | None, verified: bool
) -> None:
    posture = {"swap": "off"} if nodes is None else {"swap": "off", "nodes": nodes}
    bundle = instance(deployment, lock={"attestor": {}, "gateway": {}, "engine": posture})
    policy = deployment.policy(lock={"attestor": None, "gateway": None, "engine": bounds})
    verdict = verdict_of(deployment, bundle, policy)
    assert findings(verdict) == ([] if verified else ["policy.lock.mismatch"])
    if not bounds and not verified:
        assert "the evidence is of one" in verdict.step("policy.lock").detail


@pytest.mark.parametrize(
    ("bound", "accepted"),
    [
        (Bound(values=(True,)), {"no_new_privs"}),
        (Bound(values=(1,)), set()),
        (Bound(values=(7,)), {"landlock_abi"}),
        (Bound(values=("off",)), {"swap"}),
        (Bound(values=("none", "off")), {"swap"}),
        (Bound(at_least=7), {"landlock_abi"}),
        (Bound(at_least=8), set()),
        (Bound(at_most=7), {"landlock_abi"}),
        (Bound(at_most=6), set()),
        (Bound(at_least=4, at_most=9), {"landlock_abi"}),
        (Bound(at_least=0), {"landlock_abi"}),
    ],
)
def test_bounds_of_a_posture(
    deployment: Deployment, bundle: Bundle, bound: Bound, accepted: set[str]
) -> None:
    for key in ("no_new_privs", "landlock_abi", "swap", "absent"):
        policy = deployment.policy(lock={"attestor": None, "gateway": None, "engine": {key: bound}})
        verdict = verdict_of(deployment, bundle, policy)
        assert findings(verdict) == ([] if key in accepted else ["policy.lock.mismatch"]), key
        if key not in accepted:
            assert f"engine: {key} expected {bound}; found " in verdict.step("policy.lock").detail


@pytest.mark.parametrize("role", ["attestor", "engine", "gateway"])
def test_a_role_that_the_policy_leaves_out(deployment: Deployment, bundle: Bundle, role: str) -> None:
    lock = dict.fromkeys({"attestor", "engine", "gateway"} - {role})
    verdict = verdict_of(deployment, bundle, deployment.policy(lock=lock))
    assert findings(verdict) == ["policy.lock.unset"]
    assert f"lock.{role}" in verdict.step("policy.lock").detail


def test_a_role_that_states_no_posture(deployment: Deployment) -> None:
    bundle = instance(deployment, lock={"attestor": {}, "gateway": {"swap": "off"}})
    assert findings(verdict_of(deployment, bundle)) == ["policy.lock.mismatch"]
    # A role whose posture may be anything may also state none.
    policy = deployment.policy(lock=dict.fromkeys(("attestor", "engine", "gateway")))
    assert findings(verdict_of(deployment, bundle, policy)) == []
    # An empty table demands a posture, without demanding anything of it.
    policy = deployment.policy(lock={"attestor": {}, "engine": {}, "gateway": {}})
    assert findings(verdict_of(deployment, bundle, policy)) == ["policy.lock.mismatch"]


@pytest.mark.parametrize(
    ("claim", "strongest"),
    [
        ("key", Source.HARDWARE),
        ("pcrs", Source.HARDWARE),
        ("tpm", Source.ENDORSED),
        ("region", Source.ENDORSED),
        ("boundary", Source.ENDORSED),
        ("site", Source.ENDORSED),
        ("model", Source.ASSERTED),
        ("engine", Source.ASSERTED),
        ("gateway", Source.ASSERTED),
        ("tls", Source.ASSERTED),
        ("lock", Source.ASSERTED),
        ("log", Source.ASSERTED),
        ("debug", Source.ASSERTED),
        ("verified_boot", Source.ASSERTED),
        ("hardware_profile", Source.ASSERTED),
    ],
)
def test_how_a_claim_is_known(deployment: Deployment, bundle: Bundle, claim: str, strongest: Source) -> None:
    for minimum in Source:
        policy = deployment.policy(minimum_source={claim: minimum})
        wanted = [] if strongest.at_least(minimum) else ["policy.sources.weak"]
        assert findings(verdict_of(deployment, bundle, policy)) == wanted, minimum


def test_the_default_source_is_for_the_claims_that_are_not_named(
    deployment: Deployment, bundle: Bundle
) -> None:
    from rlu_attestation.catalogue import CLAIMS

    verdict = verdict_of(deployment, bundle)
    assert {claim.name for claim in verdict.claims} == set(CLAIMS) - {"gpus", "tcb", "tee"}
    asserted = {claim.name for claim in verdict.claims if claim.source is Source.ASSERTED}
    lenient = dict.fromkeys(asserted, Source.ASSERTED)
    policy = deployment.policy(default_source=Source.ENDORSED, minimum_source=lenient)
    assert findings(verdict_of(deployment, bundle, policy)) == []
    policy = deployment.policy(default_source=Source.ENDORSED, minimum_source={})
    assert findings(verdict_of(deployment, bundle, policy)) == ["policy.sources.weak"]


def test_claims_are_told_as_they_are(deployment: Deployment, bundle: Bundle) -> None:
    values = {claim.name: claim.value for claim in verdict_of(deployment, bundle).claims}
    assert values["region"] == "eu-central-1"
    assert values["engine"].startswith("vllm 0.32.0, arguments ")
    assert values["key"].startswith("key ")
    assert values["key"].endswith(" of TPM")
    assert values["verified_boot"] == "on"
    assert values["log"] == "start 3"
    assert 'engine: landlock_abi=7, no_new_privs=true, swap="off"' in values["lock"]
    assert verdict_of(deployment, bundle).step("policy.tpm").outcome is Outcome.PASSED
