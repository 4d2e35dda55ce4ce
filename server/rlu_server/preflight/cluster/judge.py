"""Findings about a cluster: can the chart be installed here, and will its pods start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rlu_server.preflight.cluster.state import ClusterFacts, Machine, Rule, Wish
from rlu_server.preflight.findings import Finding, error, info, ok, warning

OLDEST = (1, 29)
GPUS = {"NVIDIA": "nvidia.com/gpu", "AMD": "amd.com/gpu"}
CERTIFY = "check nodes (`rlu preflight` on each, or the chart's labeller) and label them: docs/kubernetes.md"
ENFORCING = {
    "anetd": "GKE Dataplane V2",
    "antrea-agent": "Antrea",
    "azure-npm": "Azure NPM",
    "calico-node": "Calico",
    "canal": "Canal",
    "cilium": "Cilium",
    "kube-router": "kube-router",
    "ovnkube-node": "OVN-Kubernetes",
    "weave-net": "Weave Net",
}
"""By the names of their DaemonSets, whatever else they do."""
WITHOUT = {"kube-flannel-ds": "Flannel", "kube-flannel": "Flannel"}
UNSURE = {"aws-node": "Amazon VPC CNI", "kindnet": "kindnet"}
OPTIONAL = {
    "cluster.inference": ("Inference Extension", ("inference.networking.k8s.io",), "exposure.inferencePool"),
    "cluster.prometheus": (
        "Prometheus operator",
        ("monitoring.coreos.com",),
        "monitoring.serviceMonitor, rules",
    ),
    "cluster.keda": ("KEDA", ("keda.sh",), "scaling by KEDA"),
    "cluster.cert_manager": ("cert-manager", ("cert-manager.io",), "certificates by cert-manager"),
    "cluster.external_secrets": ("external-secrets", ("external-secrets.io",), "keys by external-secrets"),
    "cluster.lws": ("LeaderWorkerSet", ("leaderworkerset.x-k8s.io",), "instances over several nodes"),
}
"""What parts of the chart need, each off by default."""
MAKES: Mapping[str, tuple[str, ...]] = {
    "": ("configmaps", "secrets", "serviceaccounts", "services"),
    "apps": ("daemonsets", "deployments", "statefulsets"),
    "batch": ("cronjobs", "jobs"),
    "networking.k8s.io": ("networkpolicies",),
    "policy": ("poddisruptionbudgets",),
}
"""What `helm install` makes in the namespace, with Helm's own Secret."""
ROLES: Mapping[str, tuple[str, ...]] = {
    "admissionregistration.k8s.io": (
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ),
    "rbac.authorization.k8s.io": ("clusterrolebindings", "clusterroles", "rolebindings", "roles"),
}
"""What parts of the chart make beside it: the labeller, the relay's token reviews, jobs that publish."""
VERBS = ("create", "delete", "get", "patch")
RESTRICTED = "pod-security.kubernetes.io/enforce"
DOCKER = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")


def unreachable(why: str) -> Finding:
    """Where nothing else can be said."""
    return error("cluster.reach", why, "see the kubeconfig, its context and the network: `kubectl version`")


def judge_cluster(facts: ClusterFacts, wish: Wish) -> list[Finding]:
    """All findings, in the order in which an installation meets them."""
    return [
        ok("cluster.reach", "the API server answers"),
        _version(facts),
        *_namespace(facts, wish),
        *_rights(facts),
        *_nodes(facts, wish),
        *_pulling(facts, wish),
        _storage(facts),
        _policies(facts),
        *_parts(facts),
        *_injected(facts),
    ]


def _version(facts: ClusterFacts) -> Finding:
    oldest = "{}.{}".format(*OLDEST)
    if facts.version is None:
        return warning(
            "cluster.version", "the API server does not tell its version", f"it must be {oldest} or later"
        )
    said = "Kubernetes {}.{}".format(*facts.version)
    if facts.version < OLDEST:
        return error("cluster.version", said, f"upgrade the cluster to {oldest} or later")
    return ok("cluster.version", said)


def _namespace(facts: ClusterFacts, wish: Wish) -> Iterator[Finding]:
    if facts.exists is None:
        yield info("cluster.namespace", "the namespace may not be seen")
        return
    if not facts.exists:
        yield warning(
            "cluster.namespace", "the namespace is not there", f"kubectl create namespace {wish.namespace}"
        )
        return
    yield ok("cluster.namespace", "the namespace is there")
    level = (facts.namespace or {}).get(RESTRICTED, "")
    if level == "restricted":
        yield ok("cluster.pod_security", "the namespace enforces `restricted`")
    else:
        yield warning(
            "cluster.pod_security",
            f"the namespace enforces {f'`{level}`' if level else 'nothing'}",
            f"kubectl label namespace {wish.namespace} {RESTRICTED}=restricted --overwrite",
        )


