"""Whether a node keeps the label. Decisions are values; the labeller carries them out.

1. A node that fails its checks has no label.
2. A node that passes, and has no record of an earlier certification, gets label and record.
3. A node that passes with another record than the certified one has drifted: it loses the label, whatever it is now. The old record stays,
   so that a node cannot drift by being switched off. An operator accepts the new state by removing the record:
   `kubectl annotate node NODE rlu-certified-record-`.
4. `seen` is renewed as long as the labeller lives. A labeller that ends takes the label with it; from one that was killed, the sweep does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rlu_server.cluster.record import label as digest
from rlu_server.preflight.findings import Finding, Severity

LABEL = "rlu-certified"
EFFECTS = ("NoSchedule", "NoExecute")
SEEN_EVERY_S = 300
"""How often a node is written to for nothing but `seen`."""


@dataclass(frozen=True, slots=True)
class Names:
    """The label's key, and what is named after it."""

    label: str = LABEL

    @property
    def record(self) -> str:
        return f"{self.label}-record"

    @property
    def seen(self) -> str:
        return f"{self.label}-seen"

    @property
    def taint(self) -> str:
        return f"{self.label}-missing"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a node.

    Attributes:
        event: `node_certified`, `node_withheld` (drift) or `node_failed`.
        codes: why not.
        patch: merge patch of the Node object; empty: it is as it should be.
    """

    event: str
    codes: tuple[str, ...]
    patch: Mapping[str, Any]

    @property
    def certified(self) -> bool:
        return self.event == "node_certified"


def decide(
    node: Mapping[str, Any],
    record: str,
    findings: Iterable[Finding],
    names: Names,
    now: int,
    *,
    taint: str = "",
    ignored: frozenset[str] = frozenset(),
) -> Decision:
    """Judge the node that the API server has as `node`.

    Args:
        taint: effect of the taint of nodes without the label; empty: no taint.
        ignored: findings that the operator waived.
    """
    failed = tuple(sorted({f.id for f in findings if f.severity is Severity.ERROR and f.id not in ignored}))
    held = _metadata(node, "annotations").get(names.record)
    if failed:
        return Decision("node_failed", failed, _patch(node, names, None, held, now, taint))
    if held is not None and held != record:
        return Decision("node_withheld", ("node.changed",), _patch(node, names, None, held, now, taint))
    return Decision("node_certified", (), _patch(node, names, digest(record), record, now, taint))


def forget(node: Mapping[str, Any], names: Names) -> Mapping[str, Any]:
    """The patch that leaves nothing of ours; empty: there is nothing."""
    labels, annotations = _metadata(node, "labels"), _metadata(node, "annotations")
    metadata: dict[str, Any] = {}
    if names.label in labels:
        metadata["labels"] = {names.label: None}
    ours = {key: None for key in (names.record, names.seen) if key in annotations}
    if ours:
        metadata["annotations"] = ours
    patch: dict[str, Any] = {"metadata": metadata} if metadata else {}
    return _with_version(node, patch | _taints(node, names, ""))


def labelled(node: Mapping[str, Any], names: Names) -> bool:
    return names.label in _metadata(node, "labels")


def stale(nodes: Iterable[Mapping[str, Any]], names: Names, now: int, older: int) -> list[Mapping[str, Any]]:
    """Nodes with the label whose labeller was not seen for `older` seconds, or never."""
    return [node for node in nodes if labelled(node, names) and _age(node, names, now) > older]


def withdraw(node: Mapping[str, Any], names: Names) -> Mapping[str, Any]:
    """The patch that takes the label and nothing else."""
    return _with_version(node, {"metadata": {"labels": {names.label: None}}})


def _patch(
    node: Mapping[str, Any], names: Names, label: str | None, record: str | None, now: int, taint: str
) -> Mapping[str, Any]:
    labels, annotations = _metadata(node, "labels"), _metadata(node, "annotations")
    metadata: dict[str, Any] = {"annotations": {names.seen: str(now)}}
    if labels.get(names.label) != label:
        metadata["labels"] = {names.label: label}
    if annotations.get(names.record) != record:
        metadata["annotations"][names.record] = record
    patch = {"metadata": metadata} | _taints(node, names, taint if label is None else "")
    if (
        patch == {"metadata": {"annotations": {names.seen: str(now)}}}
        and 0 <= _age(node, names, now) < SEEN_EVERY_S
    ):
        return {}
    return _with_version(node, patch)


def _taints(node: Mapping[str, Any], names: Names, effect: str) -> dict[str, Any]:
    """All taints, for a merge patch replaces a list; nothing if they are as they should be."""
    present = list((node.get("spec") or {}).get("taints") or ())
    others = [taint for taint in present if taint.get("key") != names.taint]
    wanted = [*others, {"key": names.taint, "effect": effect}] if effect else others
    same = [(t.get("key"), t.get("effect")) for t in present] == [
        (t.get("key"), t.get("effect")) for t in wanted
    ]
    return {} if same else {"spec": {"taints": wanted or None}}


def _with_version(node: Mapping[str, Any], patch: dict[str, Any]) -> Mapping[str, Any]:
    """Taints are replaced as a whole: not if somebody else changed the node meanwhile."""
    version = (node.get("metadata") or {}).get("resourceVersion")
    if "spec" in patch and version:
        patch.setdefault("metadata", {})["resourceVersion"] = version
    return patch


def _age(node: Mapping[str, Any], names: Names, now: int) -> float:
    seen = _metadata(node, "annotations").get(names.seen, "")
    return now - int(seen) if seen.isdecimal() and len(seen) < 16 else float("inf")


def _metadata(node: Mapping[str, Any], part: str) -> Mapping[str, str]:
    found = (node.get("metadata") or {}).get(part) or {}
    return found if isinstance(found, Mapping) else {}
