"""RLU's pods in a namespace: states, events and claims made into findings. Pods are named; that is how one looks at them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from rlu_server.doctor.explaining import explain
from rlu_server.doctor.words.cluster import POD_STATES
from rlu_server.preflight.cluster.api import Server
from rlu_server.preflight.findings import Finding, error, info, ok, warning

SELECTOR = "app.kubernetes.io/name=rlu"
TAIL = 5000
"""Lines of each container's log."""
WAITING: Mapping[str, str] = {
    "CrashLoopBackOff": "pod.restarting",
    "CreateContainerConfigError": "pod.configuration",
    "CreateContainerError": "pod.configuration",
    "ErrImagePull": "pod.image",
    "ErrImageNeverPull": "pod.image",
    "ImageInspectError": "pod.image",
    "ImagePullBackOff": "pod.image",
    "InvalidImageName": "pod.image",
    "RunContainerError": "pod.configuration",
}
REASONS: Mapping[str, str] = {
    "Evicted": "pod.evicted",
    "FailedAttachVolume": "pod.volume",
    "FailedCreate": "pod.refused",
    "FailedMount": "pod.volume",
    "FailedScheduling": "pod.unschedulable",
    "NodeNotReady": "pod.node",
    "ProvisioningFailed": "pod.claim",
    "UnexpectedAdmissionError": "pod.device",
    "Unhealthy": "pod.probe",
}
"""Of events, as the kubelet, the scheduler and controllers write them."""
KILLED = "OOMKilled"
_LONG = 300


@dataclass(frozen=True, slots=True)
class Pods:
    """What the API server has of an installation. None: it may not be seen."""

    pods: Sequence[Mapping[str, Any]] | None
    events: Sequence[Mapping[str, Any]]
    claims: Sequence[Mapping[str, Any]]


def look_at_pods(server: Server, namespace: str) -> Pods:
    """Ask for them.

    Raises:
        Unreachable: `relay.…`.
    """
    place = f"/api/v1/namespaces/{quote(namespace, safe='')}"
    pods = server.get(f"{place}/pods?{urlencode({'labelSelector': SELECTOR})}")
    return Pods(
        pods.value.get("items") or () if pods.found else None,
        server.get(f"{place}/events").value.get("items") or (),
        server.get(f"{place}/persistentvolumeclaims").value.get("items") or (),
    )


def logs(server: Server, namespace: str, pods: Pods) -> Iterator[tuple[str, bytes]]:
    """The last lines of every container that ran, and of the one before it where it was restarted."""
    place = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"
    for pod in pods.pods or ():
        name = _name(pod)
        for status in _statuses(pod):
            if status.get("restartCount"):
                text = server.text(f"{place}/{quote(name)}/log?{_query(status, previous=True)}")
                yield f"{name}/{status.get('name')}", text or b""
            if {"running", "terminated"} & set(status.get("state") or ()):
                text = server.text(f"{place}/{quote(name)}/log?{_query(status, previous=False)}")
                yield f"{name}/{status.get('name')}", text or b""


def _query(status: Mapping[str, Any], *, previous: bool) -> str:
    words = {"container": str(status.get("name")), "tailLines": str(TAIL)}
    return urlencode({**words, "previous": "true"} if previous else words)


def judge_pods(found: Pods) -> list[Finding]:
    """Findings, pod by pod, then what events tell of those that are not well."""
    if found.pods is None:
        return [
            warning(
                "pod.none", "pods may not be seen", "run this as somebody who may list pods in the namespace"
            )
        ]
    made: list[Finding] = []
    refused = [event for event in found.events if event.get("reason") == "FailedCreate"]
    if not found.pods:
        made.append(error("pod.none", "no pod of RLU is in the namespace", POD_STATES["pod.none"].remedy))
        made += [_event(event) for event in refused[-1:]]
        return made
    for pod in found.pods:
        troubles = list(_pod(pod))
        name, uid = _name(pod), (pod.get("metadata") or {}).get("uid")
        if not troubles and _is_well(pod):
            made.append(ok("pod.ready", f"{name}: all containers are ready, or have done their work"))
            continue
        if not troubles:
            phase = (pod.get("status") or {}).get("phase", "unknown")
            troubles = [info("pod.not_ready", f"{name}: {phase}, and not all containers are ready")]
        made += troubles
        about = [one for one in found.events if _is_about(one, name, uid)]
        made += _latest(about)
    made += _latest([*refused, *_of_claims(found)])
    made += [
        error(
            "pod.claim",
            f"{_name(claim)}: {(claim.get('status') or {}).get('phase', 'unknown')}",
            POD_STATES["pod.claim"].remedy,
        )
        for claim in found.claims
        if (claim.get("status") or {}).get("phase") in ("Pending", "Lost") and _labelled(claim)
    ]
    return _once(made)