def _rights(facts: ClusterFacts) -> Iterator[Finding]:
    if facts.rules is None:
        yield warning("cluster.rights", "what you may do is not told", "try it: `kubectl auth can-i --list`")
        return
    lacking, roles = _lacking(facts.rules, MAKES), _lacking(facts.rules, ROLES)
    if not lacking and not roles:
        yield ok("cluster.rights", "you may make what the chart makes")
    elif not lacking:
        yield warning(
            "cluster.rights",
            f"you may not: {_some(roles)}",
            "ask for these rights, or leave off what needs roles: the labeller, service accounts' tokens, jobs that publish",
        )
    elif facts.rules_incomplete:
        yield info("cluster.rights", f"the API server does not tell everything; not told: {_some(lacking)}")
    else:
        yield error(
            "cluster.rights", f"you may not: {_some(lacking)}", "ask for these rights in the namespace"
        )


def _lacking(rules: tuple[Rule, ...], makes: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [
        f"{verb} {resource}"
        for group, resources in makes.items()
        for resource in resources
        for verb in VERBS
        if not any(rule.allows(verb, group, resource) for rule in rules)
    ]


def _nodes(facts: ClusterFacts, wish: Wish) -> Iterator[Finding]:
    if facts.machines is None:
        yield warning("cluster.nodes", "nodes may not be seen", "run this as somebody who may list nodes")
        return
    usable = [machine for machine in facts.machines if machine.usable]
    said = f"{len(usable)} of {len(facts.machines)} nodes are ready and take pods"
    if not usable:
        yield error("cluster.nodes", said, "add nodes, or uncordon them; see `kubectl get nodes`")
        return
    yield ok("cluster.nodes", said)
    fitting = [machine for machine in usable if _fits(machine, wish)]
    if wish.profile is not None and wish.profile[1].gpus is not None:
        yield _gpus(usable, fitting, wish)
    yield _certified(fitting, wish)
    with_tpm = sum(machine.allocatable.get(wish.tpm_resource, 0) > 0 for machine in fitting)
    if with_tpm:
        yield ok("cluster.tpm", f"{with_tpm} nodes offer {wish.tpm_resource}")
    else:
        yield warning(
            "cluster.tpm",
            f"no node offers {wish.tpm_resource}",
            "run a device plugin for /dev/tpmrm0, or name its resource in attestation.tpm.resource; "
            "not needed where the key is in a TEE, or for the CPU demo",
        )
    swapping = sum(bool(machine.swap) for machine in fitting)
    if swapping:
        yield error(
            "cluster.swap",
            f"{swapping} nodes have swap",
            "turn it off, or set the kubelet's memorySwap.swapBehavior to NoSwap and see `rlu preflight` there",
        )


def _fits(machine: Machine, wish: Wish) -> bool:
    """Has it what the profile asks for?"""
    if wish.profile is None or wish.profile[1].gpus is None:
        return True
    demand = wish.profile[1].gpus
    return any(machine.allocatable.get(resource, 0) >= demand.count for resource in _resources(demand.names))


def _resources(names: tuple[str, ...]) -> list[str]:
    return [resource for vendor, resource in GPUS.items() if any(name.startswith(vendor) for name in names)]


def _gpus(usable: list[Machine], fitting: list[Machine], wish: Wish) -> Finding:
    assert wish.profile is not None
    name, profile = wish.profile
    assert profile.gpus is not None
    wanted = f"{profile.gpus.count} of {' or '.join(_resources(profile.gpus.names))}"
    if fitting:
        return ok("cluster.gpus", f"{len(fitting)} nodes have {wanted} allocatable, as {name} asks for")
    some = any(machine.allocatable.get(one, 0) for machine in usable for one in GPUS.values())
    return error(
        "cluster.gpus",
        f"no node has {wanted} allocatable" + (", only fewer or others" if some else ""),
        "choose the profile of these nodes" if some else "run the GPUs' device plugin on the nodes",
    )


def _certified(fitting: list[Machine], wish: Wish) -> Finding:
    labelled = sum(bool(machine.labels.get(wish.certified_label)) for machine in fitting)
    if labelled:
        return ok("cluster.certified", f"{labelled} of {len(fitting)} nodes that would do are certified")
    return error("cluster.certified", f"no node that would do has the label {wish.certified_label}", CERTIFY)


def _pulling(facts: ClusterFacts, wish: Wish) -> Iterator[Finding]:
    if facts.pull_failures:
        yield error(
            "cluster.image_pull",
            f"{facts.pull_failures} pods in the namespace wait for an image that cannot be pulled",
            "compare names and digests with the registry, and see the pull secret: `rlu doctor --cluster`",
        )
    if wish.pull_secret and facts.secret_type == "":
        yield error(
            "cluster.image_pull", "the pull secret is not there", "kubectl create secret docker-registry …"
        )
    elif wish.pull_secret and facts.secret_type is not None and facts.secret_type not in DOCKER:
        yield error(
            "cluster.image_pull",
            f"the pull secret is of type {facts.secret_type}",
            "make it with kubectl create secret docker-registry",
        )
    elif wish.pull_secret and facts.secret_type:
        yield ok("cluster.image_pull", "the pull secret is there")
    usable = [machine for machine in facts.machines or () if machine.usable]
    held = {image: sum(image in machine.images for machine in usable) for image in wish.images}
    for number in held.values():
        yield info("cluster.image_pull", f"{number} of {len(usable)} nodes hold the image already")
    if not wish.images and not wish.pull_secret and not facts.pull_failures:
        yield info(
            "cluster.image_pull",
            "whether nodes reach the registry shows when a pod starts; --image tells who holds it",
        )


def _storage(facts: ClusterFacts) -> Finding:
    if facts.classes is None:
        return warning(
            "cluster.storage", "storage classes may not be seen", "name one in state.storageClassName"
        )
    waiting = sorted(one.name for one in facts.classes if one.waits)
    if waiting:
        return ok("cluster.storage", f"classes whose volumes wait for the pod: {_some(waiting)}")
    if facts.classes:
        return warning(
            "cluster.storage",
            "no storage class waits for the pod; a volume may be where no GPU is",
            "make one with volumeBindingMode: WaitForFirstConsumer, and name it in state.storageClassName",
        )
    return error(
        "cluster.storage",
        "there is no storage class",
        "install one for local volumes; state must survive restarts",
    )


def _policies(facts: ClusterFacts) -> Finding:
    if facts.daemons is None:
        return warning(
            "cluster.network_policy",
            "DaemonSets may not be seen",
            "find out whether the CNI enforces NetworkPolicies",
        )
    name = next((said for daemon, said in ENFORCING.items() if daemon in facts.daemons), "")
    if name:
        return ok("cluster.network_policy", f"{name} enforces NetworkPolicies")
    missing = next((said for daemon, said in WITHOUT.items() if daemon in facts.daemons), "")
    if missing:
        return error(
            "cluster.network_policy",
            f"{missing} alone enforces no NetworkPolicies",
            "add Calico (Canal) or use another CNI",
        )
    unsure = next(
        (said for daemon, said in UNSURE.items() if daemon in facts.daemons), "no CNI that is known here"
    )
    return warning(
        "cluster.network_policy",
        f"{unsure}: whether it enforces NetworkPolicies for egress cannot be told",
        "switch that on and try it from a pod: `rlu selftest egress`, or any connection out of the namespace",
    )


def _parts(facts: ClusterFacts) -> Iterator[Finding]:
    if facts.groups is None:
        yield info("cluster.gateway_api", "API groups may not be seen")
        return
    if facts.routes:
        yield ok("cluster.gateway_api", f"Gateway API with TLSRoute {', '.join(sorted(facts.routes))}")
    else:
        half = "gateway.networking.k8s.io" in facts.groups
        said = "Gateway API without TLSRoute" if half else "no Gateway API"
        yield info("cluster.gateway_api", f"{said}; exposure.kind: gateway needs it")
    for id_, (name, groups, use) in OPTIONAL.items():
        there = any(group in facts.groups for group in groups)
        said = f"{name} is installed" if there else f"no {name}; needed for {use} only"
        yield (ok if there else info)(id_, said)


def _injected(facts: ClusterFacts) -> Iterator[Finding]:
    if facts.injectors:
        yield warning(
            "cluster.admission",
            f"webhooks may change the pods: {_some(sorted(facts.injectors))}",
            "exempt the namespace from injectors: a sidecar would share the pod's network and see what is there",
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
