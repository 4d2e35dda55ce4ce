"""The node labeller: looks at its node, decides, and tells the API server. What it remembers is on the node."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rlu_attestation.errors import RluError
from rlu_server.cluster import certify
from rlu_server.cluster.api import Api, Denied
from rlu_server.cluster.certify import Decision, Names
from rlu_server.cluster.record import record
from rlu_server.cluster.rights import EVICT_POD, LIST_PODS, PATCH_NODE, READ_NODE
from rlu_server.preflight.facts import Node
from rlu_server.preflight.findings import Finding, error

KEPT = frozenset({"cluster.absent", "cluster.conflict", "cluster.later"})
"""Why a pod is not evicted this time."""
ATTEMPTS = 5
"""The node's own agent writes to the same object."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at the node gave. `endorsement`: SHA-256 of the EK certificate, or empty."""

    node: Node
    findings: tuple[Finding, ...]
    endorsement: str = ""


def say(event: str, **more: object) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Labeller:
    """The labeller of the node `name`.

    Attributes:
        taint: effect of the taint on a node without the label; empty: none.
        drain: label selector of the pods that are evicted from such a node, by their budgets; empty: none are.
        ignored: findings that do not count.
    """

    api: Api
    name: str
    profile: str | None
    look: Callable[[], Seen]
    clock: Callable[[], float]
    names: Names = field(default_factory=Names)
    taint: str = ""
    drain: str = ""
    ignored: frozenset[str] = frozenset()
    events: Callable[..., None] = field(default=say)

    def round(self) -> Decision:
        """Look once, and make the node so.

        Raises:
            RluError: the API server did not answer, or said no.
        """
        seen = self.look()
        for left in reversed(range(ATTEMPTS)):
            decision = self._decide(seen)
            try:
                if decision.patch:
                    self.api.call(PATCH_NODE, self.name, decision.patch)
                break
            except Denied as refusal:
                if refusal.code != "cluster.conflict" or not left:
                    raise
        if self.drain and not decision.certified:
            self._evict()
        return decision

    def _decide(self, seen: Seen) -> Decision:
        return certify.decide(
            self.api.call(READ_NODE, self.name),
            record(seen.node, seen.findings, self.profile, seen.endorsement),
            seen.findings,
            self.names,
            int(self.clock()),
            taint=self.taint,
            ignored=self.ignored,
        )

    def resign(self) -> None:
        """Take the label along: nobody vouches for the node any more."""
        node = self.api.call(READ_NODE, self.name)
        if certify.labelled(node, self.names):
            self.api.call(PATCH_NODE, self.name, certify.withdraw(node, self.names))
        self.events("labeller_resigned")

    def run(self, ended: Callable[[], bool]) -> None:
        """Rounds until `ended`, which waits between them, says so; then resign. A round that fails is tried again."""
        told: tuple[str, tuple[str, ...]] | None = None
        while True:
            try:
                decision = self.round()
            except RluError as refusal:
                self.events("labeller_failed", code=refusal.code)
                told = None
            else:
                if (decision.event, decision.codes) != told:
                    self.events(decision.event, codes=list(decision.codes))
                    told = (decision.event, decision.codes)
            if ended():
                break
        try:
            self.resign()
        except RluError as refusal:
            self.events("labeller_failed", code=refusal.code)

    def _evict(self) -> None:
        query = {"fieldSelector": f"spec.nodeName={self.name}", "labelSelector": self.drain}
        for pod in self.api.call(LIST_PODS, query=query).get("items") or ():
            metadata: Mapping[str, Any] = pod["metadata"]
            if metadata.get("deletionTimestamp"):
                continue
            body = {
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": metadata["name"], "namespace": self.api.namespace},
            }
            try:
                self.api.call(EVICT_POD, metadata["name"], body)
            except Denied as refusal:
                if refusal.code not in KEPT:
                    raise
                self.events("pod_kept", code=refusal.code)
            else:
                self.events("pod_evicted")


def weaker_than(wanted: int, landlock: int) -> tuple[Finding, ...]:
    """What there is to say of a kernel whose Landlock has less than the lock is set to ask for: instances would refuse to start."""
    if landlock >= wanted:
        return ()
    found = f"Landlock ABI {landlock}, the lock asks for {wanted}"
    return (error("lock.landlock", found, "use a later kernel, or lower lock.minimum_landlock_abi"),)


def endorsement_of(device: str) -> tuple[str, tuple[Finding, ...]]:
    """SHA-256 of the EK certificate of the TPM at `device` (a TCTI), and what there is to say when it cannot be read."""
    # Loads the TPM's library, which engines and laptops do not have.
    from rlu_server.attestor.tpm.connection import Tpm
    from rlu_server.attestor.tpm.endorsement import ek_certificate

    try:
        tpm = Tpm(device)
        try:
            return hashlib.sha256(ek_certificate(tpm)).hexdigest(), ()
        finally:
            tpm.close()
    except RluError as refusal:
        if refusal.code == "ek.certificate_missing":  # clouds endorse the AK instead
            return "", ()
        return "", (
            error("tpm.endorsement", f"the TPM does not answer ({refusal.code})", "see `rlu preflight`"),
        )
