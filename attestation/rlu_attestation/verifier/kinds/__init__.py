"""The kinds of evidence that can speak for an instance key, one room each: parse, run the steps, give a `HardwareProof`.

A kind's steps are functions of `evidence.<kind>`; its room here puts them in order, records them in the trail, and says in the verifier's
own words what they proved. A new kind is a folder under `evidence/`, a room here, and its steps in the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.kinds import azure_vtpm, gcp_vtpm, nitro, sev_snp, tdx, tpm2
from rlu_attestation.verifier.proof import Conditions, HardwareProof
from rlu_attestation.verifier.trail import Failed, Trail

__all__ = ["ROOMS", "Room"]

Check = Callable[[Trail, Conditions, Subject, Any], HardwareProof | Failed]


@dataclass(frozen=True, slots=True)
class Room:
    """How evidence of one kind is taken apart and checked; `check` takes what `parse` gave, or the `Failed` of it."""

    parse: Callable[[bytes], Any]
    check: Check


ROOMS = {
    "tpm2": Room(tpm2.parse, tpm2.check),
    "gcp-vtpm": Room(gcp_vtpm.parse, gcp_vtpm.check),
    "azure-vtpm": Room(azure_vtpm.parse, azure_vtpm.check),
    "sev-snp": Room(sev_snp.parse, sev_snp.check),
    "tdx": Room(tdx.parse, tdx.check),
    "nitro": Room(nitro.parse, nitro.check_enclave),
    "nitrotpm": Room(nitro.parse, nitro.check_instance),
}