def _is_well(pod: Mapping[str, Any]) -> bool:
    """Does it serve, or has it ended as a job does?"""
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return True
    containers = [one for one in _statuses(pod) if not _once_only(one)]
    return bool(containers) and all(one.get("ready") for one in containers)


def _pod(pod: Mapping[str, Any]) -> Iterator[Finding]:
    name, status = _name(pod), pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield _made("pod.unschedulable", f"{name}: {condition.get('message', '')}")
    if status.get("phase") == "Failed" and not _statuses(pod):
        yield _made("pod.ended", f"{name}: {status.get('reason') or 'failed'} {status.get('message', '')}")
    if status.get("reason") == "Evicted":
        yield _made("pod.evicted", f"{name}: {status.get('message', '')}")
    for container in _statuses(pod):
        yield from _container(name, container)


def _container(pod: str, status: Mapping[str, Any]) -> Iterator[Finding]:
    name, state = f"{pod}/{status.get('name')}", status.get("state") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    id_ = WAITING.get(str(waiting.get("reason", "")))
    if id_ is not None:
        yield _made(id_, f"{name}: {waiting.get('message') or waiting.get('reason')}")
    if ended.get("exitCode") and not (state.get("running") and status.get("ready")):
        yield _ended(name, ended)
    if state.get("running") and not status.get("ready") and not _once_only(status):
        yield info("pod.not_ready", f"{name}: runs, and is not ready")


def _once_only(status: Mapping[str, Any]) -> bool:
    return bool(status.get("init"))


def _ended(name: str, ended: Mapping[str, Any]) -> Finding:
    if ended.get("reason") == KILLED:
        return _made("pod.killed", f"{name}: killed for its memory")
    code = ended.get("exitCode")
    meanings = explain(str(code))
    why = f": {meanings[0].fails}" if meanings else ""
    remedy = meanings[0].remedy if meanings else POD_STATES["pod.ended"].remedy
    return error(f"exit.{code}" if meanings else "pod.ended", f"{name}: ended with {code}{why}", remedy)


def _latest(events: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """The last event of each reason that is known."""
    found = {str(event.get("reason")): event for event in events if event.get("reason") in REASONS}
    return [_event(event) for event in found.values()]


def _event(event: Mapping[str, Any]) -> Finding:
    about = event.get("involvedObject") or {}
    return _made(REASONS[str(event.get("reason"))], f"{about.get('name', '')}: {event.get('message', '')}")


def _made(id_: str, said: str) -> Finding:
    text = re.sub(r"\s+", " ", said).strip()
    return error(id_, text[:_LONG], POD_STATES[id_].remedy)


def _of_claims(found: Pods) -> list[Mapping[str, Any]]:
    names = {_name(claim) for claim in found.claims if _labelled(claim)}
    return [
        one
        for one in found.events
        if (one.get("involvedObject") or {}).get("kind") == "PersistentVolumeClaim"
        and (one.get("involvedObject") or {}).get("name") in names
    ]


def _is_about(event: Mapping[str, Any], name: str, uid: object) -> bool:
    about = event.get("involvedObject") or {}
    return about.get("name") == name and about.get("uid") in (None, "", uid)


def _labelled(value: Mapping[str, Any]) -> bool:
    key, _, wanted = SELECTOR.partition("=")
    return ((value.get("metadata") or {}).get("labels") or {}).get(key) == wanted


def _statuses(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    return [
        *({**one, "init": True} for one in status.get("initContainerStatuses") or ()),
        *(dict(one) for one in status.get("containerStatuses") or ()),
    ]


def _name(value: Mapping[str, Any]) -> str:
    return str((value.get("metadata") or {}).get("name"))


def _once(found: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(found))
