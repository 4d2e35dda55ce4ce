"""Collectors of evidence, one for each device interface, and which of them the settings ask for.

| kind | from | collector |
|---|---|---|
| `sev-snp` | configfs-tsm, provider `sev_guest` | `sev_snp.SevSnpCollector` |
| `tdx` | configfs-tsm, provider `tdx_guest` | `tdx.TdxCollector` |
| `nitro` | `/dev/nsm` | `nitro.NitroCollector` |
| `nitrotpm` | a vendor command of the TPM | `nitro.NitroCollector` |
| `nvidia` | NVML, and NSCQ for switches | `nvidia.NvidiaCollector` |
| `gcp-vtpm` | the TPM, with the AK that Google left in it | `gcp_vtpm.GcpKey` |
| `azure-vtpm` | the TPM, with the AK and the report that Azure's paravisor left in it | `azure_vtpm.AzureKey` |

TPMs sign and quote where their keys are (`attestor.tpm`); of clouds' TPMs only the attestation key is special.
"""

from __future__ import annotations

from rlu_attestation.evidence.nitro import Kind
from rlu_attestation.evidence.nvidia import KIND as NVIDIA
from rlu_attestation.gpus import Gpus
from rlu_server.attestor.collect import inventory, nvml
from rlu_server.attestor.collect.azure_vtpm import AzureKey
from rlu_server.attestor.collect.collector import Collector
from rlu_server.attestor.collect.gcp_vtpm import GcpKey
from rlu_server.attestor.collect.nitro import NitroCollector
from rlu_server.attestor.collect.nitrotpm import NitroTpm
from rlu_server.attestor.collect.nsm import Nsm
from rlu_server.attestor.collect.nvidia import NvidiaCollector
from rlu_server.attestor.collect.sev_snp import SevSnpCollector
from rlu_server.attestor.collect.tdx import TdxCollector
from rlu_server.attestor.collect.tsm import TsmReports
from rlu_server.attestor.tpm.attestation_key import AttestationKey
from rlu_server.settings import Settings

__all__ = ["Collector", "attestation_key_for", "collector_for", "collectors_for", "gpus_of"]


def collector_for(settings: Settings) -> Collector | None:
    """Who collects the evidence for the instance key; None where a TPM holds it, or nothing does."""
    kind = settings.attestation.holder
    directory = settings.collateral_dir / kind
    if kind == "sev-snp":
        return SevSnpCollector(TsmReports(), directory)
    if kind == "tdx":
        return TdxCollector(TsmReports(), directory)
    if kind == "nitro":
        return NitroCollector(Nsm(), directory)
    if kind == "nitrotpm":
        return NitroCollector(NitroTpm(settings.attestation.tcti), directory, Kind.NITROTPM)
    return None


def attestation_key_for(settings: Settings) -> AttestationKey | None:
    """The cloud's own attestation key in the TPM; None where a registrar certified ours."""
    kind = settings.attestation.holder
    if kind == "gcp-vtpm":
        return GcpKey(settings.collateral_dir / kind)
    if kind == "azure-vtpm":
        return AzureKey(settings.collateral_dir / kind)
    return None


def collectors_for(settings: Settings) -> tuple[Collector, ...]:
    """Who collects evidence beside the key's: of the GPUs, and of what wires them."""
    if settings.attestation.gpu.evidence == NVIDIA:
        return (NvidiaCollector(settings.collateral_dir / NVIDIA),)
    return ()


def gpus_of(settings: Settings) -> Gpus | None:
    """The GPUs that the instance states; None without any.

    Raises:
        AttestorError: `nvml.…`, `gpu.…`.
    """
    wanted = settings.attestation.gpu
    if wanted.vendor == "none":
        return None
    if wanted.vendor == "amd":
        return inventory.amd().claim("none")
    with nvml.opened() as opened:
        return inventory.nvidia(opened).claim(wanted.evidence)
