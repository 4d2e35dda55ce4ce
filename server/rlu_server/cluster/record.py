"""What of a node is certified: its hardware, and what the lock can do there. No names or serial numbers, nothing that changes by itself.

The record is canonical JSON, kept in an annotation of the node, and its digest is the label's value:

    base32(SHA-256("rlu/node/v1" ‖ record)) in lower case without padding: 52 characters, since a label holds 63
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from rlu_server.preflight.facts import Gpus, Node
from rlu_server.preflight.findings import Finding, Severity
from rlu_server.preflight.judge_profile import possible_keys

TAG = b"rlu/node/v1"
LOCK = (
    "kernel.landlock",
    "kernel.seccomp",
    "kernel.swap",
    "kernel.user_namespaces",
    "kernel.cgroup",
    "kernel.noswap",
)
"""Findings about the lock; whether each is as wanted is in the record, the kernel's version is not."""


def record(node: Node, findings: Iterable[Finding], profile: str | None, endorsement: str = "") -> str:
    """The record of a node.

    Args:
        endorsement: SHA-256 of the TPM's EK certificate, in hexadecimal; empty where none was read.
    """
    bad = {finding.id for finding in findings if finding.severity in (Severity.WARNING, Severity.ERROR)}
    value: dict[str, Any] = {
        "profile": profile,
        "gpus": [_gpus(found) for found in (node.nvidia, node.amd) if found.gpus],
        "keys": sorted(possible_keys(node.trust)),
        "ek": endorsement or None,
        "lock": {name: name not in bad for name in LOCK},
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def label(text: str) -> str:
    """The label's value for a record."""
    digest = hashlib.sha256(TAG + text.encode("ascii", "replace")).digest()
    return base64.b32encode(digest).decode("ascii").lower().rstrip("=")


def _gpus(found: Gpus) -> dict[str, Any]:
    return {
        "vendor": found.vendor,
        "mode": found.mode,
        "gpus": [{"name": gpu.name, "memory_mib": gpu.memory_mib, "vbios": gpu.vbios} for gpu in found.gpus],
    }
