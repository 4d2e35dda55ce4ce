"""The kinds of evidence that can speak for an instance key, one room each: parse, run the steps, give a `HardwareProof`.

A kind's steps are functions of `evidence.<kind>`; its room here puts them in order, records them in the trail, and says in the verifier's
own words what they proved. A room is imported when evidence of its kind is here. A new kind is a folder under `evidence/`, a room here,
and its steps in the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.proof import Conditions, HardwareProof
from rlu_attestation.verifier.trail import Failed, Trail

__all__ = ["ROOMS", "Room"]


@dataclass(frozen=True, slots=True)
class Room:
    """Where a kind is taken apart and checked: a module beside this one, with `parse`, and a function that runs its steps."""

    module: str
    function: str = "check"

    def parse(self, data: bytes) -> Any:
        """The evidence item, well-formed; raises what the kind's parser raises."""
        return self._member("parse")(data)

    def check(
        self, trail: Trail, conditions: Conditions, subject: Subject, evidence: Any
    ) -> HardwareProof | Failed:
        """Run the steps over what `parse` gave, or the `Failed` of it."""
        proof: HardwareProof | Failed = self._member(self.function)(trail, conditions, subject, evidence)
        return proof

    def _member(self, name: str) -> Any:
        return getattr(import_module(f"{__name__}.{self.module}"), name)


ROOMS = {
    "tpm2": Room("tpm2"),
    "gcp-vtpm": Room("gcp_vtpm"),
    "azure-vtpm": Room("azure_vtpm"),
    "sev-snp": Room("sev_snp"),
    "tdx": Room("tdx"),
    "nitro": Room("nitro", "check_enclave"),
    "nitrotpm": Room("nitro", "check_instance"),
}
