"""Step 5 for every kind of hardware that holds a key in a TEE, and for GPUs: composed, each thing wrong gives its own code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes import amd, aws, intel, nvidia
from fakes.deployment import AT, NONCE, SPKI, Deployment, findings, verdict_of
from fakes.machine import Machine, vendor_intermediate
from fakes.tee import CHIP, ENCLAVE, GPUS, ITEMS, MACHINES, MEASUREMENT, NODE, PLATFORM, Tee, padded
from rlu_attestation import x509
from rlu_attestation.bundle import Bundle, Collateral
from rlu_attestation.catalogue import steps_of
from rlu_attestation.policy import GpuRule, TcbRule
from rlu_attestation.verdict import Outcome, Result, Source
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.kinds import ROOMS
from rlu_attestation.verifier.proof import Conditions
from rlu_attestation.verifier.sources import SOFTWARE
from rlu_attestation.verifier.trail import Trail

TEN_YEARS = 10 * 366 * 86400


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_a_genuine_instance_is_verified(kind: str) -> None:
    tee = Tee(kind)
    verdict = tee.verdict(tee.bundle())
    assert (findings(verdict), verdict.exit_code) == ([], 0)
    made = {step.id for step in verdict.steps}
    assert set(steps_of(kind)) <= made
    assert not made & {step for other in ITEMS if other != kind for step in steps_of(other)}
    assert {claim.name: claim.source for claim in verdict.claims}["key"] is Source.HARDWARE


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_evidence_for_another_statement_is_refused(kind: str) -> None:
    tee = Tee(kind)
    other = tee.bundle(lambda items, root: {kind: ITEMS[kind](b"\x07" * 32)})
    assert findings(tee.verdict(other)) == [f"{kind}.binding.mismatch"]


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_a_vendor_that_nobody_trusts(kind: str) -> None:
    tee = Tee(kind)
    verdict = tee.verdict(tee.bundle(), tee.policy(roots={}))
    assert f"{kind}.root.unknown" in findings(verdict)
    assert (verdict.exit_code, verdict.claims) == (10, ())


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_roots_of_one_vendor_do_not_count_for_another(kind: str) -> None:
    tee = Tee(kind)
    roots = tee.policy().roots
    crossed = {
        name: roots["nitro" if not kind.startswith("nitro") else "tdx"] for name in roots if name != "sev-snp"
    }
    assert f"{kind}.root.unknown" in findings(tee.verdict(tee.bundle(), tee.policy(roots=crossed)))


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_ten_years_later_it_is_over_and_as_of_then_it_is_not(kind: str) -> None:
    tee = Tee(kind)
    bundle = tee.bundle()
    assert tee.verdict(bundle, at=AT + TEN_YEARS).exit_code == 10
    assert tee.verdict(bundle, at=AT).exit_code == 0


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_measurements_that_the_policy_names(kind: str) -> None:
    tee = Tee(kind)
    name = MEASUREMENT[kind]
    measured = _proof(tee).measurements
    value = measured[name]
    software = {part: frozenset({measured[part]}) for part in SOFTWARE[kind][0]}
    named = tee.policy(measurements={kind: software}, default_source=Source.MEASURED)
    bundle = tee.bundle()
    verdict = tee.verdict(
        bundle, replace(named, minimum_source={"debug": Source.ASSERTED, "region": Source.ENDORSED})
    )
    # The software that states model, engine and lock is the one whose measurement the policy names.
    assert findings(verdict) == []
    assert {c.name: c.source for c in verdict.claims}["model"] is Source.MEASURED
    other = tee.policy(measurements={kind: {name: frozenset({bytes(48)})}})
    assert findings(tee.verdict(bundle, other)) == ["policy.measurements.mismatch"]
    unknown = tee.policy(measurements={kind: {"mesurement": frozenset({value})}})
    assert findings(tee.verdict(bundle, unknown)) == ["policy.measurements.mismatch"]
    assert findings(tee.verdict(bundle, tee.policy(measurements={}))) == ["policy.measurements.unset"]
    # Accepted unseen, nobody knows which software speaks.
    assert {c.name: c.source for c in tee.verdict(bundle).claims}["model"] is Source.ASSERTED


def _proof(tee: Tee) -> Any:
    root = b"\x07" * 32
    held = ROOMS[tee.kind].parse(ITEMS[tee.kind](root))
    expected = root if tee.kind.startswith("nitro") else padded(root)
    return ROOMS[tee.kind].check(Trail({}), Conditions(tee.policy(), AT), Subject(None, expected), held)


# --- virtual TPMs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_a_genuine_virtual_tpm(name: str) -> None:
    kind, _, below = name.partition(" on ")
    tee = Tee(name)
    verdict = tee.verdict(tee.bundle())
    assert (findings(verdict), verdict.exit_code) == ([], 0)
    made = {step.id for step in verdict.steps}
    assert set(steps_of(kind)) | set(steps_of(below) if below else ()) <= made
    source = {claim.name: claim.source for claim in verdict.claims}["key"]
    # Google's virtual TPM is software of the host's: Google's word, not hardware's.
    assert source is (Source.HARDWARE if below else Source.ENDORSED)


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_a_virtual_tpm_that_quoted_for_another_statement(name: str) -> None:
    kind = name.partition(" ")[0]
    tee = Tee(name)
    machine = tee.machine
    assert machine is not None
    other = tee.bundle(lambda items, root: {kind: machine.evidence(b"\x07" * 32)})
    assert findings(tee.verdict(other)) == ["quote.binding.mismatch"]


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_a_statement_signed_by_another_key_than_the_one_in_the_tpm(name: str) -> None:
    tee, thief = Tee(name), Tee("sev-snp")
    tee.key, tee.jwk = thief.key, thief.jwk
    assert findings(tee.verdict(tee.bundle())) == ["key.match.differs"]


@pytest.mark.parametrize("name", ["azure-vtpm on sev-snp", "azure-vtpm on tdx"])
def test_without_a_paravisor_that_the_policy_names_nothing_is_proved(name: str) -> None:
    tee = Tee(name)
    bundle = tee.bundle()
    unnamed = tee.policy(measurements={"azure-vtpm": None})
    assert findings(tee.verdict(bundle, unnamed)) == ["azure-vtpm.paravisor.unset"]
    waived = replace(unnamed, waivers={"azure-vtpm.paravisor": "Microsoft publishes no measurements"})
    assert findings(tee.verdict(bundle, waived)) == [
        "policy.sources.weak"
    ]  # this policy wants a key of hardware's
    verdict = tee.verdict(bundle, replace(waived, minimum_source={}))
    assert verdict.exit_code == 11
    assert {claim.source for claim in verdict.claims} == {Source.ASSERTED}
    other = {"mr_td" if name.endswith("tdx") else "measurement": frozenset({bytes(48)})}
    verdict = tee.verdict(bundle, tee.policy(measurements={"azure-vtpm": other}))
    assert "azure-vtpm.paravisor.mismatch" in findings(verdict)


def test_hardware_that_a_virtual_tpm_stands_on_is_verified_too() -> None:
    tee = Tee("azure-vtpm on sev-snp")
    roots = {kind: found for kind, found in tee.policy().roots.items() if kind != "sev-snp"}
    assert "sev-snp.root.unknown" in findings(tee.verdict(tee.bundle(), tee.policy(roots=roots)))
    assert findings(tee.verdict(tee.bundle(), tee.policy(tcb={}))) == ["policy.tcb.unset"]


# --- debug, migration, security versions --------------------------------------------------------------------------------

SNP_POLICY = 0x30000
DEBUG, MIGRATE = 1 << 19, 1 << 18


def snp(tee: Tee, **fields: int) -> Any:
    return tee.bundle(
        lambda items, root: {
            "sev-snp": replace(
                amd.parts(CHIP, padded(root)), report=CHIP.report(padded(root), **fields)
            ).item()
        }
    )


def test_a_statement_cannot_deny_that_debugging_is_on() -> None:
    tee = Tee("sev-snp")
    bundle = snp(tee, POLICY=SNP_POLICY | DEBUG)
    assert findings(tee.verdict(bundle)) == ["policy.debug.contradicted"]


def test_a_statement_that_knows_less_than_its_evidence() -> None:
    tee = Tee("sev-snp", claims={"dbgstat": "enabled"})
    strict = tee.policy(accept={**tee.policy().accept, "debug_states": frozenset({"disabled"})})
    verdict = tee.verdict(tee.bundle(), strict)
    assert findings(verdict) == []
    assert {c.name: (c.value, c.source) for c in verdict.claims}["debug"] == ("disabled", Source.HARDWARE)


def test_debugging_that_is_stated_is_for_the_policy() -> None:
    tee = Tee("sev-snp", claims={"dbgstat": "enabled"})
    bundle = snp(tee, POLICY=SNP_POLICY | DEBUG)
    accept = {**tee.policy().accept, "debug_states": frozenset({"disabled"})}
    assert findings(tee.verdict(bundle, tee.policy(accept=accept))) == ["policy.debug.mismatch"]
    # Whoever accepts it knows less: what the host can rewrite is not measured.
    value = frozenset({_proof(tee).measurements["measurement"]})
    lax = tee.policy(measurements={"sev-snp": {"measurement": value}})
    verdict = tee.verdict(bundle, lax)
    assert findings(verdict) == []
    assert {c.name: c.source for c in verdict.claims}["model"] is Source.ASSERTED


def test_an_enclave_in_debug_mode_contradicts_a_statement_that_denies_it() -> None:
    tee = Tee("nitro")

    def zeroed(items: dict[str, bytes], root: bytes) -> dict[str, bytes]:
        fields = ENCLAVE.fields(root)
        fields["pcrs"] = {number: bytes(48) for number in fields["pcrs"]}
        return {"nitro": replace(aws.parts(ENCLAVE, root), document=ENCLAVE.document(fields)).item()}

    assert findings(tee.verdict(tee.bundle(zeroed))) == ["policy.debug.contradicted"]


def test_migration_is_accepted_by_name_only() -> None:
    tee = Tee("sev-snp")
    bundle = snp(tee, POLICY=SNP_POLICY | MIGRATE)
    verdict = tee.verdict(bundle)
    assert findings(verdict) == ["policy.tee.hazard"]
    assert "migration" in verdict.step("policy.tee").detail
    assert findings(tee.verdict(bundle, tee.policy(hazards=frozenset({"migration"})))) == []


def test_a_report_that_a_lower_privilege_level_asked_for() -> None:
    tee = Tee("sev-snp")
    bundle = snp(tee, VMPL=2)
    assert findings(tee.verdict(bundle)) == ["policy.tee.hazard"]
    assert findings(tee.verdict(bundle, tee.policy(hazards=frozenset({"lower-vmpl"})))) == []


def test_the_least_security_versions() -> None:
    tee = Tee("sev-snp")
    bundle = tee.bundle()
    levels = _proof(tee).tcb.levels
    enough = tee.policy(tcb={"sev-snp": TcbRule(minimum={"milan": levels})})
    assert findings(tee.verdict(bundle, enough)) == []
    more = {**levels, "microcode": levels["microcode"] + 1}
    verdict = tee.verdict(bundle, tee.policy(tcb={"sev-snp": TcbRule(minimum={"milan": more})}))
    assert findings(verdict) == ["policy.tcb.mismatch"]
    assert f"microcode expected >= {more['microcode']}" in verdict.step("policy.tcb").detail
    other = tee.policy(tcb={"sev-snp": TcbRule(minimum={"genoa": levels})})
    assert findings(tee.verdict(bundle, other)) == ["policy.tcb.mismatch"]
    fmc = tee.policy(tcb={"sev-snp": TcbRule(minimum={"milan": {**levels, "fmc": 0}})})
    assert findings(tee.verdict(bundle, fmc)) == ["policy.tcb.mismatch"]
    assert findings(tee.verdict(bundle, tee.policy(tcb={}))) == ["policy.tcb.unset"]


def test_intels_word_on_the_tcb_is_for_the_policy() -> None:
    tee = Tee("tdx")
    bundle = tee.bundle()
    tcb = _proof(tee).tcb

    def policy(**changes: Any) -> Any:
        rule = TcbRule(
            statuses=frozenset({tcb.status}), advisories=frozenset(tcb.advisories), evaluation=tcb.evaluation
        )
        return tee.policy(tcb={"tdx": replace(rule, **changes)})

    assert findings(tee.verdict(bundle, policy())) == []
    for change in ({"statuses": frozenset({"SWHardeningNeeded"})}, {"evaluation": tcb.evaluation + 1}):
        assert findings(tee.verdict(bundle, policy(**change))) == ["policy.tcb.mismatch"]


# --- collateral ---------------------------------------------------------------------------------------------------------


def without_list(items: dict[str, bytes], root: bytes) -> dict[str, bytes]:
    return {"sev-snp": replace(amd.parts(CHIP, padded(root)), crl=None).item()}


def test_a_missing_revocation_list_is_a_failure_a_waiver_or_brought_along() -> None:
    tee = Tee("sev-snp")
    bundle = tee.bundle(without_list)
    assert findings(tee.verdict(bundle)) == ["sev-snp.revocation.missing"]
    waived = tee.verdict(bundle, tee.policy(waivers={"sev-snp.revocation": "air-gapped site"}))
    assert (waived.result, waived.exit_code) == (Result.WAIVED, 11)
    beside = replace(bundle, collateral=(Collateral("x509-crl", amd.ark("Milan").revoke(0x666)),))
    assert tee.verdict(beside).exit_code == 0
    revoking = replace(
        bundle, collateral=(Collateral("x509-crl", amd.ark("Milan").revoke(CHIP.issuer.serial)),)
    )
    assert findings(tee.verdict(revoking)) == ["sev-snp.revocation.revoked"]
    # A list that revokes is a check that was made: no waiver reaches it.
    lenient = tee.policy(waivers={"sev-snp.revocation": "air-gapped site"})
    assert findings(tee.verdict(revoking, lenient)) == ["sev-snp.revocation.revoked"]
    garbage = replace(bundle, collateral=(Collateral("x509-crl", b"garbage"),))
    assert findings(tee.verdict(garbage)) == ["sev-snp.revocation.encoding"]


def test_a_root_of_no_product_line_is_a_finding() -> None:
    tee = Tee("sev-snp")
    verdict = tee.verdict(tee.bundle(), tee.policy(roots={"sev-snp": (x509.parse(aws.root().der),)}))
    assert "sev-snp.root.unknown" in findings(verdict)


def test_a_tpm_vendor_that_publishes_revocation_lists_is_asked() -> None:
    deployment = Deployment(Machine(ek_fields={"point": "http://vendor.example/ek.crl"}))
    statement, evidence = deployment.attestation()
    bundle = Bundle(statement=statement, evidence=evidence, channel=SPKI, nonce=NONCE)
    assert findings(verdict_of(deployment, bundle)) == ["ek.revocation.missing"]
    waived = deployment.policy(waivers={"ek.revocation": "air-gapped site"})
    assert verdict_of(deployment, bundle, waived).exit_code == 11

    def beside(*serials: int) -> Bundle:
        return replace(bundle, collateral=(Collateral("x509-crl", vendor_intermediate().revoke(*serials)),))

    assert verdict_of(deployment, beside()).exit_code == 0
    serial = x509.parse(deployment.machine.ek_certificate).serial
    assert findings(verdict_of(deployment, beside(serial), waived)) == ["ek.revocation.revoked"]
    assert (
        verdict_of(Deployment(), Deployment().bundle()).step("ek.revocation").outcome
        is Outcome.NOT_APPLICABLE
    )


def test_tdx_without_collateral_says_nothing_of_the_tcb() -> None:
    tee = Tee("tdx")
    bundle = tee.bundle(
        lambda items, root: {"tdx": replace(intel.parts(PLATFORM, padded(root)), collateral=None).item()}
    )
    assert findings(tee.verdict(bundle)) == [
        "tdx.qe_identity.missing",
        "tdx.revocation.missing",
        "tdx.tcb_info.missing",
    ]
    names = ("tcb_info", "qe_identity", "qe", "module", "tcb", "revocation")
    waivers = {f"tdx.{name}": "no collateral for this platform" for name in names}
    # Waived, the status is unknown: a policy that names statuses still refuses it.
    strict = tee.policy(
        waivers=waivers, tcb={"tdx": TcbRule(statuses=frozenset({"UpToDate"}), advisories=None)}
    )
    assert findings(tee.verdict(bundle, strict)) == ["policy.tcb.mismatch"]
    assert tee.verdict(bundle, tee.policy(waivers=waivers)).exit_code == 11
    # A waiver does not reach what builds on it unless that is named too.
    assert tee.verdict(bundle, tee.policy(waivers={"tdx.tcb_info": "x"})).exit_code == 10
    collateral = Collateral("tdx-collateral", intel.parts(PLATFORM, bytes(64)).pccs())
    assert tee.verdict(replace(bundle, collateral=(collateral,))).exit_code == 0


# --- GPUs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(ITEMS))
def test_gpus_that_answered(kind: str) -> None:
    tee = Tee(kind, GPUS)
    verdict = tee.verdict(tee.bundle())
    assert (findings(verdict), verdict.exit_code) == ([], 0)
    assert set(steps_of("nvidia")) <= {step.id for step in verdict.steps}


def test_a_root_of_devices_does_not_vouch_for_reference_values() -> None:
    tee = Tee("sev-snp", GPUS)
    roots = {**tee.policy().roots, "nvidia-rim": tee.policy().roots["nvidia"]}
    found = findings(tee.verdict(tee.bundle(), tee.policy(roots=roots)))
    assert found == ["nvidia.rim_driver.root", "nvidia.rim_vbios.root"]


def test_gpus_that_answered_for_another_statement() -> None:
    tee = Tee("sev-snp", GPUS)
    bundle = tee.bundle(lambda items, root: items | {"nvidia": NODE.parts(b"\x07" * 32).item()})
    assert findings(tee.verdict(bundle)) == ["nvidia.binding.mismatch"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"count": 8}, "gpu.match.differs"),
        ({"driver": "999.99"}, "gpu.match.differs"),
        ({"name": "NVIDIA B200"}, "gpu.match.differs"),
        ({"name": "NVIDIA A100"}, "gpu.match.differs"),
        ({"vbios": "99.00.00.00.00"}, "gpu.match.differs"),
    ],
)
def test_gpus_that_are_not_as_stated(changes: dict[str, Any], code: str) -> None:
    tee = Tee("sev-snp", replace(GPUS, **changes))
    assert code in findings(tee.verdict(tee.bundle()))


def test_evidence_of_gpus_cannot_be_left_out_or_slipped_in() -> None:
    tee = Tee("sev-snp", GPUS)
    gone = tee.bundle(lambda items, root: {"sev-snp": items["sev-snp"]})
    assert findings(tee.verdict(gone)) == ["gpu.attestation.missing"]
    alone = Tee("sev-snp")
    extra = alone.bundle(lambda items, root: items | {"nvidia": NODE.parts(root).item()})
    assert findings(alone.verdict(extra)) == ["gpu.attestation.unnamed"]


def test_evidence_of_gpus_that_the_statement_calls_unattested() -> None:
    tee = Tee("sev-snp", replace(GPUS, attestation="none"))
    bundle = tee.bundle(lambda items, root: items | {"nvidia": NODE.parts(root).item()})
    waived = tee.policy(waivers={"gpu.attestation": "x"})
    assert findings(tee.verdict(bundle, waived)) == ["gpu.attestation.unnamed"]


def test_a_lone_gpu_of_an_instance_must_show_the_switches_it_is_wired_to() -> None:
    tee = Tee("sev-snp", replace(GPUS, count=1))
    lone = nvidia.Node(NODE.gpus[:1])
    bundle = tee.bundle(lambda items, root: items | {"nvidia": lone.parts(root).item()})
    waived = tee.policy(waivers={"nvidia.topology": "x", "policy.profile": "x"})
    assert "nvidia.topology.unreported" in findings(tee.verdict(bundle, waived))


def test_gpus_that_nothing_attests_are_told_and_never_pass_silently() -> None:
    mi300x = replace(
        GPUS, name="AMD Instinct MI300X", count=8, memory_mib=196592, attestation="none", mode=None
    )
    tee = Tee("sev-snp", mi300x, claims={"hardware_profile": "mi300x8"})
    bundle = tee.bundle()
    verdict = tee.verdict(bundle)
    assert findings(verdict) == ["gpu.attestation.none"]
    assert "MI300X" in verdict.step("gpu.attestation").detail
    waived = tee.verdict(bundle, tee.policy(waivers={"gpu.attestation": "AMD has no attestation of GPUs"}))
    assert (waived.exit_code, [step.id for step in waived.waivers]) == (11, ["gpu.attestation"])
    assert "AMD Instinct has no attestation report" in waived.step("policy.profile").detail
    assert "not attested" in {c.name: c.value for c in waived.claims}["gpus"]


def test_the_policys_rule_on_gpus() -> None:
    tee = Tee("sev-snp", GPUS)
    bundle = tee.bundle()
    rule = GpuRule(
        count=2,
        memory_mib=140000,
        names=frozenset({GPUS.name}),
        drivers=frozenset({GPUS.driver}),
        vbios=frozenset({GPUS.vbios}),
        modes=frozenset({"ppcie"}),
    )
    assert findings(tee.verdict(bundle, tee.policy(gpus=rule))) == []
    nothing = frozenset({"another"})
    for change in (
        {"count": 8},
        {"memory_mib": 150000},
        {"names": nothing},
        {"drivers": nothing},
        {"vbios": nothing},
        {"modes": nothing},
        {"modes": frozenset()},
    ):
        changed = tee.policy(gpus=replace(rule, **change))  # type: ignore[arg-type]
        assert findings(tee.verdict(bundle, changed)) == ["policy.gpu.mismatch"], change
    assert findings(tee.verdict(bundle, tee.policy(gpus=None))) == ["policy.gpu.unset"]
    # A machine without GPUs does not satisfy a rule that wants some.
    none = Tee("sev-snp")
    assert findings(none.verdict(none.bundle(), none.policy(gpus=rule))) == ["policy.gpu.mismatch"]


# --- profiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "code"),
    [
        ("h200x8", "policy.profile.gpus"),
        ("cpu-demo", "policy.profile.gpus"),
        ("nitro-p5.48xlarge", "policy.profile.key"),
        ("unheard-of", "policy.profile.unknown"),
    ],
)
def test_a_machine_that_is_not_what_its_profile_promises(profile: str, code: str) -> None:
    tee = Tee("sev-snp", GPUS, claims={"hardware_profile": profile})
    assert findings(tee.verdict(tee.bundle())) == [code]


def test_a_name_that_only_begins_like_a_product() -> None:
    eight = replace(GPUS, count=8, name="NVIDIA H100X", attestation="none")
    tee = Tee("sev-snp", eight, claims={"hardware_profile": "h100x8"})
    policy = tee.policy(waivers={"gpu.attestation": "x"})
    assert findings(tee.verdict(tee.bundle(), policy)) == ["policy.profile.gpus"]
    real = Tee("sev-snp", replace(eight, name="NVIDIA H100 80GB HBM3"), claims={"hardware_profile": "h100x8"})
    assert findings(real.verdict(real.bundle(), policy)) == []


# --- keys and sessions --------------------------------------------------------------------------------------------------


def test_a_revoked_key() -> None:
    tee = Tee("sev-snp")
    policy = tee.policy(revoked_keys=frozenset({tee.instance_claims().ueid}))
    assert findings(tee.verdict(tee.bundle(), policy)) == ["policy.key.revoked"]


def test_a_key_that_should_have_been_rotated() -> None:
    tee = Tee("sev-snp")
    old = tee.bundle(key_created=AT - 101 * 86400)
    assert findings(tee.verdict(old)) == ["policy.key.age"]
    assert findings(tee.verdict(old, tee.policy(max_key_age_s=102 * 86400))) == []


def test_ages_are_accepted_up_to_the_second() -> None:
    tee = Tee("sev-snp")
    limits: dict[str, Any] = {"max_key_age_s": 1000, "clock_skew_s": 60}
    for created, found in (
        (AT - 1060, []),
        (AT - 1061, ["policy.key.age"]),
        (AT + 60, []),
        (AT + 61, ["policy.key.future"]),
    ):
        bundle = tee.bundle(key_created=created)
        assert findings(tee.verdict(bundle, tee.policy(**limits))) == found
    deployment = Deployment()
    for most, found in ((8, []), (7, ["policy.session.age"])):
        policy = deployment.policy(max_session_age_s=most, clock_skew_s=0)
        assert findings(verdict_of(deployment, deployment.bundle(), policy)) == found


def test_a_session_of_long_ago() -> None:
    deployment = Deployment()
    bundle = deployment.bundle()
    verdict = verdict_of(deployment, bundle, deployment.policy(max_session_age_s=0, clock_skew_s=0))
    assert "policy.session.age" in findings(verdict)
    assert verdict_of(deployment, bundle).step("policy.session").outcome is Outcome.PASSED


# --- which hardware, which key ------------------------------------------------------------------------------------------


def test_a_statement_may_not_name_other_hardware_than_its_evidence() -> None:
    tee = Tee("sev-snp")
    bundle = tee.bundle(key_hardware="tdx")
    assert findings(tee.verdict(bundle)) == ["key.hardware.evidence"]


def test_evidence_of_gpus_alone_holds_no_key() -> None:
    tee = Tee("sev-snp", GPUS)
    bundle = tee.bundle(lambda items, root: {"nvidia": items["nvidia"]})
    assert findings(tee.verdict(bundle)) == ["key.hardware.evidence"]


def test_what_does_not_apply_is_said_and_not_passed() -> None:
    skipped = {
        "sev-snp": {"policy.tpm", "policy.pcrs", "endorsement.match"},
        "nitro": {"policy.tpm", "policy.pcrs", "policy.tcb"},
        "nitrotpm": {"policy.tpm", "policy.pcrs", "policy.tcb", "policy.tee"},
        "gcp-vtpm": {"policy.tpm", "policy.tcb", "policy.tee", "policy.measurements", "quote.ima"},
    }
    for kind, expected in skipped.items():
        tee = Tee(kind)
        verdict = tee.verdict(tee.bundle())
        outcomes = {step.id: step.outcome for step in verdict.steps}
        assert {step for step in expected if outcomes[step] is not Outcome.NOT_APPLICABLE} == set()
        for step in ("policy.tee", "policy.tcb", "policy.pcrs", "policy.measurements", "endorsement.match"):
            if step not in expected:
                assert outcomes[step] is Outcome.PASSED, (kind, step)


def test_a_second_tee_beside_the_keys_own_is_not_ignored() -> None:
    tee = Tee("sev-snp")
    bundle = tee.bundle(lambda items, root: items | {"tdx": ITEMS["tdx"](root)})
    assert findings(tee.verdict(bundle)) == ["key.hardware.evidence"]


def test_the_region_that_aws_names_is_endorsed_and_another_is_refused() -> None:
    tee = Tee("nitro")
    assert {c.name: c.source for c in tee.verdict(tee.bundle()).claims}["region"] is Source.ENDORSED
    assert findings(tee.verdict(tee.bundle(region="us-gov-west-1"))) == ["endorsement.match.differs"]


def test_a_fresh_nonce_that_is_not_answered() -> None:
    tee = Tee("tdx")
    assert findings(tee.verdict(tee.bundle(), nonce=bytes(32))) == ["statement.nonce.mismatch"]
    assert bytes(32) != NONCE
