"""What verified evidence of an Azure confidential VM says, for a policy to judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlu_attestation.evidence.azure_vtpm.runtime import Setting
from rlu_attestation.tpm.policy import PcrValues


@dataclass(frozen=True, slots=True)
class AzureVtpmClaims:
    """Claims of evidence whose every step passed, those of the hardware under it included.

    They are as good as the paravisor's measurement in the hardware report: who does not name that in the policy believes whoever
    started the VM.

    Attributes:
        hardware_kind: `sev-snp` or `tdx`.
        vm_configuration: all settings, by Microsoft's names.
        user_data: 64 bytes that the guest had put into the runtime data, or None.
        pcrs: of the virtual TPM, which the paravisor keeps in the VM's protected memory.
    """

    hardware_kind: str
    vm_configuration: Mapping[str, Setting]
    user_data: bytes | None
    pcrs: PcrValues

    @property
    def secure_boot(self) -> bool | None:
        """Secure Boot is on for the guest; None: the paravisor does not say."""
        return self._flag("secure-boot")

    @property
    def tpm_persisted(self) -> bool | None:
        """The virtual TPM's state outlives the VM's restart; None: the paravisor does not say."""
        return self._flag("tpm-persisted")

    @property
    def console_enabled(self) -> bool | None:
        """The host may use the guest's serial console; None: the paravisor does not say."""
        return self._flag("console-enabled")

    @property
    def vm_unique_id(self) -> str | None:
        """Azure's identity of the VM."""
        value = self.vm_configuration.get("vmUniqueId")
        return value if isinstance(value, str) else None

    def _flag(self, name: str) -> bool | None:
        value = self.vm_configuration.get(name)
        return value if isinstance(value, bool) else None
