"""The attestation key of an Azure confidential VM's virtual TPM, and the hardware's report about it.

Azure's paravisor keeps the AK at a persistent handle, and at every boot leaves in NV memory a report (HCL report) in which the hardware
vouches for that key. What endorses the hardware comes from the collateral directory, since the VM would have to ask the host's
link-local services (THIM at 169.254.169.254) for it:

    SEV-SNP   certificates of VCEK, ASK and ARK, the ARK's revocation list (`collateral.py`)
    TDX       quote.bin: the quote that the host made of the TDREPORT of this boot; collateral.json as for `tdx`

The report is of the last boot, the quote by the TPM is fresh.
"""

from __future__ import annotations

from pathlib import Path

from tpm2_pytss.utils import NoSuchIndex

from rlu_attestation.errors import RluError
from rlu_attestation.evidence import azure_vtpm, sev_snp, tdx
from rlu_attestation.evidence.azure_vtpm import Hardware, HclReport, ReportType, SevSnpHardware, TdxHardware
from rlu_attestation.evidence.binding import BindingPath
from rlu_attestation.tpm.public import parse_public
from rlu_server.attestor.collect import collateral
from rlu_server.attestor.collect.sev_snp import endorse
from rlu_server.attestor.collect.tdx import read_collateral
from rlu_server.attestor.collect.vtpm import loaded
from rlu_server.attestor.errors import HardwareRefused, NotReady
from rlu_server.attestor.tpm import nv
from rlu_server.attestor.tpm.attestation_key import TpmParts
from rlu_server.attestor.tpm.connection import Tpm, guard
from rlu_server.attestor.tpm.keys import LoadedKey

AK_HANDLE = 0x81000003
HCL_INDEX = 0x01400001
QUOTE = "quote.bin"


class AzureKey:
    """`AttestationKey` of evidence `azure-vtpm`.

    Args:
        directory: what endorses the hardware.
    """

    kind = azure_vtpm.KIND

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._hcl: HclReport | None = None

    def load(self, tpm: Tpm) -> LoadedKey:
        """The AK at its handle, and the report about it.

        Raises:
            NotReady: this is no confidential VM of Azure's (`azure-vtpm.absent`), or the directory lacks something
                (`sev-snp.endorsement`, `azure-vtpm.quote`, `collateral.…`).
            HardwareRefused: a report that cannot be read, or is about another key (`azure-vtpm.hcl`, `azure-vtpm.ak`).
        """
        try:
            with guard("nv_read"):
                present, data = AK_HANDLE in tpm.handles(AK_HANDLE), nv.read(tpm, HCL_INDEX)
        except NoSuchIndex:
            present, data = False, b""
        if not present:
            raise NotReady(
                "azure-vtpm.absent",
                f"the TPM has no key at {AK_HANDLE:#x}, or no HCL report at NV {HCL_INDEX:#010x}; it needs a confidential VM of Azure's, "
                "or set [attestation] key to the kind of this machine",
            )
        try:
            hcl = azure_vtpm.parse_hcl_report(azure_vtpm.trim_nv(data))
        except RluError as error:
            raise HardwareRefused("azure-vtpm.hcl", f"the HCL report cannot be used: {error}") from error
        with guard("persistent"):
            key = loaded(tpm, tpm.esapi.tr_from_tpmpublic(AK_HANDLE))
        _check_key(key, hcl)
        self._hardware(hcl)
        self._hcl = hcl
        return key

    def item(self, parts: TpmParts, binding: BindingPath) -> bytes:
        assert self._hcl is not None
        return azure_vtpm.encode(
            hcl_report=self._hcl.raw,
            hardware=self._hardware(self._hcl),
            ak_public=parts.ak_public,
            key_public=parts.key_public,
            certify=parts.certify,
            quote=parts.quote,
            pcrs=parts.pcrs,
            binding=binding,
            event_log=parts.event_log,
            ima_log=parts.ima_log,
        )

    def _hardware(self, hcl: HclReport) -> Hardware:
        if hcl.report_type is ReportType.TDX:
            return self._tdx(hcl)
        try:
            report = sev_snp.parse_report(hcl.hardware_report)
        except RluError as error:
            raise HardwareRefused(
                "azure-vtpm.hcl", f"AMD's report in the HCL report cannot be used: {error}"
            ) from error
        found = endorse(report, collateral.load(self._directory), self._directory)
        return SevSnpHardware(found.vek, found.ask, found.ark, found.crl)

    def _tdx(self, hcl: HclReport) -> TdxHardware:
        path = self._directory / QUOTE
        quote = tdx.trim(collateral.read(path))
        try:
            parsed = tdx.parse_quote(quote)
        except RluError as error:
            raise NotReady(
                "azure-vtpm.quote", f"{path} is no quote: {error.message}; have the host make it anew"
            ) from error
        if parsed.report.report_data != hcl.report_data:
            raise NotReady(
                "azure-vtpm.quote",
                f"{path} is of another boot, or of another VM; have the host make a quote of this boot's TDREPORT",
            )
        stapled = read_collateral(self._directory)
        return TdxHardware(quote, None if stapled is None else stapled.to_json())


def _check_key(key: LoadedKey, hcl: HclReport) -> None:
    try:
        ours = parse_public(key.public).public_key()
    except RluError as error:
        raise HardwareRefused(
            "azure-vtpm.ak", f"the key at {AK_HANDLE:#x} cannot be used: {error}"
        ) from error
    if ours != hcl.runtime.ak:
        raise HardwareRefused(
            "azure-vtpm.ak", f"the HCL report is not about the key at {AK_HANDLE:#x}: was it replaced?"
        )
