"""Every step accepts genuine evidence of every kind of TPM, and refuses each perturbation with exactly the codes named here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fakes import machine as machines
from fakes import tpm_marshal as marshal
from fakes.ima import FakeIma
from fakes.machine import Machine, Parts
from fakes.pki import AT, YEAR
from fakes.tpm import FakeTpm
from fakes.tpm2_perturbations import AK, BINDING, KEY, PERTURBATIONS, Scene, flip
from fakes.tpm2_steps import STEPS, failures
from fakes.tpm_perturbations import more, nothing
from rlu_attestation import x509
from rlu_attestation.encoding import b64u
from rlu_attestation.evidence import tpm2

TPMS: dict[str, Callable[[], FakeTpm]] = {
    "ecdsa-p256-sha256": lambda: FakeTpm("ecc"),
    "ecdsa-p384-sha384": lambda: FakeTpm("ecc384", ek_kind="p384", ak_kind="p384", ak_hash="sha384"),
    "ecdsa-p256-sha256-ek-p256": lambda: FakeTpm("ecc-ek", ek_kind="p256"),
    "rsassa-sha256": lambda: FakeTpm("rsa", ak_kind="rsa2048", ak_scheme=marshal.RSASSA),
    "rsassa-sha384": lambda: FakeTpm("rsa", ak_kind="rsa2048", ak_scheme=marshal.RSASSA, ak_hash="sha384"),
    "rsapss-sha256": lambda: FakeTpm("rsa", ak_kind="rsa2048", ak_scheme=marshal.RSAPSS),
    "rsapss-sha512": lambda: FakeTpm("rsa", ak_kind="rsa2048", ak_scheme=marshal.RSAPSS, ak_hash="sha512"),
}


@pytest.fixture
def scene() -> Scene:
    machine = Machine(FakeTpm("ecc"))
    return Scene(machine, machine.parts(BINDING))


def refusals(scene: Scene, parts: Parts) -> list[str]:
    return failures(parts.encode(), BINDING, scene.machine.ek_roots, scene.machine.registrars)


@pytest.mark.parametrize("kind", TPMS)
def test_genuine_evidence_passes_every_step(kind: str) -> None:
    machine = Machine(TPMS[kind]())
    assert failures(machine.evidence(BINDING), BINDING, machine.ek_roots, machine.registrars) == []


@pytest.mark.parametrize("banks", [("sha384",), ("sha256", "sha384"), ("sha1", "sha256", "sha384", "sha512")])
def test_other_banks_and_several_are_quoted(banks: tuple[str, ...]) -> None:
    machine = Machine(FakeTpm("banks", banks=banks), selected=dict.fromkeys(banks, (0, 4, 7)))
    data = machine.evidence(BINDING)
    assert failures(data, BINDING, machine.ek_roots, machine.registrars) == []
    assert tpm2.verify_quote_pcrs(tpm2.parse(data)) == machine.tpm.values(machine.selected)


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 0), (1, 1), (3, 2), (6, 0), (0, 7)])
def test_several_statements_share_one_quote(scene: Scene, before: int, after: int) -> None:
    first, last = (
        tuple(bytes([n]) * 32 for n in range(before)),
        tuple(bytes([n + 99]) * 32 for n in range(after)),
    )
    assert refusals(scene, scene.machine.parts(BINDING, first, last)) == []


def test_without_an_event_log_the_rest_still_verifies() -> None:
    machine = Machine(FakeTpm("ecc"), with_event_log=False)
    data = machine.evidence(BINDING)
    assert failures(data, BINDING, machine.ek_roots, machine.registrars) == []
    assert tpm2.verify_quote_eventlog(tpm2.parse(data)) is None


@pytest.mark.parametrize(("change", "later"), [(nothing, 0), (more, 1)])
def test_a_kernels_list_leads_to_the_quote(
    scene: Scene, change: Callable[[FakeIma], None], later: int
) -> None:
    parts = scene.with_ima(change)
    assert refusals(scene, parts) == []
    replay = tpm2.verify_quote_ima(tpm2.parse(parts.encode()))
    assert replay is not None
    assert (replay.covered, replay.later, replay.violations) == (4, later, 1)
    assert replay.boot_aggregate == "sha256:0-9"


def test_without_a_kernels_list_there_is_nothing_to_replay(scene: Scene) -> None:
    assert tpm2.verify_quote_ima(tpm2.parse(scene.parts.encode())) is None


def test_what_the_steps_return(scene: Scene) -> None:
    evidence = tpm2.parse(scene.parts.encode())
    path = tpm2.verify_ek_chain(evidence, scene.machine.ek_roots, AT)
    assert [found.raw for found in path] == [
        scene.machine.ek_certificate,
        machines.vendor_intermediate().der,
        machines.vendor_root().der,
    ]
    assert tpm2.verify_ak_certificate(evidence, scene.machine.registrars, AT) == scene.machine.endorsed
    assert tpm2.verify_key_attributes(evidence) == scene.tpm.key.public_key()
    replay = tpm2.verify_quote_eventlog(evidence)
    assert replay is not None
    assert replay.covered == {"sha256": (0, 1, 2, 3, 4, 5, 6, 7)}


@pytest.mark.parametrize(
    ("fields", "emulator"),
    [
        ({}, False),
        ({"manufacturer": "id:00001014", "model": "swtpm", "version": "id:20191023"}, True),
        ({"manufacturer": "id:4D534654", "model": "TPM Simulator"}, True),
    ],
)
def test_vendor_and_emulator_are_reported(fields: dict[str, str], emulator: bool) -> None:
    machine = Machine(FakeTpm("ecc"), ek_fields=fields)
    vendor = tpm2.ek_vendor(tpm2.parse(machine.evidence(BINDING)))
    assert vendor.emulator is emulator
    assert vendor.model == fields.get("model", "SLB9672")
    assert vendor.vendor == {"id:00001014": "libtpms", "id:4D534654": "Microsoft"}.get(
        vendor.manufacturer, "Infineon"
    )


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_perturbation(scene: Scene, name: str) -> None:
    perturb, expected = PERTURBATIONS[name]
    assert refusals(scene, perturb(scene)) == expected


def test_every_step_has_a_perturbation_that_it_alone_refuses() -> None:
    alone = {codes[0].rsplit(".", 1)[0] for _, codes in PERTURBATIONS.values() if len(codes) == 1}
    assert alone | {"ek.vendor"} == set(STEPS)


@pytest.mark.parametrize("bits", [1, 1 << 3, 1 << 12, 1 << 15, 1 << 20, 1 << 31])
def test_reserved_attribute_bits_refuse(scene: Scene, bits: int) -> None:
    assert refusals(scene, scene.with_key(attributes=KEY | bits)) == ["parse: tpm2.public"]
    assert refusals(scene, scene.with_ak(attributes=AK | bits)) == ["parse: tpm2.public"]


@pytest.mark.parametrize("kind", ["ecdsa-p384-sha384", "rsassa-sha256", "rsapss-sha256"])
def test_other_signature_kinds_refuse_what_they_did_not_sign(kind: str) -> None:
    machine = Machine(TPMS[kind]())
    parts = machine.parts(BINDING)
    quote = (parts.quote[0], flip(parts.quote[1]))
    certify = (parts.certify[0], parts.quote[1])
    codes = failures(
        replace(parts, quote=quote, certify=certify).encode(), BINDING, machine.ek_roots, machine.registrars
    )
    assert codes == ["key.certify.signature", "quote.signature.invalid"]


@pytest.mark.parametrize("scheme", [marshal.RSASSA, marshal.RSAPSS])
def test_an_rsa_signature_of_the_other_scheme_refuses(scheme: int) -> None:
    machine = Machine(FakeTpm("rsa", ak_kind="rsa2048", ak_scheme=scheme))
    attest, _ = machine.parts(BINDING).quote
    machine.tpm.ak_scheme = marshal.RSASSA if scheme == marshal.RSAPSS else marshal.RSAPSS
    quote = (attest, machine.tpm.sign_attest(attest))
    codes = failures(
        replace(machine.parts(BINDING), quote=quote).encode(), BINDING, machine.ek_roots, machine.registrars
    )
    assert codes == ["quote.signature.invalid"]


def test_a_quote_over_sha1_refuses_even_when_the_key_asks_for_it() -> None:
    machine = Machine(FakeTpm("rsa", ak_kind="rsa2048", ak_scheme=marshal.RSASSA, ak_hash="sha1"))
    codes = failures(machine.evidence(BINDING), BINDING, machine.ek_roots, machine.registrars)
    assert codes == ["ak.attributes.strength", "key.certify.signature", "quote.signature.invalid"]


def test_a_short_rsa_attestation_key_refuses() -> None:
    machine = Machine(FakeTpm("rsa", ak_kind="rsa1024", ak_scheme=marshal.RSASSA))
    codes = failures(machine.evidence(BINDING), BINDING, machine.ek_roots, machine.registrars)
    assert codes == ["ak.attributes.strength"]


def signed_bytes(which: str) -> list[int]:
    """Positions of every byte of a signed structure, all of which the signature must cover."""
    machine = Machine(FakeTpm("ecc"))
    parts = machine.parts(BINDING)
    return list(range(len((parts.quote if which == "quote" else parts.certify)[0])))


@pytest.mark.parametrize("which", ["quote", "certify"])
def test_every_signed_byte_flipped_once_refuses(scene: Scene, which: str) -> None:
    attest, signature = getattr(scene.parts, which)
    code = "quote.signature.invalid" if which == "quote" else "key.certify.signature"
    for position in signed_bytes(which):
        changed = replace(scene.parts, **{which: (flip(attest, position), signature)})  # type: ignore[arg-type]
        found = refusals(scene, changed)
        refused_by_parser = found in (["parse: tpm2.attest"], ["parse: tpm2.pcr_selection"])
        other_type = "quote.signature.type" in found or "key.certify.type" in found
        assert refused_by_parser or other_type or code in found, position


@pytest.mark.parametrize("field", ["ek_certificate", "ak_certificate"])
def test_every_byte_of_a_certificate_flipped_once_refuses(scene: Scene, field: str) -> None:
    data: bytes = getattr(scene.parts, field)
    for position in range(len(data)):
        changed = replace(scene.parts, **{field: flip(data, position)})  # type: ignore[arg-type]
        assert refusals(scene, changed) != [], position


def test_the_instance_key_may_leave_its_scheme_open(scene: Scene) -> None:
    assert refusals(scene, scene.with_key(scheme=None)) == []


@pytest.mark.parametrize(
    "changes",
    [{"purposes": None}, {"with_key_usage": False}, {"ca": None}, {"key_usage": ("key_agreement",)}],
)
def test_what_real_ek_certificates_leave_out(scene: Scene, changes: dict[str, object]) -> None:
    assert refusals(scene, scene.with_ek(**changes)) == []


def test_an_ak_certificate_may_leave_its_key_usage_out(scene: Scene) -> None:
    registrar = machines.registrar()
    certificate = registrar.certify_ak_otherwise(
        scene.machine.endorsed, scene.tpm.ak.public_key(), key_usage=None
    )
    assert refusals(scene, replace(scene.parts, ak_certificate=certificate)) == []


def test_no_roots_and_no_registrars_trust_nobody(scene: Scene) -> None:
    codes = failures(scene.parts.encode(), BINDING, (), ())
    assert codes == ["ek.chain.unknown_issuer", "ak.certificate.unknown_issuer"]


def test_an_ek_certificate_does_not_vouch_for_itself(scene: Scene) -> None:
    anchors = (x509.parse(scene.machine.ek_certificate),)
    assert failures(scene.parts.encode(), BINDING, anchors, scene.machine.registrars) == [
        "ek.chain.unknown_issuer"
    ]


def test_the_intermediate_may_be_the_anchor(scene: Scene) -> None:
    anchors = (x509.parse(machines.vendor_intermediate().der),)
    parts = replace(scene.parts, ek_chain=())
    assert failures(parts.encode(), BINDING, anchors, scene.machine.registrars) == []


def test_time_is_an_argument(scene: Scene) -> None:
    data, roots, registrars = scene.parts.encode(), scene.machine.ek_roots, scene.machine.registrars
    assert failures(data, BINDING, roots, registrars, AT + 2 * YEAR) == ["ak.certificate.expired"]
    late = failures(data, BINDING, roots, registrars, AT + 11 * YEAR)
    assert late == ["ek.chain.expired", "ak.certificate.expired"]
    early = failures(data, BINDING, roots, registrars, AT - 2 * YEAR)
    assert early == ["ek.chain.not_yet_valid", "ak.certificate.not_yet_valid"]


def test_a_time_without_zone_is_a_mistake_of_the_caller(scene: Scene) -> None:
    evidence = tpm2.parse(scene.parts.encode())
    with pytest.raises(ValueError, match="time zone"):
        tpm2.verify_ek_chain(evidence, scene.machine.ek_roots, AT.replace(tzinfo=None))


def test_the_item_is_what_the_attestor_puts_together(scene: Scene) -> None:
    parts = scene.parts
    data = tpm2.encode(
        ek_certificate=parts.ek_certificate,
        ek_chain=parts.ek_chain,
        ak_public=parts.ak_public,
        ak_certificate=parts.ak_certificate,
        ak_chain=parts.ak_chain,
        key_public=parts.key_public,
        certify=parts.certify,
        quote=parts.quote,
        pcrs=parts.pcrs,
        binding=tpm2.BindingPath(parts.leaf_index, parts.path, parts.tree_size),
        event_log=parts.event_log,
    )
    assert data == parts.encode()
    assert b64u(parts.ak_public).encode() in data
