"""The accelerators of an instance, as its statement names them (FORMATS section 3, `rlu_gpus`).

Everything here is what the attestor read from the driver, and *asserted*. `attestation` says which evidence is to show more: `nvidia` names
an evidence item beside the statement, `none` says openly that there is none, as with AMD's MI300X and with NVIDIA's GPUs outside
confidential computing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlu_attestation.claims import Members

ATTESTATIONS = ("none", "nvidia")
MODES = ("off", "on", "devtools", "ppcie")
"""NVIDIA's confidential-computing modes; `ppcie` is that of eight GPUs that share one machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The GPUs that serve the model, all of one kind.

    Attributes:
        name: the vendor's product name, such as `NVIDIA H200`.
        memory_mib: of one GPU, in MiB.
        mode: confidential-computing mode; None where the vendor has none.
    """

    count: int
    name: str
    memory_mib: int
    driver: str
    vbios: str
    attestation: str
    mode: str | None = None

    @property
    def total_mib(self) -> int:
        return self.count * self.memory_mib

    def to_json(self) -> dict[str, Any]:
        """The claim's object."""
        value: dict[str, Any] = {
            "attestation": self.attestation,
            "count": self.count,
            "driver": self.driver,
            "memory_mib": self.memory_mib,
            "name": self.name,
            "vbios": self.vbios,
        }
        return value if self.mode is None else {**value, "mode": self.mode}

    @classmethod
    def read(cls, members: Members, name: str) -> Gpus:
        """Read the claim. Raises Malformed."""
        with members.object(name) as inner:
            return cls(
                attestation=inner.choice("attestation", ATTESTATIONS),
                count=inner.count("count"),
                driver=inner.text("driver"),
                memory_mib=inner.count("memory_mib"),
                name=inner.text("name"),
                vbios=inner.text("vbios"),
                mode=inner.optional(inner.choice, "mode", MODES),
            )
