"""What a Kubernetes cluster says of pods, volumes and nodes, and the findings of `rlu preflight --cluster`."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

POD_STATES = {
    "pod.unschedulable": Text(
        "No node takes the pod: not certified, no free GPUs or TPM, a taint, or a volume that is bound to another node.",
        "The message says how many nodes fail by what. Certify nodes (`rlu-certified`), or free their GPUs.",
    ),
    "pod.image": Text(
        "The image cannot be pulled: its name or digest, the registry, or the pull secret.",
        "Compare `image` and `gatewayImage` with the registry; see `image.pullSecrets`. Air-gapped: docs/airgap.md.",
    ),
    "pod.configuration": Text(
        "A container cannot be made, because a Secret, ConfigMap or key of one is missing.",
        "Create what the message names: API keys, licence, collateral, the policy.",
    ),
    "pod.volume": Text(
        "A volume cannot be mounted: no such claim, Secret or storage, or it is held by another node.",
        "See the claim's events; state volumes stay on their node.",
    ),
    "pod.claim": Text(
        "A claim is not bound: no storage class, no room, or it waits for its pod.",
        "Name a class in `state.storageClassName`; a class that binds at the first consumer waits for the pod to be scheduled.",
    ),
    "pod.refused": Text(
        "The API server refuses the pod: Pod Security, a quota, or an admission webhook.",
        "The message names the rule. The chart's pods fit `restricted`; a webhook may add what does not.",
    ),
    "pod.restarting": Text(
        "A container ends again and again.", "Explain its exit code, and the last code in its log."
    ),
    "pod.ended": Text("A container has ended.", "Explain its exit code, and the last code in its log."),
    "pod.killed": Text(
        "A container was killed for its memory.", "Raise its limit; `rlu size` says what a model needs."
    ),
    "pod.probe": Text(
        "A probe fails: the server is not ready, or not within the time that the start-up probe allows.",
        "Ask `/readyz`; for a large model raise the start-up probe and `engine.readyTimeoutSeconds`.",
    ),
    "pod.device": Text(
        "The kubelet cannot give the pod a device that it asks for.",
        "See the device plugins' pods on the node: GPUs, and `attestation.tpm.resource`.",
    ),
    "pod.evicted": Text(
        "The node evicted the pod: memory, disk or pressure of processes.",
        "See the node's conditions; memory volumes count as memory of the pod.",
    ),
    "pod.node": Text(
        "The pod's node is not ready, or is being drained.",
        "See the node; with local state the pod waits for it: docs/runbook.md, `Drain, replace a node`.",
    ),
    "pod.none": Text(
        "There are no pods of RLU in the namespace.",
        "Is it installed here? See `helm list`, and the StatefulSet's events: an admission rule may refuse them.",
    ),
    "pod.not_ready": Text(
        "The pod is being made, or a container runs and is not ready.",
        "Ask `/readyz`; loading a large model takes minutes.",
    ),
    "pod.ready": Text("All containers run and are ready.", "Nothing is to be done."),
}

FINDINGS = {
    "cluster.reach": Text(
        "The API server must answer, and know who asks.", "See the kubeconfig, the context and the network."
    ),
    "cluster.version": Text("The chart needs Kubernetes 1.29 or later.", "Upgrade the cluster."),
    "cluster.nodes": Text(
        "There must be nodes with accelerators, or for a trial any.",
        "Add nodes; let the GPUs' device plugin run on them.",
    ),
    "cluster.certified": Text(
        "Instances run only on nodes that were checked and have the label `rlu-certified`.",
        "Check nodes and label them: docs/kubernetes.md.",
    ),
    "cluster.gpus": Text(
        "GPUs must be allocatable, as many as the preset asks for, and of one kind.",
        "Run the device plugin of NVIDIA or AMD on the nodes.",
    ),
    "cluster.tpm": Text(
        "The attestor needs a TPM, by a device plugin whose resource is `attestation.tpm.resource`.",
        "Run a generic device plugin for /dev/tpmrm0.",
    ),
    "cluster.swap": Text(
        "A node that tells of swap may write prompts to a disk.",
        "Turn swap off for pods: the kubelet's `swapBehavior: NoSwap`.",
    ),
    "cluster.gateway_api": Text(
        "`exposure.kind: gateway` needs Gateway API with TLSRoute.",
        "Install Gateway API (its experimental channel before 1.5), or set another `exposure.kind`.",
    ),
    "cluster.inference": Text(
        "`exposure.inferencePool` needs the Inference Extension.", "Install it, or leave it off."
    ),
    "cluster.prometheus": Text(
        "ServiceMonitor and PrometheusRule belong to the Prometheus operator.",
        "Install it, or leave `monitoring.serviceMonitor` and `rules` off.",
    ),
    "cluster.keda": Text("Scaling by KEDA needs KEDA.", "Install it, or use the HorizontalPodAutoscaler."),
    "cluster.cert_manager": Text(
        "Certificates by cert-manager need it.", "Install it, or bring certificates as Secrets."
    ),
    "cluster.external_secrets": Text(
        "Keys by external-secrets need it.", "Install it, or make the Secrets yourself."
    ),
    "cluster.lws": Text(
        "Instances over several nodes need LeaderWorkerSet.", "Install it, if one node is not enough."
    ),
    "cluster.storage": Text(
        "State needs a class whose volumes stay on their node; binding must wait for the pod.",
        "Make a class with `volumeBindingMode: WaitForFirstConsumer`, and name it in `state.storageClassName`.",
    ),
    "cluster.namespace": Text("The namespace must exist.", "Create it: docs/kubernetes.md."),
    "cluster.pod_security": Text(
        "The namespace should enforce `restricted`, which the chart's pods fit.",
        "Label it `pod-security.kubernetes.io/enforce=restricted`.",
    ),
    "cluster.network_policy": Text(
        "Without a CNI that enforces NetworkPolicies, nothing keeps the engine from the network.",
        "Use one that does, such as Calico or Cilium, and try it: `rlu selftest egress`.",
    ),
    "cluster.image_pull": Text(
        "Images come from a registry that the nodes reach, by a pull secret if it asks for one.",
        "Create the Secret and name it in `image.pullSecrets`.",
    ),
    "cluster.rights": Text(
        "Whoever installs must be allowed to make what the chart makes.",
        "Ask for the rights that are named, in this namespace.",
    ),
    "cluster.admission": Text(
        "Webhooks that change pods may break what the lock needs.",
        "Exempt the namespace from injectors of sidecars.",
    ),
}
