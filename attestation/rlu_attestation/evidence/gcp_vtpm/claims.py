"""What verified evidence of a Compute Engine instance says, for a policy to judge."""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.evidence.gcp_vtpm.instance import GceInstance
from rlu_attestation.tpm.policy import PcrValues


@dataclass(frozen=True, slots=True)
class GcpVtpmClaims:
    """Claims of evidence whose every step passed, except revocation and binding, which the caller checks.

    Attributes:
        instance: whom Google issued the attestation key's certificate to: *endorsed* by Google.
        pcrs: as quoted. The virtual TPM is software of the host's, so that they are Google's word as well.
    """

    instance: GceInstance
    pcrs: PcrValues

    @property
    def region(self) -> str:
        return self.instance.region
