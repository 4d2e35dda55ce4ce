"""Whether a node has what a certified hardware profile demands (`rlu_attestation.profiles`); a verifier will check the same by evidence."""

from __future__ import annotations

from collections.abc import Iterator

from rlu_attestation.profiles import GpuDemand, Profile
from rlu_server.preflight.facts import Gpu, Node, Trust
from rlu_server.preflight.findings import Finding, error, info, ok


def judge_profile(name: str, profile: Profile, node: Node) -> Iterator[Finding]:
    """Findings of the chosen profile."""
    failed = False
    gpus = (*node.nvidia.gpus, *node.amd.gpus)
    if profile.gpus is not None:
        for finding in _demand(profile.gpus, gpus):
            failed = True
            yield finding
    possible = possible_keys(node.trust)
    usable = sorted(possible & set(profile.keys))
    if not usable and "none" not in profile.keys:
        failed = True
        yield error(
            "profile.key",
            f"none of {', '.join(profile.keys)} can speak for the key here",
            "make one of these devices available to the attestor's user, or choose another profile",
        )
    if not failed:
        by = ", ".join(usable) or "a software key, for trials only"
        yield ok("profile.satisfied", f"{name}; the key can be held by: {by}")
    for words in profile.unattested:
        yield info("profile.unattested", f"no evidence of {name} speaks of: {words}")


def possible_keys(trust: Trust) -> frozenset[str]:
    """Kinds of evidence that the node's devices could make. Which vTPM a TPM is cannot be told from here, so all of its kinds are."""
    found = set()
    if trust.tpm.usable:
        found |= {"tpm2", "azure-vtpm", "gcp-vtpm", "nitrotpm"}
    if trust.tsm.usable and trust.sev_snp.present:
        found.add("sev-snp")
    if trust.tsm.usable and trust.tdx.present:
        found.add("tdx")
    if trust.nitro.usable:
        found.add("nitro")
    return frozenset(found)


def _demand(demand: GpuDemand, gpus: tuple[Gpu, ...]) -> Iterator[Finding]:
    if len(gpus) != demand.count:
        yield error(
            "profile.gpu_count",
            f"{len(gpus)} GPUs, the profile has {demand.count}",
            "make exactly these GPUs visible, or choose another profile",
        )
    strange = sorted({gpu.name for gpu in gpus if not gpu.name.startswith(demand.names)})
    if strange:
        yield error(
            "profile.gpu_name",
            f"{', '.join(strange)} where the profile has {' or '.join(demand.names)}",
            "choose the profile of these GPUs",
        )
    memory = sum(gpu.memory_mib for gpu in gpus)
    if len(gpus) == demand.count and memory < demand.memory_mib:
        yield error(
            "profile.gpu_memory",
            f"{memory} MiB together, the profile has {demand.memory_mib}",
            "choose the profile of these GPUs, and check whether they are partitioned (MIG)",
        )
