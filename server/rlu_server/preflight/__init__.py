"""Whether a node can serve: probes that look (`probe_…`), and pure modules that judge what they saw (`judge_…`).

Nothing is changed on the node, and nothing that is said names a host, a serial number or a path.
"""

from __future__ import annotations

from pathlib import Path

from rlu_attestation.profiles import Profile
from rlu_server.attestor.collect import nscq, nvml
from rlu_server.preflight import probe_gpus, probe_host, probe_storage
from rlu_server.preflight.facts import Node
from rlu_server.preflight.findings import Finding, Severity, exit_code
from rlu_server.preflight.judge_gpus import judge_gpus
from rlu_server.preflight.judge_host import judge_host, judge_kernel, judge_storage, judge_trust
from rlu_server.preflight.judge_profile import judge_profile

__all__ = ["Finding", "Severity", "exit_code", "judge", "look"]


def look(
    root: Path,
    *,
    landlock: int,
    is_root: bool,
    weights: Path | None = None,
    library: str = nvml.LIBRARY,
    switch_library: str = nscq.LIBRARY,
) -> Node:
    """Probe the node whose file system is at `root`.

    Args:
        landlock: the kernel's Landlock ABI.
        weights: file or directory whose reading is measured.
        library: NVIDIA's management library.
        switch_library: NVIDIA's library for NVSwitches.
    """
    return Node(
        nvidia=probe_gpus.nvidia(root, library, switch_library),
        amd=probe_gpus.amd(root),
        kernel=probe_host.kernel(root, landlock=landlock, is_root=is_root),
        host=probe_host.host(root),
        trust=probe_host.trust(root),
        storage=None if weights is None else probe_storage.storage(weights),
    )


def judge(node: Node, profile: tuple[str, Profile] | None = None) -> list[Finding]:
    """All findings, in the order of what they are about."""
    found = [*judge_gpus(node), *judge_host(node), *judge_kernel(node.kernel), *judge_trust(node.trust)]
    if node.storage is not None:
        found += judge_storage(node.storage)
    if profile is not None:
        found += judge_profile(*profile, node)
    return found
