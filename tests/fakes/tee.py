"""Instances whose key lives in a TEE's memory, on every fake hardware there is, with GPUs or without.

`Tee(kind).bundle()` is genuine in every step at `AT`, and `policy()` accepts it. Arguments change the statement's claims, or what the
hardware is made to attest.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from fakes import amd, aws, azure, google, intel, nvidia
from fakes.deployment import AT, NONCE, SPKI, Deployment
from fakes.machine import Measured
from fakes.tpm import private_key
from rlu_attestation import canonical, jose, merkle, x509
from rlu_attestation.bundle import Bundle, EvidenceItem
from rlu_attestation.channel import Channel
from rlu_attestation.evidence import sev_snp, tdx
from rlu_attestation.gpus import Gpus
from rlu_attestation.instance import InstanceClaims, binding, claims_bytes
from rlu_attestation.models import Software
from rlu_attestation.policy import ANY_GPU, ANY_TCB, Policy
from rlu_attestation.profiles import GpuDemand, Profile
from rlu_attestation.verdict import Source, Verdict
from rlu_attestation.verifier import Context, verify

CHIP = amd.Chip()
PLATFORM = intel.Platform()
ENCLAVE = aws.Module("nitro")
VM = aws.Module("nitrotpm")
NODE = nvidia.hgx(gpus=2, switches=1)
GPUS = Gpus(
    count=2,
    name="NVIDIA H200",
    memory_mib=143771,
    driver=NODE.gpus[0].driver or "",
    vbios=NODE.gpus[0].vbios,
    attestation="nvidia",
    mode="ppcie",
)
LAB = Profile(
    keys=("azure-vtpm", "gcp-vtpm", "nitro", "nitrotpm", "sev-snp", "tdx"),
    gpus=GpuDemand(count=2, names=("NVIDIA H200",), memory_mib=280000),
)


def padded(root: bytes) -> bytes:
    return root.ljust(64, b"\0")


ITEMS: dict[str, Callable[[bytes], bytes]] = {
    "sev-snp": lambda root: amd.parts(CHIP, padded(root)).item(),
    "tdx": lambda root: intel.parts(PLATFORM, padded(root)).item(),
    "nitro": lambda root: aws.parts(ENCLAVE, root).item(),
    "nitrotpm": lambda root: aws.parts(VM, root).item(),
}
"""Kind to an evidence item over a binding root."""

ROOTS = {
    "sev-snp": (x509.parse(amd.ark("Milan").der),),
    "tdx": (x509.parse(intel.root().der),),
    "nitro": (x509.parse(aws.root().der),),
    "nitrotpm": (x509.parse(aws.root().der),),
    "gcp-vtpm": (x509.parse(google.root().der),),
    "nvidia": (x509.parse(nvidia.device_root().der),),
    "nvidia-rim": (x509.parse(nvidia.rim_root().der),),
}
MACHINES: dict[str, Callable[[], Measured]] = {
    "gcp-vtpm": google.Instance,
    "azure-vtpm on sev-snp": azure.Vm,
    "azure-vtpm on tdx": functools.partial(azure.Vm, hardware="tdx"),
}
"""Virtual TPMs by name: the kind, and what it stands on."""
PARAVISORS = {
    "sev-snp": {"measurement": frozenset({sev_snp.parse_report(azure.CHIP.report(bytes(64))).measurement})},
    "tdx": {"mr_td": frozenset({tdx.parse_quote(azure.PLATFORM.quote(bytes(64)).data).report.mr_td})},
}
MEASUREMENT = {"sev-snp": "measurement", "tdx": "mr_td", "nitro": "pcr0", "nitrotpm": "pcr4"}
"""Of each kind, one that says what was launched."""


@dataclass
class Tee:
    """An instance on hardware of one kind; `gpus` adds a node's."""

    kind: str
    gpus: Gpus | None = None
    claims: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.machine = MACHINES[self.kind]() if self.kind in MACHINES else None
        key = private_key("p256", f"key in a {self.kind}") if self.machine is None else self.machine.tpm.key
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key
        self.jwk = jose.public_jwk(self.key.public_key())

    def instance_claims(self, **changes: Any) -> InstanceClaims:
        fields: dict[str, Any] = {
            "jwk": self.jwk,
            "issued_at": AT - 10,
            "expires_at": AT + 7190,
            "nonce": NONCE,
            "oemboot": True,
            "dbgstat": "enabled" if self.kind in ("nitrotpm", "gcp-vtpm") else "disabled",
            "key_hardware": self.kind.partition(" ")[0],
            "key_created": AT - 86400,
            "tls": Channel("gateway-memory", SPKI),
            "model_name": "demo",
            "model_manifest": hashlib.sha256(b"manifest").digest(),
            "engine": Software("vllm", "0.32.0", hashlib.sha256(b"arguments").digest()),
            "gateway": Software("rlu", "0.1.0", hashlib.sha256(b"image").digest()),
            "hardware_profile": "cpu-demo" if self.gpus is None else "lab",
            "lock": Deployment().instance_claims().lock,
            "gpus": self.gpus,
            "region": google.INSTANCE["zone"].rpartition("-")[0] if self.kind == "gcp-vtpm" else aws.REGION,
            "boundary": "on-premises",
            "site": "rack-12",
            "start_count": 1,
        }
        return InstanceClaims(**(fields | self.claims | changes))

    def items(self, bound: bytes) -> dict[str, bytes]:
        """Genuine items by kind."""
        root = merkle.leaf_hash(bound)
        kind = self.kind.partition(" ")[0]
        found = {kind: ITEMS[kind](root) if self.machine is None else self.machine.evidence(bound)}
        if self.gpus is not None and self.gpus.attestation == "nvidia":
            found["nvidia"] = NODE.parts(root).item()
        return found

    def bundle(
        self, change: Callable[[dict[str, bytes], bytes], dict[str, bytes]] | None = None, **changes: Any
    ) -> Bundle:
        """Statement and evidence; `change` makes other items, before they are named in the statement."""
        claims = self.instance_claims(**changes)
        bound = binding(claims_bytes(canonical.decode(claims.encode())))
        items = self.items(bound)
        items = items if change is None else change(items, merkle.leaf_hash(bound))
        named = replace(
            claims, evidence={kind: hashlib.sha256(item).digest() for kind, item in items.items()}
        )
        payload = jose.jws_signing_input(jose.thumbprint(self.jwk), named.encode())
        r, s = utils.decode_dss_signature(self.key.sign(payload, ec.ECDSA(SHA256())))
        statement = jose.jws_assemble(payload, r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return Bundle(statement=statement, evidence=tuple(EvidenceItem(k, i) for k, i in items.items()))

    def policy(self, **changes: Any) -> Policy:
        """Accepts this instance and nothing `unsafe_`; measurements and security versions are accepted unseen."""
        base = Deployment().policy(
            ek_roots=(),
            registrars=(),
            roots=ROOTS,
            accept=dict.fromkeys(Deployment().policy().accept),
            measurements={**dict.fromkeys(ITEMS), "azure-vtpm": PARAVISORS.get(self.kind.rpartition(" ")[2])},
            pcrs=None,
            tcb={"sev-snp": ANY_TCB, "tdx": ANY_TCB},
            gpus=ANY_GPU,
            minimum_source={"key": Source.ENDORSED if self.kind == "gcp-vtpm" else Source.HARDWARE},
            profiles={"lab": LAB},
        )
        return replace(base, **changes)

    def verdict(self, bundle: Bundle, policy: Policy | None = None, **changes: Any) -> Verdict:
        fields: dict[str, Any] = {
            "bundle": bundle,
            "policy": self.policy() if policy is None else policy,
            "at": AT,
            "nonce": NONCE,
            "channel": SPKI,
        }
        return verify(Context(**(fields | changes)))
