"""Findings about GPUs, from what their drivers said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rlu_server.preflight.facts import Gpus, Node
from rlu_server.preflight.findings import Finding, error, info, ok, warning

MODE_WORDS = {
    "off": "off: the GPUs give no attestation reports",
    "on": "on",
    "devtools": "devtools: reports say that debugging is possible",
    "ppcie": "ppcie, for eight GPUs in one machine",
}
SLOW = 8
"""NVIDIA performance states from here on are idle ones; a GPU that serves is in P0 to P2."""


def judge_gpus(node: Node) -> Iterator[Finding]:
    """Everything about the GPUs of both vendors."""
    for found in (node.nvidia, node.amd):
        if found.problem is not None:
            code, remedy = found.problem
            yield error("gpu.driver", f"{found.vendor}: the driver does not answer ({code})", remedy)
    present = [found for found in (node.nvidia, node.amd) if found.gpus]
    if not present:
        if node.nvidia.problem is None and node.amd.problem is None:
            yield info("gpu.present", "no GPU is visible; the CPU engine would serve")
        return
    if len(present) > 1:
        yield warning(
            "gpu.vendors",
            "GPUs of NVIDIA and of AMD are visible",
            "let the engine see those of one vendor only",
        )
    for found in present:
        yield from _of_vendor(found)


def _of_vendor(found: Gpus) -> Iterator[Finding]:
    first = found.gpus[0]
    yield ok(
        "gpu.present", f"{len(found.gpus)} × {first.name}, {first.memory_mib} MiB each, driver {found.driver}"
    )
    if len({(gpu.name, gpu.memory_mib, gpu.vbios) for gpu in found.gpus}) > 1:
        yield error(
            "gpu.mixed",
            "the GPUs differ in name, memory or VBIOS",
            "let the engine see GPUs of one kind and one VBIOS; the instance can state only one",
        )
    if found.mode == "devtools":
        yield warning(
            "gpu.confidential", MODE_WORDS["devtools"], "set the mode to on (or ppcie) and reset the GPUs"
        )
    elif found.mode is not None:
        yield (info if found.mode == "off" else ok)("gpu.confidential", MODE_WORDS[found.mode])
    yield from _switches(found)
    yield from _memory_errors(found)
    yield from _links(found)
    yield from _power(found)


def _switches(found: Gpus) -> Iterator[Finding]:
    if isinstance(found.switches, tuple):
        code, remedy = found.switches
        yield warning(
            "gpu.switches",
            f"NVSwitches do not answer ({code}): no evidence of these GPUs could be made",
            remedy,
        )
    elif found.switches == 0:
        yield warning(
            "gpu.switches",
            "protected PCIe mode without an NVSwitch",
            "pass the node's switches on (/dev/nvidia-nvswitch*)",
        )
    elif found.switches is not None:
        yield ok("gpu.switches", f"NVSwitches: {found.switches} answer")


def _memory_errors(found: Gpus) -> Iterator[Finding]:
    off = _which(gpu.ecc is False for gpu in found.gpus)
    pending = _which(gpu.ecc is not None and gpu.ecc_pending not in (None, gpu.ecc) for gpu in found.gpus)
    if off:
        yield warning(
            "gpu.ecc",
            f"error correction is off on {off}",
            "switch it on (nvidia-smi -e 1) and reset the GPUs",
        )
    elif all(gpu.ecc for gpu in found.gpus):
        yield ok("gpu.ecc", "error correction is on")
    else:
        yield info("gpu.ecc", "the driver does not say whether error correction is on")
    if pending:
        yield warning(
            "gpu.ecc_pending",
            f"another mode of error correction waits on {pending}",
            "reset the GPUs or reboot",
        )
    failing = _which(bool(gpu.uncorrected) for gpu in found.gpus)
    if failing:
        yield error(
            "gpu.memory_errors",
            f"uncorrected memory errors on {failing}",
            "drain the node, reset the GPU, and replace it if errors come back",
        )


def _links(found: Gpus) -> Iterator[Finding]:
    if len(found.gpus) < 2:
        return
    kind = "NVLink" if found.vendor == "NVIDIA" else "xGMI"
    missing = _which(
        gpu.links is not None and gpu.links_total is not None and gpu.links < gpu.links_total
        for gpu in found.gpus
    )
    if missing:
        yield warning(
            "gpu.links",
            f"{kind} is not fully up on {missing}",
            "check the fabric manager and the kernel's log; tensor parallelism would go over PCIe",
        )
    elif all(gpu.links for gpu in found.gpus):
        yield ok("gpu.links", f"{kind}: {found.gpus[0].links} of each GPU up")
    else:
        yield info("gpu.links", f"no {kind} is seen: between GPUs everything goes over PCIe")


def _power(found: Gpus) -> Iterator[Finding]:
    if found.vendor != "NVIDIA":
        return
    slack = _which(gpu.persistent is False for gpu in found.gpus)
    if slack:
        yield warning(
            "gpu.persistence",
            f"persistence is off on {slack}",
            "run nvidia-persistenced: without it the first request after a pause waits for the driver",
        )
    known = [gpu.performance for gpu in found.gpus if gpu.performance is not None]
    if known:
        idle = " (idle)" if max(known) >= SLOW else ""
        yield info("gpu.performance", f"performance states P{min(known)} to P{max(known)}{idle}")


def _which(matches: Iterable[bool]) -> str:
    """`GPU 0, 3` for the positions that match; empty for none."""
    numbers = [str(number) for number, match in enumerate(matches) if match]
    return f"GPU {', '.join(numbers)}" if numbers else ""
