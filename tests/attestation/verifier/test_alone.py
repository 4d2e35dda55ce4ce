"""Evidence that stands alone: the same steps, held against data that the caller expects, or told that nobody says what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes import nvidia
from fakes.deployment import AT, Deployment, findings
from fakes.tee import ITEMS, MACHINES, NODE, Tee, padded
from rlu_attestation import merkle
from rlu_attestation.policy import ANY_GPU
from rlu_attestation.verdict import Outcome, Verdict
from rlu_attestation.verifier import EvidenceContext, verify_evidence
from rlu_attestation.verifier.kinds import ROOMS
from rlu_attestation.verifier.kinds import nvidia as nvidia_room

ROOT = b"\x07" * 32
BOUND = b"\x08" * 32
KINDS = [*ITEMS, *MACHINES, "tpm2"]


def context(name: str, **changes: Any) -> EvidenceContext:
    kind = name.partition(" ")[0]
    if name == "tpm2":
        deployment = Deployment()
        item, expected, policy = (
            deployment.machine.evidence(BOUND),
            merkle.leaf_hash(BOUND),
            deployment.policy(),
        )
    elif name in MACHINES:
        tee = Tee(name)
        assert tee.machine is not None
        item, expected, policy = tee.machine.evidence(BOUND), merkle.leaf_hash(BOUND), tee.policy()
    else:
        item, policy = ITEMS[name](ROOT), Tee(name).policy()
        expected = ROOT if name.startswith("nitro") else padded(ROOT)
    fields: dict[str, Any] = {
        "kind": kind,
        "evidence": ROOMS[kind].parse(item),
        "policy": policy,
        "at": AT,
        "expected": expected,
    }
    return EvidenceContext(**(fields | changes))


def binding_of(name: str) -> str:
    kind = name.partition(" ")[0]
    return f"{kind}.binding" if name in ITEMS else "quote.binding"


@pytest.mark.parametrize("name", KINDS)
def test_evidence_about_what_the_caller_expects(name: str) -> None:
    verdict = verify_evidence(context(name))
    assert (findings(verdict), verdict.exit_code) == ([], 0)
    assert (verdict.covers, verdict.freshness) == (("evidence",), "verifier")
    if name not in ITEMS:  # there is no statement whose key could be compared
        assert verdict.step("key.match").outcome is Outcome.NOT_APPLICABLE


@pytest.mark.parametrize("name", KINDS)
def test_evidence_about_something_else(name: str) -> None:
    asked = context(name)
    assert asked.expected is not None
    other = replace(asked, expected=bytes(len(asked.expected)))
    assert findings(verify_evidence(other)) == [f"{binding_of(name)}.mismatch"]


@pytest.mark.parametrize("name", KINDS)
def test_nobody_says_what_it_is_about(name: str) -> None:
    step = binding_of(name)
    unknown = context(name, expected=None)
    verdict = verify_evidence(unknown)
    assert (findings(verdict), verdict.exit_code, verdict.freshness) == ([f"{step}.unknown"], 10, "none")
    waived = replace(unknown, policy=replace(unknown.policy, waivers={step: "a sample"}))
    assert verify_evidence(waived).exit_code == 11


@pytest.mark.parametrize("kind", ["sev-snp", "tdx"])
def test_expected_data_is_never_padded(kind: str) -> None:
    verdict = verify_evidence(context(kind, expected=ROOT))
    assert findings(verdict) == [f"{kind}.binding.size"]
    assert verdict.exit_code == 30


def test_a_nitro_documents_nonce_counts_where_the_caller_chose_it() -> None:
    from fakes.aws import Module, parts

    fields = Module().fields(None) | {"nonce": ROOT}
    item = replace(parts(Module(), None), document=Module().document(fields)).item()
    asked = context("nitro", evidence=ROOMS["nitro"].parse(item))
    assert findings(verify_evidence(asked)) == []


def test_the_debug_state_is_for_the_policy() -> None:
    asked = context("sev-snp")
    accept = {**asked.policy.accept, "debug_states": frozenset({"enabled"})}
    refused = replace(asked, policy=replace(asked.policy, accept=accept))
    assert findings(verify_evidence(refused)) == ["policy.debug.mismatch"]
    assert verify_evidence(context("nitrotpm")).step("policy.debug").outcome is Outcome.NOT_APPLICABLE


# --- GPUs ---------------------------------------------------------------------------------------------------------------


def gpus(node: Any, **changes: Any) -> Verdict:
    fields: dict[str, Any] = {
        "kind": "nvidia",
        "evidence": nvidia_room.parse(node.parts(ROOT).item()),
        "policy": replace(Tee("sev-snp").policy(), gpus=ANY_GPU),
        "at": AT,
        "expected": ROOT,
    }
    return verify_evidence(EvidenceContext(**(fields | changes)))


def test_reports_of_a_whole_node() -> None:
    verdict = gpus(NODE)
    assert (findings(verdict), verdict.exit_code) == ([], 0)


def test_the_policys_rule_on_gpus_that_report_alone() -> None:
    policy = Tee("sev-snp").policy()
    assert findings(gpus(NODE, policy=replace(policy, gpus=None))) == ["policy.gpu.unset"]
    for change in (
        {"count": 8},
        {"drivers": frozenset({"999"})},
        {"vbios": frozenset({"999"})},
        {"names": frozenset({"NVIDIA H200"})},  # a report tells the chip, not the product
        {"memory_mib": 1},
        {"modes": frozenset({"ppcie"})},
    ):
        rule = replace(ANY_GPU, **change)  # type: ignore[arg-type]
        assert findings(gpus(NODE, policy=replace(policy, gpus=rule))) == ["policy.gpu.mismatch"], change
    lone = replace(policy, gpus=None, waivers={"nvidia.topology": "one device"})
    switch = gpus(nvidia.Node((), NODE.switches[:1]), policy=lone)
    assert switch.step("policy.gpu").outcome is Outcome.NOT_APPLICABLE


def test_the_report_of_one_device_needs_not_the_others() -> None:
    for alone in (nvidia.Node(NODE.gpus[:1]), nvidia.Node((), NODE.switches[:1])):
        verdict = gpus(alone)
        (code,) = findings(verdict)
        assert code in ("nvidia.topology.unreported", "nvidia.topology.gpus")
        waived = replace(Tee("sev-snp").policy(), gpus=ANY_GPU, waivers={"nvidia.topology": "one device"})
        assert gpus(alone, policy=waived).exit_code == 11


def test_several_reports_that_contradict_each_other_are_not_waived() -> None:
    waived = replace(Tee("sev-snp").policy(), gpus=ANY_GPU, waivers={"nvidia.topology": "one device"})
    verdict = gpus(nvidia.Node(NODE.gpus), policy=waived)
    assert findings(verdict) == ["nvidia.topology.unreported"]


def test_old_firmware_names_none_and_nothing_is_compared() -> None:
    old = nvidia.Node((nvidia.Device(fwid=None),))
    verdict = gpus(old)
    assert findings(verdict) == []
    assert verdict.step("nvidia.fwid").outcome is Outcome.NOT_APPLICABLE
    assert gpus(NODE).step("nvidia.fwid").outcome is Outcome.PASSED
