"""Facts of the API server's answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from rlu_server.outreach.http import Unreachable
from rlu_server.preflight.cluster.api import Answer, Server
from rlu_server.preflight.cluster.state import ClusterFacts, Machine, Rule, StorageClass, Wish

GATEWAY = "gateway.networking.k8s.io"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
NO_IMAGE = frozenset({"ErrImagePull", "ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName"})


def look_at(server: Server, wish: Wish) -> ClusterFacts:
    """Everything that findings need.

    Raises:
        Unreachable: `relay.…`.
    """
    version = server.get("/version")
    groups = _groups(server.get("/apis"))
    space = server.get(f"/api/v1/namespaces/{quote(wish.namespace, safe='')}")
    if space.status == 401:
        raise Unreachable("relay.status", "the API server does not accept the credentials")
    rules, incomplete = _rules(server, wish.namespace)
    return ClusterFacts(
        version=_version(version),
        groups=groups,
        routes=_routes(server, (groups or {}).get(GATEWAY, frozenset())),
        machines=_each(server.get("/api/v1/nodes"), _machine),
        classes=_each(server.get("/apis/storage.k8s.io/v1/storageclasses"), _class),
        exists=True if space.found else False if space.status == 404 else None,
        namespace=_labels(space.value) if space.found else None,
        daemons=_names(server.get("/apis/apps/v1/daemonsets")),
        injectors=_injectors(server, wish.namespace, _labels(space.value)),
        secret_type=_secret(server, wish),
        pull_failures=_pulls(server, wish.namespace),
        rules=rules,
        rules_incomplete=incomplete,
    )


def _version(answer: Answer) -> tuple[int, int] | None:
    """EKS and GKE append a plus sign to the minor version."""
    found = [re.match(r"\d+", str(answer.value.get(part, ""))) for part in ("major", "minor")]
    numbers = [int(one[0]) for one in found if one is not None]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _groups(answer: Answer) -> Mapping[str, frozenset[str]] | None:
    if not answer.found:
        return None
    return {
        str(group.get("name")): frozenset(str(one.get("version")) for one in group.get("versions") or ())
        for group in _items(answer.value, "groups")
    }


def _routes(server: Server, versions: Iterable[str]) -> frozenset[str]:
    found = set()
    for version in sorted(versions):
        resources = _items(server.get(f"/apis/{GATEWAY}/{version}").value, "resources")
        if any(one.get("name") == "tlsroutes" for one in resources):
            found.add(version)
    return frozenset(found)


def _each(answer: Answer, make: Any) -> Any:
    return tuple(make(one) for one in _items(answer.value)) if answer.found else None


def _machine(node: Mapping[str, Any]) -> Machine:
    status, spec = node.get("status") or {}, node.get("spec") or {}
    conditions = {one.get("type"): one.get("status") for one in status.get("conditions") or ()}
    amounts = {
        name: int(amount)
        for name, amount in (status.get("allocatable") or {}).items()
        if str(amount).isdigit() and "/" in name
    }
    swap = ((status.get("nodeInfo") or {}).get("swap") or {}).get("capacity")
    return Machine(
        usable=conditions.get("Ready") == "True" and not spec.get("unschedulable"),
        labels=_labels(node),
        allocatable=amounts,
        images=frozenset(name for image in status.get("images") or () for name in image.get("names") or ()),
        swap=swap if isinstance(swap, int) else None,
    )


def _class(one: Mapping[str, Any]) -> StorageClass:
    about = one.get("metadata") or {}
    return StorageClass(
        name=str(about.get("name")),
        provisioner=str(one.get("provisioner")),
        waits=one.get("volumeBindingMode") == "WaitForFirstConsumer",
        default=(about.get("annotations") or {}).get(DEFAULT_CLASS) == "true",
    )


def _names(answer: Answer) -> frozenset[str] | None:
    if not answer.found:
        return None
    return frozenset(str((one.get("metadata") or {}).get("name")) for one in _items(answer.value))


def _injectors(server: Server, namespace: str, labels: Mapping[str, str]) -> tuple[str, ...] | None:
    """Webhooks on the creation of pods whose selector may match the namespace."""
    answer = server.get("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations")
    if not answer.found:
        return None
    here = {"kubernetes.io/metadata.name": namespace, **labels}
    found = []
    for configuration in _items(answer.value):
        name = str((configuration.get("metadata") or {}).get("name"))
        for hook in configuration.get("webhooks") or ():
            on_pods = any("pods" in (rule.get("resources") or ()) for rule in hook.get("rules") or ())
            if on_pods and _selects(hook.get("namespaceSelector") or {}, here):
                found.append(name)
                break
    return tuple(found)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_matches(one, labels) for one in selector.get("matchExpressions") or ())


def _matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression.get("key"), expression.get("values") or ()
    value = labels.get(str(key))
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return True


def _secret(server: Server, wish: Wish) -> str | None:
    """Its type; what is in it is not looked at."""
    if not wish.pull_secret:
        return None
    place = f"/api/v1/namespaces/{quote(wish.namespace, safe='')}/secrets/{quote(wish.pull_secret, safe='')}"
    answer = server.get(place)
    if answer.status == 404:
        return ""
    return str(answer.value.get("type", "")) if answer.found else None


def _pulls(server: Server, namespace: str) -> int | None:
    """Pods that wait for an image now; events would tell of those that have theirs by now, too."""
    answer = server.get(f"/api/v1/namespaces/{quote(namespace, safe='')}/pods")
    if not answer.found:
        return None
    return sum(any(_waits_for_image(one) for one in _containers(pod)) for pod in _items(answer.value))


def _containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    status = pod.get("status") or {}
    return [
        *_items(status, "initContainerStatuses"),
        *_items(status, "containerStatuses"),
    ]


def _waits_for_image(container: Mapping[str, Any]) -> bool:
    waiting = (container.get("state") or {}).get("waiting") or {}
    return waiting.get("reason") in NO_IMAGE


def _rules(server: Server, namespace: str) -> tuple[tuple[Rule, ...] | None, bool]:
    answer = server.create(
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        },
    )
    if not answer.found:
        return None, True
    status = answer.value.get("status") or {}
    rules = tuple(
        Rule(
            verbs=frozenset(one.get("verbs") or ()),
            groups=frozenset(one.get("apiGroups") or ()),
            resources=frozenset(one.get("resources") or ()),
        )
        for one in status.get("resourceRules") or ()
        if not one.get("resourceNames")
    )
    return rules, bool(status.get("incomplete"))


def _labels(value: Mapping[str, Any]) -> Mapping[str, str]:
    return (value.get("metadata") or {}).get("labels") or {}


def _items(value: Mapping[str, Any], name: str = "items") -> list[Mapping[str, Any]]:
    return [one for one in value.get(name) or () if isinstance(one, dict)]
