"""Which NVSwitches the GPUs say they are wired to, held against the switches that reported.

In protected PCIe mode a GPU lists the device id of the switch at each of its links, and a switch its own id and the ids of the GPUs at its
ports. A GPU's report does not hold the GPU's own id, so the GPUs that a switch lists can be counted, not recognised.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence.nvidia.item import NvidiaEvidence


@dataclass(frozen=True, slots=True)
class Topology:
    """What the reports agree on.

    Attributes:
        switches: ids of the switches that GPUs list; empty when none lists any. Each of them reported.
        gpus_counted: every switch lists its GPUs, all the same ones, as many as reported.
    """

    switches: frozenset[bytes]
    gpus_counted: bool


def verify_topology(evidence: NvidiaEvidence, step: str) -> Topology:
    """Hold the lists of GPUs and switches against each other.

    Raises:
        Untrusted: `<step>.unreported` when a GPU is wired to a switch without a report, `.unlisted` when a switch reported that some GPU
            does not list, `.gpus` when switches list different GPUs or another number of them than reported.
    """
    present = frozenset(device.report.opaque.pdi or b"" for device in evidence.switches)
    lists = [(device.name, device.report.opaque.switches or frozenset()) for device in evidence.gpus]
    for name, listed in lists:
        if listed - present:
            raise Untrusted(
                f"{step}.unreported",
                f"{name} is wired to switches without a report: {_ids(listed - present)}",
            )
        if present - listed:
            raise Untrusted(f"{step}.unlisted", f"{name} does not list switches {_ids(present - listed)}")
    seen = [device.report.opaque.gpus for device in evidence.switches]
    known = [gpus for gpus in seen if gpus is not None]
    if any(gpus != known[0] or len(gpus) != len(evidence.gpus) for gpus in known):
        counts = ", ".join(str(len(gpus)) for gpus in known)
        raise Untrusted(
            f"{step}.gpus",
            f"switches list {counts} GPUs, not all the same ones or not the {len(evidence.gpus)} that reported",
        )
    return Topology(present, bool(seen) and len(known) == len(seen))


def _ids(ids: frozenset[bytes]) -> str:
    return ", ".join(sorted(found.hex() for found in ids))
