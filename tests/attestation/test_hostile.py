"""Attempts to have the verifier accept, or believe, more than was proved, to crash it, or to keep it busy."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fakes import amd, asn1, aws, google, intel, nvidia, pki, tee
from fakes.deployment import AT, Deployment, findings, verdict_of
from fakes.machine import Machine
from fakes.tee import CHIP, ENCLAVE, GPUS, Tee, padded
from fakes.terminal import rlu
from fakes.tpm import FakeTpm
from rlu_attestation import bundle as bundles
from rlu_attestation import der, ear, jose, policy_file, x509
from rlu_attestation.assemble import read_piece
from rlu_attestation.bundle import Collateral
from rlu_attestation.catalogue import WAIVABLE
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.evidence.nvidia import parse as parse_nvidia
from rlu_attestation.evidence.nvidia import parse_ocsp
from rlu_attestation.evidence.nvidia.revocation import verify_good
from rlu_attestation.policy import PolicyError
from rlu_attestation.verdict import Source, Verdict
from rlu_attestation.verifier import EvidenceContext, verify_evidence
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.kinds import ROOMS
from rlu_attestation.verifier.proof import Conditions
from rlu_attestation.verifier.trail import Trail

QUICK_S = 10


def sources(verdict: Verdict) -> dict[str, Source]:
    return {claim.name: claim.source for claim in verdict.claims}


def result(verdict: Verdict) -> dict[str, Any]:
    """The instance in the attestation result for machines."""
    found: dict[str, Any] = ear.ear(verdict, subject=bytes(32), issued=AT, build="rlu 1")["submods"][
        "instance"
    ]
    return found


def no_files(name: str) -> bytes:
    raise FileNotFoundError(name)


# --- structures that cost more than they weigh ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [129, 3000, 1_000_000])
def test_an_object_identifier_of_one_endless_arc(size: int) -> None:
    started = time.process_time()
    reader = der.Reader(asn1.tlv(der.OID, b"\x81" * (size - 1) + b"\x01"), "x", 2_000_000)
    with pytest.raises(Malformed):
        reader.oid("type")
    assert time.process_time() - started < QUICK_S


@pytest.mark.parametrize("first", [b"\x7f", b"\x80"])
def test_an_integer_that_python_would_not_write(first: bytes) -> None:
    with pytest.raises(Malformed):
        der.Reader(asn1.tlv(der.INTEGER, first + bytes(1999)), "x", 4096).integer("serialNumber")


@pytest.mark.parametrize(
    "data",
    [
        b"-----BEGIN CERTIFICATE-----" * 30_000,
        b"-----END CERTIFICATE-----" * 15_000 + b"-----BEGIN CERTIFICATE-----" * 15_000,
        b"-----BEGIN " + b"A" * 900_000,
    ],
)
def test_pem_without_ends_costs_no_quadratic_time(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(Malformed):
        x509.parse_many(data)
    with pytest.raises(RluError):
        read_piece(data)
    assert time.process_time() - started < QUICK_S


def test_a_signer_whose_certificate_never_ends() -> None:
    enclave = Tee("nitro")

    def forever(items: dict[str, bytes], root: bytes) -> dict[str, bytes]:
        last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
        fields = ENCLAVE.fields(root) | {"certificate": ENCLAVE.certificate(not_after=last)}
        return {"nitro": replace(aws.parts(ENCLAVE, root), document=ENCLAVE.document(fields)).item()}

    assert findings(enclave.verdict(enclave.bundle(forever))) == []


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1969-12-31T23:59:59Z"]
)
def test_times_beyond_those_that_there_are(
    moment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bundle.rlu"
    file.write_bytes(Tee("sev-snp").bundle().encode())
    found = rlu(capsys, "verify", file, "--as-of", moment)
    assert (found.code, "1970" in found.err) == (2, True)


def test_thousands_of_answers_about_one_certificate() -> None:
    """8 MiB hold as many answers as here for each of many certificates."""
    brom = tee.NODE.gpus[0].brom
    genuine = parse_ocsp(nvidia.ocsp(brom))
    path = tuple(x509.parse(der) for der in tee.NODE.gpus[0].chain()[1:])
    crowd = [replace(genuine, singles=genuine.singles * 64)] * 256
    started = time.process_time()
    for _ in range(32):
        with pytest.raises(Untrusted) as caught:
            verify_good(path, crowd, pki.AT, timedelta(days=7), "nvidia.revocation")
        assert caught.value.code == "nvidia.revocation.too_many"
    assert time.process_time() - started < QUICK_S


# --- claims that are known less well than they seem ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("sev-snp", ("host_data", "id_key_digest", "author_key_digest", "family_id", "image_id")),
        ("tdx", ("mr_td", "mr_seam", "mr_config_id", "mr_owner", "mr_owner_config", "rtmr0", "rtmr3")),
        ("nitro", ("pcr3", "pcr4", "pcr1")),
        ("nitrotpm", ("pcr7", "pcr8")),
    ],
)
def test_values_that_whoever_starts_other_software_can_repeat(kind: str, names: tuple[str, ...]) -> None:
    machine = Tee(kind)
    measured = measurements_of(machine)
    named = {kind: {name: frozenset({measured[name]}) for name in names}}
    verdict = machine.verdict(machine.bundle(), machine.policy(measurements=named))
    assert (findings(verdict), sources(verdict)["model"]) == ([], Source.ASSERTED)
    assert result(verdict)["ear_trustworthiness_vector"]["executables"] == 0


def test_a_report_that_was_asked_for_below_what_was_measured() -> None:
    machine = Tee("sev-snp")
    bundle = machine.bundle(
        lambda items, root: {
            "sev-snp": replace(amd.parts(CHIP, padded(root)), report=CHIP.report(padded(root), VMPL=2)).item()
        }
    )
    named = {"sev-snp": {"measurement": frozenset({measurements_of(machine)["measurement"]})}}
    policy = machine.policy(measurements=named, hazards=frozenset({"lower-vmpl"}))
    verdict = machine.verdict(bundle, policy)
    assert (findings(verdict), sources(verdict)["model"]) == ([], Source.ASSERTED)
    assert sources(machine.verdict(machine.bundle(), policy))["model"] is Source.MEASURED


@pytest.mark.parametrize("name", ["azure-vtpm on sev-snp", "azure-vtpm on tdx"])
def test_a_paravisor_that_nobody_names_makes_nothing_hardwares_word(name: str) -> None:
    machine = Tee(name)
    assert machine.machine is not None
    policy = machine.policy(
        measurements={"azure-vtpm": None},
        waivers={"azure-vtpm.paravisor": "a test"},
        pcrs={"sha256": {4: frozenset({machine.machine.tpm.pcrs["sha256"][4]})}},
        minimum_source={},
    )
    verdict = machine.verdict(machine.bundle(), policy)
    assert (verdict.exit_code, set(sources(verdict).values())) == (11, {Source.ASSERTED})
    known = replace(policy, measurements=machine.policy().measurements, waivers={})
    assert sources(machine.verdict(machine.bundle(), known))["model"] is Source.MEASURED
    other = replace(known, pcrs={"sha256": {0: frozenset({machine.machine.tpm.pcrs["sha256"][0]})}})
    assert sources(machine.verdict(machine.bundle(), other))["model"] is Source.ASSERTED


@pytest.mark.parametrize("mode", ["on", "off", "devtools", None])
def test_a_mode_of_gpus_that_their_reports_deny(mode: str | None) -> None:
    machine = Tee("sev-snp", replace(GPUS, mode=mode))
    assert findings(machine.verdict(machine.bundle())) == ["gpu.match.differs"]


def test_protected_mode_that_only_the_statement_knows() -> None:
    single = replace(GPUS, count=1, mode="ppcie")
    machine = Tee("sev-snp", single)
    node = tee.nvidia.hgx(gpus=1, switches=0)
    bundle = machine.bundle(lambda items, root: items | {"nvidia": node.parts(root).item()})
    one = {"lab": replace(tee.LAB, gpus=replace(tee.LAB.gpus, count=1, memory_mib=1))}  # type: ignore[type-var]
    assert findings(machine.verdict(bundle, machine.policy(profiles=one))) == ["gpu.match.differs"]


def test_a_key_from_the_future_is_never_too_old() -> None:
    deployment = Deployment()
    bundle = deployment.bundle(instance={"key_created": AT + 61})
    assert "policy.key.future" in findings(verdict_of(deployment, bundle))
    deployment = Deployment(claims={"key_created": AT + 60})
    assert findings(verdict_of(deployment, deployment.bundle())) == []


def test_a_debugged_enclave_that_the_policy_accepts_is_affirmed_to_nobody() -> None:
    machine = Tee("nitro")

    def debugged(items: dict[str, bytes], root: bytes) -> dict[str, bytes]:
        fields = ENCLAVE.fields(root)
        fields["pcrs"] |= dict.fromkeys(range(3), bytes(48))
        return {"nitro": replace(aws.parts(ENCLAVE, root), document=ENCLAVE.document(fields)).item()}

    verdict = machine.verdict(machine.bundle(debugged, dbgstat="enabled"))
    assert verdict.exit_code == 0
    found = result(verdict)
    assert (found["ear_status"], found["ear_trustworthiness_vector"]["configuration"]) == (
        "contraindicated",
        96,
    )


# --- collateral ----------------------------------------------------------------------------------------------------------


def test_a_list_beside_the_collateral_that_revokes_counts() -> None:
    machine = Tee("tdx")
    bundle = machine.bundle()
    for crl, code in (
        (intel.platform_ca().revoke(0x4001), "tdx.revocation.pck_crl.revoked"),
        (intel.root().revoke(x509.parse(intel.signing().der).serial), "tdx.revocation.root_ca_crl.revoked"),
    ):
        revoking = replace(bundle, collateral=(Collateral("x509-crl", crl),))
        assert findings(machine.verdict(revoking)) == [code]
    harmless = replace(bundle, collateral=(Collateral("x509-crl", aws.crls()[0]),))
    assert findings(machine.verdict(harmless)) == []


def test_reports_of_several_devices_must_fit_even_without_a_statement() -> None:
    nonce = bytes(range(32))
    whole = tee.NODE.parts(nonce)
    cut = replace(whole, switches=[])
    for parts, count, code in ((whole, 0, ""), (cut, 10, "nvidia.topology.unreported")):
        verdict = verify_evidence(
            EvidenceContext(
                kind="nvidia",
                evidence=parse_nvidia(parts.item()),
                policy=Tee("sev-snp").policy(waivers={"nvidia.topology": "a test"}),
                at=AT,
                expected=nonce,
            )
        )
        assert (verdict.exit_code, findings(verdict)) == (count, [code] if code else [])


# --- policies that accept what nobody wrote ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "version = 1\n[lock.engine]\n",
        "version = 1\n[lock]\ngateway = {}\n",
        'version = 1\n[profiles.h200x8]\nkeys = ["none"]\n',
        'version = 1\n[profiles.cpu-demo]\nkeys = ["none"]\n',
    ],
)
def test_a_table_that_would_accept_anything(text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy_file.parse(text.encode(), no_files)
    assert caught.value.code == "policy.value"


@pytest.mark.parametrize("values", ['pcrs = "any"', '[measurements]\ntdx = "any"'])
def test_reference_values_that_say_any(values: str) -> None:
    text = b'version = 1\nreferences = ["values.toml"]\n[pcrs.sha256]\n0 = ["' + b"00" * 32 + b'"]\n'
    with pytest.raises(PolicyError) as caught:
        policy_file.parse(text, lambda name: f"version = 1\n{values}\n".encode())
    assert caught.value.code == "policy.value"


def measurements_of(machine: Tee) -> dict[str, Any]:
    """What the evidence of a genuine instance measured, by the names of policies."""
    room = ROOMS[machine.kind]
    root = bytes(64) if machine.kind in ("sev-snp", "tdx") else bytes(32)
    evidence = room.parse(tee.ITEMS[machine.kind](bytes(32)))
    proof = room.check(Trail({}), Conditions(machine.policy(), AT), Subject(None, root), evidence)
    return dict(proof.measurements or {})  # type: ignore[union-attr]


# --- evidence that nobody says what it must be about -----------------------------------------------------------------------


@pytest.mark.parametrize("expected", [None, b""])
@pytest.mark.parametrize("kind", sorted(tee.ITEMS))
def test_evidence_alone_that_is_about_nothing_in_particular(kind: str, expected: bytes | None) -> None:
    machine = Tee(kind)
    empty = tee.ITEMS[kind](b"") if kind.startswith("nitro") else tee.ITEMS[kind](bytes(32))
    verdict = verify_evidence(
        EvidenceContext(
            kind=kind, evidence=ROOMS[kind].parse(empty), policy=machine.policy(), at=AT, expected=expected
        )
    )
    assert (findings(verdict), verdict.freshness) == ([f"{kind}.binding.unknown"], "none")


# --- waivers that reach too far, bundles with something cut out -------------------------------------------------------------

EVERYTHING = dict.fromkeys(WAIVABLE, "a test")


@pytest.mark.parametrize("kind", sorted(tee.ITEMS))
def test_no_waiver_reaches_a_check_that_was_made_and_failed(kind: str) -> None:
    machine = Tee(kind)
    policy = machine.policy(waivers=EVERYTHING)
    bundle = machine.bundle()
    assert machine.verdict(bundle, policy).exit_code == 0
    another = machine.bundle(lambda items, root: {kind: tee.ITEMS[kind](bytes(32))})
    assert findings(machine.verdict(another, policy)) == [f"{kind}.binding.mismatch"]
    assert f"{kind}.root.unknown" in findings(machine.verdict(bundle, replace(policy, roots={})))
    assert f"{kind}.chain.expired" in findings(machine.verdict(bundle, policy, at=AT + 10 * 366 * 86400))
    assert findings(machine.verdict(bundle, policy, nonce=b"another nonce")) == ["statement.nonce.mismatch"]
    assert findings(machine.verdict(bundle, policy, channel=bytes(32))) == ["channel.mismatch"]


def test_no_waiver_reaches_what_a_session_contradicts() -> None:
    deployment = Deployment()
    policy, bundle = deployment.policy(waivers=EVERYTHING), deployment.bundle()
    first, second = bundle.exchanges
    other = Deployment(machine=Machine(tpm=FakeTpm(label="another")))
    foreign = other.bundle()
    for changed, code in (
        ({"commitment_key": bytes(32)}, "session.commitment_key.mismatch"),
        (
            {"exchanges": (replace(first, response=b"x" * len(first.response or b"")), second)},
            "receipt.response.mismatch",
        ),
        ({"exchanges": (replace(first, request=second.request), second)}, "receipt.request.size"),
        ({"exchanges": (first, first)}, "receipt.sequence.twice"),
        ({"session": foreign.session}, "session.inclusion.kid"),
        ({"exchanges": foreign.exchanges}, "receipt.inclusion.kid"),
        ({"close": foreign.close}, "close.inclusion.kid"),
        ({"head": foreign.head}, "log.head.kid"),
        ({"evidence": foreign.evidence}, "evidence.digest.mismatch"),
    ):
        assert code in findings(verdict_of(deployment, replace(bundle, **changed), policy)), code  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "part", ["session", "exchanges", "close", "head", "nonce", "channel", "evidence", "key"]
)
def test_a_bundle_from_which_something_was_cut(part: str) -> None:
    deployment = Deployment()
    bundle, policy = (
        deployment.bundle(),
        deployment.policy(require=frozenset({"session", "receipts", "close"})),
    )
    cut: dict[str, Any] = {
        "session": {"session": None, "exchanges": (), "close": None, "commitment_key": None},
        "exchanges": {"exchanges": ()},
        "close": {"close": None},
        "head": {"head": None},
        "nonce": {"nonce": None},
        "channel": {"channel": None},
        "evidence": {"evidence": ()},
        "key": {"commitment_key": None},
    }[part]
    verdict = verdict_of(deployment, replace(bundle, **cut), policy, nonce=None, channel=None)
    # The head only shows that later heads exist; everything else is missed.
    assert verdict.exit_code == (0 if part == "head" else 10)


def test_a_bundle_that_ends_early() -> None:
    data = Deployment().bundle().encode()
    for size in range(0, len(data) - 2, 211):
        with pytest.raises(Malformed):
            bundles.parse(data[:size])


@pytest.mark.parametrize("r", [0, 1, jose.P256_ORDER, 2**256 - 1])
@pytest.mark.parametrize("s", [0, jose.P256_ORDER, 2**256 - 1])
def test_signatures_of_numbers_that_none_has(r: int, s: int) -> None:
    deployment = Deployment()
    bundle = deployment.bundle()
    signed = bundle.statement.rpartition(".")[0]
    forged = b64u(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    verdict = verdict_of(deployment, replace(bundle, statement=f"{signed}.{forged}"))
    assert "statement.signature.invalid" in findings(verdict)


@pytest.mark.parametrize("age", [0, 400])
def test_a_list_about_a_certificate_that_asks_for_none(age: int) -> None:
    machine = Tee("gcp-vtpm")
    times = {"this_update": pki.AT - timedelta(days=age + 1), "next_update": pki.AT + timedelta(days=9 - age)}
    for issuer, serial, codes in (
        (google.intermediate(), 0x99, ["gcp-vtpm.revocation.revoked"]),
        (google.intermediate(), 0x98, []),
        (google.root(), 0x99, []),
    ):
        bundle = replace(
            machine.bundle(), collateral=(Collateral("x509-crl", issuer.revoke(serial, **times)),)
        )
        assert findings(machine.verdict(bundle)) == codes
