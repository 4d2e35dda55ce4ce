"""Every way of going wrong has its own code, and only genuine evidence passes all steps."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fakes import nvidia as fake
from fakes import nvidia_perturbations
from fakes.nvidia import Device, Node
from fakes.nvidia_changes import BINDING, GPU, NONCE, Perturbation, genuine
from fakes.nvidia_steps import MAX_AGE, failures, roots
from fakes.pki import AT, YEAR
from rlu_attestation import merkle, x509
from rlu_attestation.errors import RluError, Untrusted
from rlu_attestation.evidence import nvidia
from rlu_attestation.evidence.nvidia import DeviceKind, Feature, Roots

NODES = {
    "hgx-h100": fake.hgx(),
    "hgx-8": fake.hgx(8, 4),
    "blackwell": Node((Device("GB100"),)),
    "one-gpu": Node((Device(),)),
    "old-firmware": Node((Device(fwid=None),)),
    "nvdec0-on": Node((Device(nvdec0=0xAA),)),
}


@pytest.mark.parametrize("name", NODES)
def test_genuine_evidence_passes(name: str) -> None:
    node = NODES[name]
    data = node.parts(NONCE).item()
    assert failures(data, BINDING, roots()) == []
    claims = nvidia.verify(nvidia.parse(data), AT, roots())
    assert (claims.gpu_count, claims.switch_count) == (len(node.gpus), len(node.switches))
    for found, device in zip((*claims.gpus, *claims.switches), node.devices, strict=True):
        assert found.kind is (DeviceKind.SWITCH if device.is_switch else DeviceKind.GPU)
        assert (found.chip, found.vbios, found.serial) == (device.product, device.vbios, device.serial)
        assert found.fwid == device.fwid
        assert found.driver == (None if device.is_switch else device.driver)
        assert found.measurements_compared == (
            31 if device.is_switch else 63 if device.nvdec0 == 0x55 else 64
        )
    assert claims.topology.switches == {device.pdi for device in node.switches}
    assert claims.topology.gpus_counted is bool(node.switches)


def test_claims_of_protected_pcie_and_of_one_gpu() -> None:
    claims = nvidia.verify(nvidia.parse(genuine().item()), AT, roots())
    assert {(gpu.protected_pcie, gpu.feature) for gpu in claims.gpus} == {(True, Feature.PPCIE)}
    assert (claims.gpus[0].project, claims.gpus[0].project_sku, claims.gpus[0].chip_sku) == (
        "G520",
        "0200",
        "885",
    )
    assert (claims.gpus[0].architecture, claims.gpus[0].model) == ("Hopper", "GH100 A01 GSP BROM")
    alone = nvidia.verify(nvidia.parse(NODES["blackwell"].parts(NONCE).item()), AT, roots()).gpus[0]
    assert (alone.protected_pcie, alone.feature, alone.architecture) == (False, Feature.SPT, "Blackwell")


@pytest.mark.parametrize("found", nvidia_perturbations.ALL, ids=lambda found: found.name)
def test_perturbation(found: Perturbation) -> None:
    data = found.item()
    assert failures(data, BINDING, roots()) == list(found.codes)
    if any(not code.startswith(("nvidia.revocation", "nvidia.binding", "proof")) for code in found.codes):
        with pytest.raises(RluError) as refused:
            nvidia.verify(nvidia.parse(data), AT, roots())
        assert refused.value.code == found.codes[0].removeprefix("parse: ")


def test_perturbations_have_names_of_their_own() -> None:
    names = [found.name for found in nvidia_perturbations.ALL]
    assert len(set(names)) == len(names) >= 40


@pytest.mark.parametrize(
    ("at", "codes"),
    [
        (AT + 2 * YEAR, []),
        (AT + 2 * YEAR + timedelta(seconds=1), ["nvidia.rim_driver.expired", "nvidia.rim_vbios.expired"]),
        (AT - 3 * YEAR, []),
        (
            AT - 3 * YEAR - timedelta(seconds=1),
            [
                "nvidia.chain.not_yet_valid",
                "nvidia.rim_driver.not_yet_valid",
                "nvidia.rim_vbios.not_yet_valid",
            ],
        ),
    ],
)
def test_the_time_is_the_callers(at: object, codes: list[str]) -> None:
    found = failures(genuine().item(), BINDING, roots(), at)  # type: ignore[arg-type]
    assert [code for code in found if not code.startswith("nvidia.revocation")] == codes


def test_an_answer_may_be_as_old_as_the_caller_says() -> None:
    data = genuine().item()
    assert failures(data, BINDING, roots(), max_age=timedelta(days=1)) == []
    assert failures(data, BINDING, roots(), max_age=timedelta(hours=23)) == ["nvidia.revocation.too_old"]
    assert failures(data, BINDING, roots(), AT + timedelta(days=6), timedelta(days=7)) == []
    late = AT + timedelta(days=6, seconds=1)
    assert failures(data, BINDING, roots(), late, timedelta(days=30)) == ["nvidia.revocation.stale"]


def test_a_time_without_a_zone_is_misuse() -> None:
    evidence, at = nvidia.parse(genuine().item()), AT.replace(tzinfo=None)
    with pytest.raises(ValueError, match="time zone"):
        nvidia.verify_chain(evidence, at)
    with pytest.raises(ValueError, match="time zone"):
        nvidia.verify_revocation(evidence, at, MAX_AGE)


def test_without_roots_of_ones_own_only_nvidias_count() -> None:
    expected = ["nvidia.root.unknown", "nvidia.rim_driver.root", "nvidia.rim_vbios.root"]
    assert failures(genuine().item(), BINDING, nvidia.PINNED) == expected
    assert failures(genuine().item(), BINDING, Roots((), (), ())) == expected


def test_roots_count_for_what_they_are_trusted_for() -> None:
    device, rim = roots().gpu, roots().rim
    data = genuine().item()
    assert failures(data, BINDING, Roots(rim, device, rim)) == ["nvidia.root.unknown"]
    assert failures(data, BINDING, Roots(device, rim, rim)) == ["nvidia.root.unknown"]
    assert failures(data, BINDING, Roots(device, device, device)) == [
        "nvidia.rim_driver.root",
        "nvidia.rim_vbios.root",
    ]


def test_a_root_of_ones_own_must_have_signed_itself() -> None:
    crossed = nvidia.Root.of(x509.parse(fake.provisioner().der), "not a root")
    evidence = nvidia.parse(genuine().item())
    cut = nvidia.from_parts(
        [
            nvidia.DeviceParts(device.report.raw, tuple(found.raw for found in device.chain[:3]))
            for device in evidence.gpus
        ]
    )
    with pytest.raises(Untrusted) as refused:
        nvidia.verify_root(cut, Roots((crossed,), (), ()))
    assert refused.value.code == "nvidia.root.signature"


def test_a_shared_report_binds_each_statement() -> None:
    tree = merkle.Tree()
    bindings = [bytes([n]) * 32 for n in range(5)]
    for binding in bindings:
        tree.append(merkle.leaf_hash(binding))
    parts = NODES["one-gpu"].parts(tree.root())
    for index, binding in enumerate(bindings):
        path = [fake.b64u(node) for node in tree.inclusion_path(index)]
        parts.binding = {"leaf_index": index, "path": path, "tree_size": 5}
        assert failures(parts.item(), binding, roots()) == []
        assert failures(parts.item(), bindings[index - 1], roots()) == ["nvidia.binding.mismatch"]


def test_bare_reports_have_no_binding_but_a_nonce() -> None:
    parts = genuine()
    evidence = nvidia.from_parts([nvidia.DeviceParts(parts.gpus[0].report, tuple(parts.gpus[0].chain))])
    with pytest.raises(Untrusted) as refused:
        nvidia.verify_binding(evidence, BINDING)
    assert refused.value.code == "nvidia.binding.missing"
    nvidia.verify_nonce(evidence, NONCE)
    with pytest.raises(Untrusted) as refused:
        nvidia.verify_nonce(evidence, bytes(32))
    assert refused.value.code == "nvidia.nonce.mismatch"
    with pytest.raises(ValueError, match="32 bytes"):
        nvidia.verify_nonce(evidence, NONCE[:16])


def test_a_refusal_names_every_device_and_every_index() -> None:
    parts = genuine()
    parts.gpus[0].report = GPU.report(NONCE, measurements={3: bytes(48), 9: bytes(48)})
    parts.switches[0].report = NODES["hgx-h100"].switches[0].report(NONCE, measurements={30: bytes(48)})
    evidence = nvidia.parse(parts.item())
    identities = nvidia.verify_identity(evidence)
    drivers = nvidia.verify_rim_driver(evidence, identities, AT, roots())
    firmware = nvidia.verify_rim_vbios(evidence, identities, AT, roots())
    with pytest.raises(Untrusted) as refused:
        nvidia.verify_measurements(evidence, drivers, firmware)
    assert "gpu 0: measurements at indexes 3, 9 are" in refused.value.message
    assert "switch 0: measurements at indexes 30 are" in refused.value.message
    assert "gpu 1" not in refused.value.message


def test_a_refusal_tells_other_codes_of_other_devices() -> None:
    parts = genuine()
    parts.gpus[0].chain[0] = GPU.leaf(not_after=AT - timedelta(seconds=1))
    parts.gpus[1].chain = parts.gpus[1].chain[:4]
    with pytest.raises(Untrusted) as refused:
        nvidia.verify_chain(nvidia.parse(parts.item()), AT)
    assert refused.value.code == "nvidia.chain.expired"
    assert "gpu 1: a chain has 5 certificates, not 4 (nvidia.chain.length)" in refused.value.message


def test_how_many_certificates_are_asked_about() -> None:
    evidence = nvidia.parse(genuine().item())
    # three devices, two provisioners, one identity CA, and three of the RIMs' chain
    assert nvidia.verify_revocation(evidence, AT, MAX_AGE) == 3 + 2 + 1 + 3


def test_reference_values_that_nobody_needs_are_not_looked_at_but_for_revocation() -> None:
    parts = genuine()
    parts.rims.append(fake.rim(GPU, False, version="550.54.14", hash=fake.hashes.SHA256()).xml())
    assert failures(parts.item(), BINDING, roots()) == []


def test_what_is_missing_hides_nothing_that_is_false() -> None:
    """A policy may waive a code that ends in `missing`: another device's failure must not go with it."""
    parts = genuine()
    parts.ocsp.pop(0)
    parts.ocsp.append(fake.ocsp(NODES["hgx-h100"].gpus[1].brom, status="revoked"))
    assert failures(parts.item(), BINDING, roots()) == ["nvidia.revocation.revoked"]
    parts = genuine()
    parts.gpus[0].report = GPU.report(NONCE, opaque={fake.DRIVER: b"550.90.07\0"})
    parts.rims[0] = parts.rims[0].replace(b'active="True"', b'active="False"', 1)
    assert failures(parts.item(), BINDING, roots()) == ["nvidia.rim_driver.digest"]


@pytest.mark.parametrize("chip", ["GX100", "GA100", "GH1000", "LS_20"])
def test_chips_that_are_not_known_are_not_supported(chip: str) -> None:
    parts = Node((Device(chip, driver="550.54.15"),)).parts(NONCE)
    assert failures(parts.item(), BINDING, roots()) == ["nvidia.identity.unknown"]
