"""Hardware profiles: what a machine of each certified configuration has, and what stays unattested on it.

A profile is a promise about evidence: which kinds may speak for the instance key, and which GPUs serve. Whether those GPUs are attested is
a step of its own (`gpu.attestation`), which passes only with their reports. `BUILT_IN` holds the certified ones; a policy adds its own
under `[profiles.<name>]`. Sources: the vendors' product pages for names and memory; `NVIDIA A100` has no attestation report, AMD Instinct
has none either, and an enclave has no GPU at all.
"""

from __future__ import annotations

from dataclasses import dataclass

_TPM = ("tpm2",)
_HOST = ("azure-vtpm", "gcp-vtpm", "nitrotpm", "sev-snp", "tdx", "tpm2")
_640_GB = 640 * 1000**3 // 2**20
_1128_GB = 1128 * 1000**3 // 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDemand:
    """GPUs that a profile has: how many, the beginnings of their product names, and how much memory they have together, in MiB."""

    count: int
    names: tuple[str, ...]
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A configuration.

    Attributes:
        keys: kinds of evidence that may speak for the instance key.
        gpus: None where no GPU serves the model.
        unattested: what no evidence of this profile speaks about, in words for the verdict.
    """

    keys: tuple[str, ...]
    gpus: GpuDemand | None
    unattested: tuple[str, ...] = ()


_SHARED = "that the GPUs are in this machine, unless a TEE collected their reports"

BUILT_IN = {
    "cpu-demo": Profile(keys=(*_HOST, "nitro", "none"), gpus=None),
    "h100x8": Profile(
        keys=_HOST,
        gpus=GpuDemand(count=8, names=("NVIDIA H100",), memory_mib=_640_GB),
        unattested=(_SHARED,),
    ),
    "h200x8": Profile(
        keys=_HOST,
        gpus=GpuDemand(count=8, names=("NVIDIA H200",), memory_mib=_1128_GB),
        unattested=(_SHARED,),
    ),
    "mi300x8": Profile(
        keys=_HOST,
        gpus=GpuDemand(count=8, names=("AMD Instinct MI300X",), memory_mib=_640_GB),
        unattested=("the GPUs: AMD Instinct has no attestation report",),
    ),
    "nitro-p4d.24xlarge": Profile(
        keys=("nitro",),
        gpus=None,
        unattested=("the GPUs: an enclave has none, and the parent is not attested",),
    ),
    "nitro-p5.48xlarge": Profile(
        keys=("nitro",),
        gpus=None,
        unattested=("the GPUs: an enclave has none, and the parent is not attested",),
    ),
    "azure-confidential-a100": Profile(
        keys=("azure-vtpm",),
        gpus=GpuDemand(count=1, names=("NVIDIA A100",), memory_mib=80 * 1000**3 // 2**20),
        unattested=("the GPUs: A100 has no attestation report",),
    ),
    "gcp-a3-highgpu-8g": Profile(
        keys=("gcp-vtpm", "tdx"),
        gpus=GpuDemand(count=8, names=("NVIDIA H100",), memory_mib=_640_GB),
        unattested=(_SHARED,),
    ),
}
"""The certified configurations of the deployment."""
