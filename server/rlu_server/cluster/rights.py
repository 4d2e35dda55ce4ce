"""Which calls each role makes to the API server. A role's client makes these and no others, and the chart grants exactly these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

MERGE_PATCH = "application/merge-patch+json"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource.

    Attributes:
        verb: Kubernetes' word: get, list, create, patch.
        resource: plural; a subresource after a slash.
        namespaced: it is in the release's namespace, and so is the right.
        named: the right is for the one object whose name the release sets, and not for others of its kind.
    """

    verb: str
    group: str
    resource: str
    namespaced: bool = False
    named: bool = False

    @property
    def method(self) -> str:
        return {"get": "GET", "list": "GET", "create": "POST", "patch": "PATCH"}[self.verb]

    @property
    def content_type(self) -> str:
        return MERGE_PATCH if self.verb == "patch" else JSON

    def path(self, namespace: str, name: str = "", query: Mapping[str, str] = MappingProxyType({})) -> str:
        """Where the API server has it.

        Raises:
            ValueError: a name where there is none to be, or none where there has to be one.
        """
        resource, _, subresource = self.resource.partition("/")
        if bool(name) != (self.verb != "list"):
            raise ValueError(f"{self.verb} {self.resource}: name {name!r}")
        parts = ["apis", self.group, "v1"] if self.group else ["api", "v1"]
        parts += ["namespaces", namespace] if self.namespaced else []
        parts += [resource, name] if name else [resource]
        parts += [subresource] if subresource else []
        text = "/" + "/".join(quote(part, safe="") for part in parts)
        return f"{text}?{urlencode(query)}" if query else text


READ_NODE = Right("get", "", "nodes")
LIST_NODES = Right("list", "", "nodes")
PATCH_NODE = Right("patch", "", "nodes")
LIST_PODS = Right("list", "", "pods", namespaced=True)
EVICT_POD = Right("create", "", "pods/eviction", namespaced=True)
READ_MAP = Right("get", "", "configmaps", namespaced=True, named=True)
PATCH_MAP = Right("patch", "", "configmaps", namespaced=True, named=True)
PATCH_STATEFULSET = Right("patch", "apps", "statefulsets", namespaced=True, named=True)

ROLES: Mapping[str, frozenset[Right]] = MappingProxyType(
    {
        "labeller": frozenset({READ_NODE, PATCH_NODE}),
        "drain": frozenset({LIST_PODS, EVICT_POD}),
        "sweep": frozenset({LIST_NODES, PATCH_NODE}),
        "publish": frozenset({READ_MAP, PATCH_MAP}),
        "update": frozenset({PATCH_STATEFULSET}),
    }
)
"""`drain` is what a labeller that drains has beside its own; `update` is what `rlu update` has, which is told apart by its own account."""


def rules(role: str, *, namespaced: bool, name: str = "") -> list[dict[str, Any]]:
    """A role's rights as the rules of a Role (`namespaced`) or a ClusterRole, in the order of resources.

    Args:
        name: the object that `named` rights are for.
    """
    verbs: dict[tuple[str, str, bool], list[str]] = {}
    for right in sorted(ROLES[role], key=lambda one: (one.group, one.resource, one.verb)):
        if right.namespaced == namespaced:
            verbs.setdefault((right.group, right.resource, right.named), []).append(right.verb)
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": found}
        | ({"resourceNames": [name]} if named else {})
        for (group, resource, named), found in verbs.items()
    ]
