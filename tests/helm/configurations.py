"""Configurations that between them use every template and every branch of the chart."""

from __future__ import annotations

from typing import Any

PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "clients"}}}
MIRROR = {"ipBlock": {"cidr": "192.0.2.10/32"}}
GATEWAY = {
    "kind": "gateway",
    "host": "llm.example.com",
    "gateway": {"name": "edge", "namespace": "infra", "sectionName": "tls"},
}
TERMINATING = {"mode": "terminating", "terminating": {"declared": True, "secretName": "terminator"}}
RELAY = {
    "enabled": True,
    "clusterIP": "10.96.0.20",
    "tls": {"secretName": "relay-tls", "issuer": {"name": "internal"}},
    "tokenReview": {"enabled": True, "egress": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]},
    "otlp": {
        "url": "https://otel.monitoring.svc:4318",
        "caConfigMap": "otel-ca",
        "egress": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
    },
}
AUTH = {
    "configMap": "rlu-auth",
    "administrators": ["acme/alice"],
    "issuers": [
        {
            "name": "corporate",
            "issuer": "https://login.example.org",
            "audience": ["rlu"],
            "jwksKey": "corporate.jwks.json",
            "algorithms": ["RS256"],
            "tenant": "acme",
            "principalClaim": ["email"],
            "principalPrefix": "corporate:",
            "required": {"groups": "rlu-users", "mfa": True, "level": 2},
            "clockSkewSeconds": 0,
        },
        {
            "name": "cluster",
            "issuer": "https://kubernetes.default.svc.cluster.local",
            "audience": ["rlu"],
            "review": True,
            "tenantClaim": ["kubernetes.io", "namespace"],
            "tenants": ["team-a"],
        },
    ],
    "certificates": {
        "mode": "optional",
        "caKey": "ca.pem",
        "crlKey": "crl.pem",
        "rules": [
            {"source": "uri", "pattern": "spiffe://example.org/{tenant}/agent/{principal}"},
            {"source": "dns", "pattern": "{principal}.agents.example.org", "tenant": "acme"},
        ],
    },
}
ISSUER = {"declared": True, "secretName": "terminator", "issuer": {"name": "internal"}}

CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "h100x8": ("h100x8", {}),
    "h200x8": ("h200x8", {}),
    "mi300x8": ("mi300x8", {}),
    "cpu-demo": ("cpu-demo", {}),
    "passthrough by Gateway API": ("h200x8", {"replicas": 2, "exposure": GATEWAY}),
    "terminating by Gateway API, endpoint picker, cert-manager": (
        "h200x8",
        {
            "gateway": {"tls": {"secretName": "rlu-tls"}},
            "exposure": {
                **GATEWAY,
                "gateway": {**GATEWAY["gateway"], "caConfigMap": "rlu-ca"},
                "mode": "terminating",
                "terminating": ISSUER,
                "inferencePool": {"endpointPicker": "picker"},
            },
        },
    ),
    "passthrough by Ingress": (
        "h200x8",
        {
            "replicas": 2,
            "exposure": {"kind": "ingress", "host": "llm.example.com", "ingressClassName": "nginx"},
        },
    ),
    "terminating by Ingress": (
        "h200x8",
        {
            "exposure": {
                "kind": "ingress",
                "host": "llm.example.com",
                "instances": False,
                "annotations": {"a": "b"},
                **TERMINATING,
            }
        },
    ),
    "horizontal autoscaling, observed": (
        "h200x8",
        {
            "autoscaling": {"kind": "hpa"},
            "monitoring": {
                "serviceMonitor": True,
                "rules": True,
                "dashboard": True,
                "labels": {"release": "prometheus"},
            },
            "networkPolicy": {"from": [PEER], "monitoringFrom": [PEER], "dns": True},
        },
    ),
    "relay, auth, traces, several engines, KEDA": (
        "h200x8",
        {
            "relay": RELAY,
            "auth": AUTH,
            "tracing": {"sample": 0.05, "continueClients": True},
            "admission": {"limits": "[default]\nweight = 2\n"},
            "model": {"aliases": {"claude-*": "small"}, "signers": "a public key"},
            "attestation": {"policy": {"configMap": "drift"}},
            "engine": {"replicas": 2, "devices": ["0,1,2", "3,4,5"]},
            "furtherEngines": [
                {
                    "name": "small",
                    "subPath": "small",
                    "arguments": ["--enforce-eager"],
                    "environment": {"NCCL_P2P_LEVEL": "NVL"},
                    "maxModelLen": 8192,
                    "kvCacheGib": 2,
                    "devices": ["6"],
                },
                {"name": "smaller", "subPath": "b/smaller"},
            ],
            "externalSecrets": [
                {
                    "name": "relay-tls",
                    "storeName": "vault",
                    "data": [{"key": "tls.key", "remoteKey": "rlu/relay", "property": "key"}],
                }
            ],
            "autoscaling": {
                "kind": "keda",
                "prometheusAddress": "http://prometheus:9090",
                "kvCachePercent": 85,
            },
        },
    ),
    "controllers": (
        "h200x8",
        {
            "auth": AUTH | {"issuers": AUTH["issuers"][:1]},
            "attestation": {"key": "tdx"},
            "controllers": {
                "apiServer": {"egress": [{"ipBlock": {"cidr": "192.0.2.7/32"}}]},
                "labeller": {
                    "enabled": True,
                    "profile": "none",
                    "taint": "NoSchedule",
                    "drain": True,
                    "ignore": ["gpu.persistence"],
                },
                "collateral": {"enabled": True, "arguments": ["--timeout", "60"], "egress": [MIRROR]},
                "keySets": {
                    "enabled": True,
                    "sets": [{"key": "corporate.jwks.json", "url": "https://login.example.org/keys"}],
                    "caKey": "ca.pem",
                    "egress": [MIRROR],
                },
            },
            "licence": {
                "secret": "licence",
                "validation": {
                    "url": "https://vendor.example/licence",
                    "caKey": "ca.pem",
                    "egress": [MIRROR],
                },
            },
        },
    ),
    "updates": (
        "h200x8",
        {
            "controllers": {"apiServer": {"egress": [{"ipBlock": {"cidr": "192.0.2.7/32"}}]}},
            "model": {
                "signers": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
                "updateSchedule": "weekly",
                "updateEgress": [MIRROR],
                "pvc": {"subPath": "qwen"},
                "update": {
                    "source": "oci://registry.example/team/qwen:stable",
                    "endpoint": "https://mirror.example:5000",
                    "allow": ["blobs.example:443"],
                    "credentialsSecret": "mirror",
                    "ca": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
                    "port": 5000,
                    "rateMib": 50,
                    "reserveGib": 10,
                    "keep": 2,
                },
            },
        },
    ),
    "model from a hub's mirror": (
        "h200x8",
        {
            "model": {
                "source": "hub",
                "hub": {
                    "id": "Qwen/Qwen3-Coder",
                    "revision": "abc",
                    "endpoint": "https://hub.example",
                    "tokenSecret": "hub",
                    "egress": [MIRROR],
                },
            }
        },
    ),
    "an encrypted model": (
        "h200x8",
        {
            "attestation": {"key": "tdx"},
            "relay": {**RELAY, "tokenReview": {"enabled": False}, "otlp": {"url": ""}},
            "model": {
                "signers": "PEM",
                "updateEgress": [MIRROR],
                "update": {"source": "https://vendor.example/models/qwen"},
                "encrypted": {
                    "broker": "https://keys.vendor.example:8444",
                    "memoryGib": 700,
                    "afterLoading": "keep",
                    "caConfigMap": "vendor-ca",
                    "proxy": "http://proxy.internal:3128",
                    "port": 3128,
                    "egress": [MIRROR],
                },
            },
        },
    ),
    "confidential guest, everything set": (
        "h200x8",
        {
            "attestation": {
                "key": "sev-snp",
                "keyPath": "0x81000010",
                "collateral": {
                    "secret": "collateral",
                    "items": [{"key": "vcek", "path": "sev-snp/vcek.crt"}],
                },
            },
            "hardware": {
                "runtimeClassName": "kata-qemu-nvidia-gpu-snp",
                "gpus": {"resource": "nvidia.com/pgpu", "evidence": "nvidia", "switches": True},
            },
            "apiKeys": {
                "existingSecret": "",
                "externalSecret": {"enabled": True, "storeName": "vault", "remoteKey": "rlu"},
            },
            "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": ["registry"]},
            "engine": {
                "maxModelLen": 65536,
                "kvCacheGib": 4,
                "environment": {"NCCL_P2P_LEVEL": "NVL", "OMP_NUM_THREADS": "8"},
            },
            "log": {"exporter": "ops/siem", "exportLimit": 10000, "exportWhenBehind": "gap"},
            "gateway": {
                "hostnames": ["10.0.0.1", "fd00::1"],
                "tls": {"secretName": "rlu-tls", "issuer": {"name": "corporate"}},
            },
            "pod": {"labels": {"team": "x"}, "annotations": {"note": "y"}, "priorityClassName": "high"},
            "state": {"storageClassName": "local"},
            "verify": {
                "policy": {"configMap": "", "inline": "version = 1\n"},
                "apiKeySecret": "probe",
                "acceptWaivers": True,
            },
            "service": {"affinitySeconds": 0, "annotations": {"c": "d"}},
            "licence": {
                "secret": "licence",
                "validation": {"url": "https://vendor.example/licence", "egress": [MIRROR]},
            },
            "telemetry": {
                "optIn": True,
                "url": "https://vendor.example/telemetry",
                "keySecret": "telemetry",
                "egress": [MIRROR],
            },
        },
    ),
    "model from an image": (
        "h200x8",
        {
            "model": {
                "source": "image",
                "image": {"reference": "models/qwen@sha256:" + "0" * 64, "subPath": "model"},
            }
        },
    ),
    "policy from a Secret": (
        "h200x8",
        {"replicas": 3, "verify": {"policy": {"configMap": "", "secret": "policy"}}},
    ),
}
NEEDS = {name: 30 for name, (preset, _) in CONFIGURATIONS.items() if preset != "cpu-demo"} | {
    "model from an image": 33
}
"""Configurations that need a later minor version than the chart."""
