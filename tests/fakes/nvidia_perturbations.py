"""NVIDIA evidence gone wrong in one way at a time, by name, with all the codes that the steps must give, in the order of the steps."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes

from fakes import asn1, nvidia_rim_perturbations
from fakes import nvidia as fake
from fakes.nvidia import ZERO, block, digest, identity_ca, provisioner
from fakes.nvidia_changes import (
    BINDING,
    GPU,
    INVALID,
    ITEM,
    MEASUREMENTS,
    MISMATCH,
    MISSING,
    NAME,
    OPAQUE,
    OTHER,
    REPORT,
    RESERVED,
    SECOND,
    SWITCH,
    TWICE,
    Perturbation,
    _genuine,
    brom,
    chain,
    eight_of_one,
    flip,
    further,
    leaf,
    opaque,
    repeat_gpu,
    report,
    signed,
    swap_kinds,
    swap_reports,
    switch_twice,
    two_leaves,
    under_another_root,
)
from fakes.pki import AT
from rlu_attestation import merkle

FORM = [
    ("empty-report", report(lambda data: b""), REPORT),
    ("truncated", report(lambda data: data[:-1]), REPORT),
    ("trailing-garbage", report(lambda data: data + b"\0"), REPORT),
    ("report-twice", report(lambda data: data * 2), REPORT),
    ("spdm-version-1.0", signed(request=b"\x10\xe0\x01\xff"), "parse: nvidia.report.version"),
    ("spdm-version-1.2-in-the-response", signed(response=b"\x12\x60\0\0"), "parse: nvidia.report.version"),
    ("another-request", signed(request=b"\x11\xe1\x01\xff"), REPORT),
    ("another-response", signed(response=b"\x11\x61\0\0"), REPORT),
    ("unsigned-asked-for", signed(request=b"\x11\xe0\x00\xff"), "parse: nvidia.report.request"),
    ("one-measurement-asked-for", signed(request=b"\x11\xe0\x01\x01"), "parse: nvidia.report.request"),
    ("reserved-bit-set-slot", signed(slot=b"\x10"), RESERVED),
    ("slots-differ", signed(slot=b"\1"), RESERVED),
    ("reserved-param1", signed(response=b"\x11\x60\1\0"), RESERVED),
    ("no-measurements", signed(blocks=[b""], count=0), MEASUREMENTS),
    ("fewer-measurements-than-counted", signed(count=65), MEASUREMENTS),
    ("more-measurements-than-counted", signed(count=63), MEASUREMENTS),
    ("measurements-out-of-order", signed(blocks=[block(2, ZERO), block(1, ZERO)]), MEASUREMENTS),
    ("measurement-left-out", signed(blocks=[block(1, ZERO), block(3, ZERO)]), MEASUREMENTS),
    ("measurement-raw", signed(blocks=[block(1, ZERO, kind=0x81)]), MEASUREMENTS),
    ("measurement-sha256", signed(blocks=[block(1, bytes(32))]), MEASUREMENTS),
    ("measurement-not-dmtf", signed(blocks=[block(1, ZERO, specification=2)]), MEASUREMENTS),
    ("opaque-cut", signed(opaque_data=b"\3\0\4\0abc"), OPAQUE),
    ("opaque-field-twice", signed(opaque_data=b"\3\0\1\x001" * 2), OPAQUE),
    ("opaque-driver-missing", opaque(DRIVER=None), OPAQUE),
    ("opaque-vbios-missing", opaque(VBIOS=None), OPAQUE),
    ("opaque-vbios-long", opaque(VBIOS=b"\0\x74\0\x96\x1a\1\0\0"), OPAQUE),
    ("opaque-driver-not-a-version", opaque(DRIVER=b"550.54.15 \0"), OPAQUE),
    ("opaque-driver-with-a-hole", opaque(DRIVER=b"550\0.54"), OPAQUE),
    ("opaque-sku-unprintable", opaque(CHIP_SKU=b"8\n5"), OPAQUE),
    ("opaque-fwid-short", opaque(FWID=bytes(32)), OPAQUE),
    ("opaque-nvdec0-neither", opaque(NVDEC0=b"\x54"), OPAQUE),
    ("opaque-ppcie-neither", opaque(PPCIE=b"\1"), OPAQUE),
    ("opaque-feature-unknown", opaque(FEATURE_FLAG=b"\3\0"), OPAQUE),
    ("opaque-feature-short", opaque(FEATURE_FLAG=b"\2"), OPAQUE),
    ("opaque-pdis-cut", opaque(PDI=bytes(9)), OPAQUE),
    ("switch-without-an-id", opaque(SWITCH, PDI=None), OPAQUE),
    ("switch-id-zero", opaque(SWITCH, PDI=bytes(8)), OPAQUE),
    ("switch-gpus-cut", opaque(SWITCH, GPU_PDIS=bytes(64)), OPAQUE),
    ("switch-port-to-nowhere", opaque(SWITCH, GPU_PDIS=bytes(64) + b"\x08".ljust(64, b"\xff")), OPAQUE),
    ("switch-bios-not-a-version", opaque(SWITCH, VBIOS=b"96.10.55.00"), OPAQUE),
    ("gpu-among-the-switches", lambda p: p.switches.append(p.gpus[1]), OPAQUE),
    ("switch-among-the-gpus", lambda p: p.gpus.append(p.switches[0]), OPAQUE),
    ("item-of-another-kind", further(kind="tpm2"), ITEM),
    ("item-with-an-unknown-key", further(nonce="AA"), ITEM),
    ("item-without-rims", further(rims=None), ITEM),
    ("item-without-binding", further(binding=None), ITEM),
    ("item-gpus-an-object", further(gpus={}), ITEM),
    ("item-device-with-an-unknown-key", further(gpus=[{"report": "", "certificate_chain": ["AA"], "x": ""}]), ITEM),
    ("item-device-without-certificates", chain(lambda found: []), ITEM),
    ("item-too-many-certificates", chain(lambda found: found * 2), ITEM),
    ("item-too-many-gpus", further(gpus=[{"report": "", "certificate_chain": ["AA"]}] * 33), ITEM),
    ("item-empty", further(gpus=[], switches=[]), ITEM),
    ("item-report-not-text", further(gpus=[{"report": 7, "certificate_chain": ["AA"]}]), "parse: encoding.base64url"),
    ("item-padded-base64", further(ocsp=["AA=="]), "parse: encoding.base64url"),
    ("item-not-canonical", further(binding={"leaf_index": 0, "path": ["é"], "tree_size": 1}), "parse: statement.encoding"),
    ("binding-outside-the-tree", further(binding={"leaf_index": 1, "path": [], "tree_size": 1}), ITEM),
    ("certificate-trailing-garbage", chain(lambda found: [found[0] + b"\0", *found[1:]]), "parse: x509.encoding"),
]  # fmt: skip

CHAIN = [
    ("unknown-root", under_another_root, "nvidia.root.unknown"),
    ("root-left-out", chain(lambda found: found[:-1]), ("nvidia.root.unknown", "nvidia.chain.length", NAME)),
    ("swapped-chain", chain(lambda found: [found[0], found[2], found[1], *found[3:]]), (
        "nvidia.chain.order", NAME, "nvidia.revocation.missing")),
    ("chain-of-another-gpu", lambda p: setattr(p.gpus[0], "chain", p.gpus[1].chain), (TWICE, INVALID)),
    ("reports-swapped", swap_reports, INVALID),
    ("leaf-of-another-gpu", lambda p: p.gpus[0].chain.__setitem__(0, p.gpus[1].chain[0]), (
        TWICE, "nvidia.chain.unknown_issuer", INVALID)),
    ("leaf-by-another-key", leaf(signer=provisioner()), "nvidia.chain.signature"),
    ("expired-leaf", leaf(not_after=AT - SECOND), "nvidia.chain.expired"),
    ("not-yet-valid-leaf", leaf(not_before=AT + SECOND), "nvidia.chain.not_yet_valid"),
    ("leaf-not-for-signatures", leaf(usages=(2,)), "nvidia.chain.usage"),
    ("leaf-of-p256", leaf(public=fake.private_key("p256", "someone").public_key()), ("nvidia.chain.key", "nvidia.signature.key")),
    ("leaf-of-another-key", leaf(public=fake.p384("someone").public_key()), INVALID),
    ("leaf-critical-extension", leaf(items=[("1.2.3.4", True, asn1.NULL)]), (
        "nvidia.chain.critical_extension", NAME, "nvidia.fwid.absent")),
    ("leaf-signed-with-sha1", leaf(digest="sha1"), "nvidia.chain.algorithm"),
    ("device-key-no-authority", brom(ca=False), "nvidia.chain.not_a_ca"),
    ("device-key-may-not-certify", brom(usages=(0,)), "nvidia.chain.not_a_ca"),
    ("expired-device-key", brom(not_after=AT - SECOND), "nvidia.chain.expired"),
    ("device-key-by-the-identity-ca", brom(issuer=identity_ca), ("nvidia.chain.order",)),
    ("certificate-inserted", chain(lambda found: [*found[:4], found[3], found[4]]), ("nvidia.chain.length", NAME, MISSING)),
]  # fmt: skip

IDENTITY = [
    ("another-chip-in-the-leaf", leaf(device_name="NVIDIA:GB100:48B02D0000000000"), "nvidia.identity.chip"),
    ("another-chip-in-the-device-key", brom(common_name="GB100 A01 GSP BROM"), ("nvidia.chain.unknown_issuer", "nvidia.identity.chip")),
    ("another-vendor", leaf(device_name="AMD:GH100:48B02D0000000000"), NAME),
    ("serial-short", leaf(device_name="NVIDIA:GH100:48B02D"), NAME),
    ("serial-lower-case", leaf(device_name="NVIDIA:GH100:48b02d0000000000"), NAME),
    ("device-name-missing", leaf(device_name=[]), NAME),
    ("device-name-of-another-kind", leaf(device_name=[fake.other_name("NVIDIA:GH100:48B02D0000000000", "1.2.3")]), NAME),
    ("device-key-named-otherwise", brom(common_name="GH100 A01 GSP FMC"), ("nvidia.chain.unknown_issuer", NAME)),
    ("gpu-certificates-for-a-switch", swap_kinds, (
        "nvidia.identity.kind", INVALID, "nvidia.topology.gpus")),
    ("fwid-mismatch", opaque(FWID=digest("other firmware")), "nvidia.fwid.mismatch"),
    ("fwid-not-certified", leaf(extensions=[]), "nvidia.fwid.absent"),
    ("fwid-of-another-firmware", leaf(extensions=[fake.composite(GPU.brom.key.public_key(), digest("x"))]), "nvidia.fwid.mismatch"),
    ("fwid-twice", leaf(extensions=[
        fake.composite(GPU.brom.key.public_key(), digest("firmware")), fake.tcb_info(digest("firmware"))]), "nvidia.fwid.extension"),
    ("fwid-version-2", leaf(extensions=[fake.composite(GPU.brom.key.public_key(), ZERO, version=2)]), "nvidia.fwid.extension"),
    ("fwid-sha256", leaf(extensions=[
        fake.composite(GPU.brom.key.public_key(), ZERO, algorithm="2.16.840.1.101.3.4.2.1")]), "nvidia.fwid.extension"),
    ("fwid-short", leaf(extensions=[fake.composite(GPU.brom.key.public_key(), bytes(32))]), "nvidia.fwid.extension"),
    ("fwid-list-empty", leaf(extensions=[fake.tcb_info()]), "nvidia.fwid.extension"),
    ("fwid-second-in-the-list", leaf(extensions=[fake.tcb_info(ZERO, digest("firmware"))]), "nvidia.fwid.mismatch"),
]  # fmt: skip

DEVICES = [
    ("gpu-twice", repeat_gpu, (TWICE, "nvidia.topology.gpus")),
    ("one-gpu-looks-like-eight", eight_of_one, (TWICE, "nvidia.topology.gpus")),
    ("two-leaves-of-one-gpu", two_leaves, TWICE),
    ("switch-id-twice", switch_twice, TWICE),
    ("no-gpu", lambda p: p.gpus.clear(), ("nvidia.devices.no_gpu", "nvidia.topology.gpus")),
    ("switch-report-left-out", lambda p: p.switches.clear(), "nvidia.topology.unreported"),
    ("gpu-report-left-out", lambda p: p.gpus.pop(), "nvidia.topology.gpus"),
    ("gpu-wired-to-another-switch", opaque(PDI=b"another!" * 18), "nvidia.topology.unreported"),
    ("gpu-not-wired-to-the-switch", opaque(PDI=bytes(144)), "nvidia.topology.unlisted"),
    ("gpu-lists-no-switches", opaque(PDI=None), "nvidia.topology.unlisted"),
    ("switch-lists-too-few-gpus", opaque(SWITCH, GPU_PDIS=GPU.pdi.ljust(64, b"\0") + bytes(64)), "nvidia.topology.gpus"),
]  # fmt: skip

SIZE = len(_genuine().gpus[0].report)
SIGNATURE = [
    ("flipped-slot", flip(36), RESERVED),
    ("flipped-nonce", flip(4), (INVALID, "nvidia.binding.mismatch")),
    ("flipped-measurement", flip(37 + 8 + 7), (INVALID, MISMATCH)),
    ("flipped-value-type", flip(37 + 8 + 4), INVALID),
    ("flipped-response-nonce", flip(37 + 8 + 64 * 55), INVALID),
    ("flipped-unknown-field", report(lambda data: data.replace(b"from the future", b"from the Future")), INVALID),
    ("flipped-chip-sku", report(lambda data: data.replace(b"885\0", b"895\0")), INVALID),
    ("flipped-signature", flip(SIZE - 1), INVALID),
    ("signature-zero", report(lambda data: data[:-96] + bytes(96)), INVALID),
    ("signature-r-zero", report(lambda data: data[:-96] + bytes(48) + data[-48:]), INVALID),
    ("signature-s-zero", report(lambda data: data[:-48] + bytes(48)), INVALID),
    ("signature-swapped", report(lambda data: data[:-96] + data[-48:] + data[-96:-48]), INVALID),
    ("signature-all-ones", report(lambda data: data[:-96] + b"\xff" * 96), INVALID),
    ("signature-little-endian", report(lambda data: data[:-96] + data[-49:-97:-1] + data[:-49:-1]), INVALID),
    ("signed-over-sha256", report(lambda data: GPU.sign(data[:-96], hashes.SHA256())), INVALID),
    ("signed-response-only", report(lambda data: data[:-96] + fake.raw_signature(GPU.key, data[37:-96])), INVALID),
    ("signature-of-another-report", report(lambda data: data[:-96] + GPU.report(bytes(32))[-96:]), INVALID),
]  # fmt: skip

BOUND = [
    ("nonce-mismatch", signed(nonce=merkle.leaf_hash(b"another")), "nvidia.binding.mismatch"),
    ("nonce-mismatch-of-the-second-gpu", signed(OTHER, nonce=bytes(32)), "nvidia.binding.mismatch"),
    ("nonce-mismatch-of-the-switch", signed(SWITCH, nonce=bytes(32)), "nvidia.binding.mismatch"),
    ("binding-itself-as-nonce", signed(nonce=BINDING), "nvidia.binding.mismatch"),
    ("binding-path-too-long", further(binding={"leaf_index": 0, "path": [fake.b64u(bytes(32))], "tree_size": 1}), "proof.inclusion"),
]  # fmt: skip


def _expected(codes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if codes is None else (codes,) if isinstance(codes, str) else codes


ALL: list[Perturbation] = [
    Perturbation(name, perturb, _expected(codes))  # type: ignore[arg-type]
    for name, perturb, codes in [
        *FORM, *CHAIN, *IDENTITY, *DEVICES, *SIGNATURE, *BOUND, *nvidia_rim_perturbations.ALL
    ]
]  # fmt: skip
