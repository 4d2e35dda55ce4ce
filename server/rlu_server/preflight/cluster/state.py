"""What was seen of a cluster. Values only. None: whoever asked may not see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlu_attestation.profiles import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One node.

    Attributes:
        usable: ready, and takes pods.
        allocatable: resources that are counted in whole numbers, such as GPUs.
        images: names of those that it holds.
        swap: bytes; None where the kubelet does not say.
    """

    usable: bool
    labels: Mapping[str, str]
    allocatable: Mapping[str, int]
    images: frozenset[str] = frozenset()
    swap: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageClass:
    """`waits`: its volumes are bound when the first pod comes, so that they are where the pod is."""

    name: str
    provisioner: str
    waits: bool
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What whoever asked may do."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]

    def allows(self, verb: str, group: str, resource: str) -> bool:
        pairs = ((self.verbs, verb), (self.groups, group), (self.resources, resource))
        return all("*" in names or name in names for names, name in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """Everything that was seen.

    Attributes:
        groups: API groups, each with its versions.
        routes: versions of Gateway API that have TLSRoute.
        namespace: labels of it; None where it may not be seen or is not there (`exists`).
        daemons: names of all DaemonSets, by which the CNI and device plugins are guessed.
        injectors: webhooks that may change pods in the namespace.
        secret_type: of the pull secret; empty where there is none of that name.
        pull_failures: pods that wait for an image that cannot be pulled.
    """

    version: tuple[int, int] | None = None
    groups: Mapping[str, frozenset[str]] | None = None
    routes: frozenset[str] = frozenset()
    machines: tuple[Machine, ...] | None = None
    classes: tuple[StorageClass, ...] | None = None
    exists: bool | None = None
    namespace: Mapping[str, str] | None = None
    daemons: frozenset[str] | None = None
    injectors: tuple[str, ...] | None = None
    secret_type: str | None = None
    pull_failures: int | None = None
    rules: tuple[Rule, ...] | None = None
    rules_incomplete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be installed.

    Attributes:
        profile: name and content of the hardware profile.
        images: those that nodes must have or pull.
    """

    namespace: str
    profile: tuple[str, Profile] | None = None
    tpm_resource: str = "smarter-devices/tpmrm0"
    certified_label: str = "rlu-certified"
    pull_secret: str = ""
    images: tuple[str, ...] = field(default=())
