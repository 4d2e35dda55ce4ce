{{/* What a schema cannot say: values that contradict each other. Each refusal names the values and what to do. */}}
{{- define "rlu.checks" -}}
{{- $v := .Values -}}
{{- if not $v.model.name }}{{ fail "model.name: say by which name clients call the model" }}{{ end -}}
{{- if and (eq $v.model.source "pvc") (not $v.model.pvc.claimName) }}{{ fail "model.pvc.claimName: name the PersistentVolumeClaim that holds the model, or choose another model.source" }}{{ end -}}
{{- if and (eq $v.model.source "image") (not $v.model.image.reference) }}{{ fail "model.image.reference: name the image that holds the model, or choose another model.source" }}{{ end -}}
{{- if and (eq $v.model.source "image") (semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version) }}{{ fail (printf "model.source: volumes from images need Kubernetes 1.33 or later, this is %s; use a PersistentVolumeClaim (model.source: pvc)" .Capabilities.KubeVersion.Version) }}{{ end -}}
{{- if eq $v.model.source "hub" -}}
{{- if not (and $v.model.hub.id $v.model.pvc.claimName) }}{{ fail "model.hub.id and model.pvc.claimName: fetching from a hub needs the model's id (owner/name) and the claim to put it on" }}{{ end -}}
{{- if not $v.model.hub.egress }}{{ fail "model.hub.egress: list the hub mirror's addresses (NetworkPolicy peers know no names), or put the model on the claim yourself (model.source: pvc)" }}{{ end -}}
{{- end -}}
{{- if and (not $v.apiKeys.existingSecret) (not $v.apiKeys.externalSecret.enabled) }}{{ fail "apiKeys.existingSecret: name the Secret with the hashed API keys (rlu apikeys create --file apikeys.json), or enable apiKeys.externalSecret" }}{{ end -}}
{{- if and $v.apiKeys.existingSecret $v.apiKeys.externalSecret.enabled }}{{ fail "apiKeys: existingSecret and externalSecret exclude each other" }}{{ end -}}
{{- with $v.apiKeys.externalSecret }}{{ if and .enabled (not (and .storeName .remoteKey)) }}{{ fail "apiKeys.externalSecret: storeName and remoteKey are needed" }}{{ end }}{{ end -}}
{{- if and (eq $v.attestation.key "none") (not $v.attestation.unsafeSoftwareKey) }}{{ fail "attestation.key: none needs attestation.unsafeSoftwareKey, and every verifier will say so" }}{{ end -}}
{{- if and $v.attestation.unsafeSoftwareKey (ne $v.attestation.key "none") }}{{ fail (printf "attestation.unsafeSoftwareKey contradicts attestation.key: %s; set attestation.key: none" $v.attestation.key) }}{{ end -}}
{{- if has $v.attestation.key (list "nitro") }}{{ fail "attestation.key: nitro is not possible in a pod: an AWS Nitro Enclave is started on the host, and /dev/nsm is only inside it" }}{{ end -}}
{{- if lt (int64 $v.attestation.statementTtlSeconds) (int64 $v.attestation.renewSeconds) }}{{ fail "attestation.statementTtlSeconds is less than attestation.renewSeconds: statements would end before they are renewed" }}{{ end -}}
{{- if and $v.attestation.collateral.secret (not $v.attestation.collateral.items) }}{{ fail "attestation.collateral.items: say which key of the Secret goes to which path (such as sev-snp/vcek.crt)" }}{{ end -}}
{{- with $v.hardware.gpus }}
{{- if and (ne .vendor "none") (not (and .resource .count)) }}{{ fail "hardware.gpus: resource and count are needed where there is a vendor" }}{{ end -}}
{{- if and (eq .vendor "none") .count }}{{ fail "hardware.gpus.vendor: name the vendor of the GPUs that are asked for (nvidia or amd)" }}{{ end -}}
{{- if and .switches (ne .vendor "nvidia") }}{{ fail "hardware.gpus.switches needs hardware.gpus.vendor: nvidia" }}{{ end -}}
{{- if and (eq .evidence "nvidia") (ne .vendor "nvidia") }}{{ fail "hardware.gpus.evidence: nvidia needs hardware.gpus.vendor: nvidia" }}{{ end -}}
{{- end -}}
{{- if ne $v.exposure.kind "none" -}}
{{- if not $v.exposure.host }}{{ fail "exposure.host: say by which name clients reach the service" }}{{ end -}}
{{- if and (eq $v.exposure.kind "gateway") (not $v.exposure.gateway.name) }}{{ fail "exposure.gateway.name: name the Gateway that the route belongs to" }}{{ end -}}
{{- if and (eq $v.exposure.mode "terminating") (not $v.exposure.terminating.declared) }}{{ fail "exposure.terminating.declared: a terminator sees every prompt, and verification says so. Set it to true, and pin the terminator's key in your policy; or use exposure.mode: passthrough" }}{{ end -}}
{{- if and (eq $v.exposure.kind "ingress") (eq $v.exposure.mode "terminating") (not $v.exposure.terminating.secretName) }}{{ fail "exposure.terminating.secretName: name the Secret with the terminator's certificate" }}{{ end -}}
{{- end -}}
{{- if $v.exposure.gateway.caConfigMap -}}
{{- if not (and (eq $v.exposure.kind "gateway") (eq $v.exposure.mode "terminating")) }}{{ fail "exposure.gateway.caConfigMap: only a terminating Gateway speaks TLS to instances of its own accord; it needs exposure.kind: gateway and exposure.mode: terminating" }}{{ end -}}
{{- if not $v.gateway.tls.secretName }}{{ fail "exposure.gateway.caConfigMap: keys that are born in the instances' memory are signed by no CA; give them certificates by gateway.tls" }}{{ end -}}
{{- end -}}
{{- if and $v.exposure.terminating.issuer.name (not $v.exposure.terminating.secretName) }}{{ fail "exposure.terminating.secretName: say into which Secret cert-manager puts the certificate" }}{{ end -}}
{{- if and $v.exposure.inferencePool.endpointPicker (not (and (eq $v.exposure.kind "gateway") (eq $v.exposure.mode "terminating"))) }}{{ fail "exposure.inferencePool: an endpoint picker reads the session header, so it needs exposure.kind: gateway and exposure.mode: terminating; with passthrough, affinity is by each instance's own name" }}{{ end -}}
{{- if and (eq $v.autoscaling.kind "keda") (not $v.autoscaling.prometheusAddress) }}{{ fail "autoscaling.prometheusAddress: KEDA asks a Prometheus server; give its address" }}{{ end -}}
{{- if and (ne $v.autoscaling.kind "none") (lt (int64 $v.autoscaling.maxReplicas) (int64 $v.replicas)) }}{{ fail "autoscaling.maxReplicas is less than replicas" }}{{ end -}}
{{- with $v.telemetry }}{{ if and .optIn (not (and .url .keySecret .egress)) }}{{ fail "telemetry.optIn: url, keySecret and egress are needed: say where reports go, which Secret has the key that signs them (rlu telemetry keygen), and whom the job may reach" }}{{ end }}{{ end -}}
{{- with $v.licence }}
{{- if and .secret (not .vendorKeys) }}{{ fail "licence.vendorKeys: name the keys in licence.secret that hold the vendor's public keys" }}{{ end -}}
{{- if and .validation.url (not (and .secret .validation.egress)) }}{{ fail "licence.validation.url: licence.secret and licence.validation.egress are needed: what to ask about, and whom the job may reach" }}{{ end -}}
{{- end -}}
{{- $policies := 0 }}{{ range (list $v.verify.policy.configMap $v.verify.policy.secret $v.verify.policy.inline) }}{{ if . }}{{ $policies = add1 $policies }}{{ end }}{{ end -}}
{{- if gt (int $policies) 1 }}{{ fail "verify.policy: give one of configMap, secret and inline" }}{{ end -}}
{{- include "rlu.checks.auth" . -}}
{{- include "rlu.checks.encrypted" . -}}
{{- include "rlu.checks.engines" . -}}
{{- include "rlu.checks.controllers" . -}}
{{- include "rlu.checks.update" . -}}
{{- end }}

{{/* Who may come in, and by which relay it is asked. */}}
{{- define "rlu.checks.auth" -}}
{{- $v := .Values -}}
{{- range $v.auth.issuers -}}
{{- if not (or .jwksKey .review) }}{{ fail (printf "auth.issuers: %s needs jwksKey, or review: true, or both" .name) }}{{ end -}}
{{- if and .jwksKey (not $v.auth.configMap) }}{{ fail (printf "auth.configMap: name the ConfigMap that holds %s" .jwksKey) }}{{ end -}}
{{- if and .review (not (and $v.relay.enabled $v.relay.tokenReview.enabled)) }}{{ fail (printf "auth.issuers: %s is to be reviewed by the cluster, which needs relay.enabled and relay.tokenReview.enabled" .name) }}{{ end -}}
{{- if eq (empty .tenant) (empty .tenantClaim) }}{{ fail (printf "auth.issuers: %s takes either tenant or tenantClaim" .name) }}{{ end -}}
{{- if ne (empty .tenants) (empty .tenantClaim) }}{{ fail (printf "auth.issuers: %s: tenantClaim takes tenants, the names that it may say" .name) }}{{ end -}}
{{- end -}}
{{- with $v.auth.certificates -}}
{{- if ne .mode "off" -}}
{{- if not (and $v.auth.configMap .caKey .rules) }}{{ fail "auth.certificates: auth.configMap, caKey and rules are needed: which CAs sign clients' certificates, and whom their names make" }}{{ end -}}
{{- if and (ne $v.exposure.kind "none") (eq $v.exposure.mode "terminating") }}{{ fail "auth.certificates: behind a terminator no client's certificate arrives; use exposure.mode: passthrough" }}{{ end -}}
{{- end -}}
{{- end -}}
{{- with $v.relay -}}
{{- if .enabled -}}
{{- if not (and .clusterIP .tls.secretName) }}{{ fail "relay.enabled: clusterIP (a free address of the cluster's service range) and tls.secretName (a certificate for that address) are needed; tls.issuer has cert-manager make it" }}{{ end -}}
{{- if not (or .tokenReview.enabled .otlp.url $v.model.encrypted.broker) }}{{ fail "relay.enabled: nothing to do; set tokenReview.enabled, otlp.url or model.encrypted.broker" }}{{ end -}}
{{- if and .tokenReview.enabled (not .tokenReview.egress) }}{{ fail "relay.tokenReview.egress: list the API server's addresses (kubectl get endpointslices kubernetes); NetworkPolicy peers know no names" }}{{ end -}}
{{- if and .otlp.url (not .otlp.egress) }}{{ fail "relay.otlp.egress: say whom the relay may reach as the collector" }}{{ end -}}
{{- end -}}
{{- end -}}
{{- with $v.gateway.tls }}{{ if and .issuer.name (not .secretName) }}{{ fail "gateway.tls.secretName: say into which Secret cert-manager puts the certificate" }}{{ end }}{{ end -}}
{{- if and $v.tracing.sample (not (and $v.relay.enabled $v.relay.otlp.url)) }}{{ fail "tracing.sample: traces go by way of the relay; set relay.enabled and relay.otlp.url, or sample: 0" }}{{ end -}}
{{- end }}

{{/* An encrypted model: who gives its key to whom, and where it is opened. */}}
{{- define "rlu.checks.encrypted" -}}
{{- with .Values.model.encrypted -}}
{{- if .broker -}}
{{- if not $.Values.relay.enabled }}{{ fail "model.encrypted.broker: serving pods reach it by way of the relay; set relay.enabled" }}{{ end -}}
{{- if not .memoryGib }}{{ fail "model.encrypted.memoryGib: say how large the opened model is (the sizes in rlu-weights.json, and a tenth more)" }}{{ end -}}
{{- if not .egress }}{{ fail "model.encrypted.egress: list the addresses of the broker, or of the proxy, that the relay may reach" }}{{ end -}}
{{- if not (has $.Values.attestation.key (list "azure-vtpm" "nitrotpm" "sev-snp" "tdx")) }}{{ fail (printf "model.encrypted.broker: keys are given to TEEs that measure their software (attestation.key: sev-snp, tdx, nitrotpm or azure-vtpm), and attestation.key is %s" $.Values.attestation.key) }}{{ end -}}
{{- if gt (int $.Values.group.nodes) 1 }}{{ fail "model.encrypted.broker: the nodes that do not lead have nobody to open it; set group.nodes to 1" }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Several engines in one pod, and autoscaling by what they say. */}}
{{- define "rlu.checks.engines" -}}
{{- $v := .Values -}}
{{- if and $v.engine.devices (ne (len $v.engine.devices) (int $v.engine.replicas)) }}{{ fail (printf "engine.devices has %d entries for %d replicas; give each its own" (len $v.engine.devices) (int $v.engine.replicas)) }}{{ end -}}
{{- range $v.furtherEngines -}}
{{- $replicas := int (.replicas | default 1) -}}
{{- if and .devices (ne (len .devices) $replicas) }}{{ fail (printf "furtherEngines: devices of %s has %d entries for %d replicas; give each its own" .name (len .devices) $replicas) }}{{ end -}}
{{- end -}}
{{- if and $v.furtherEngines (eq $v.model.source "hub") }}{{ fail "furtherEngines: from a hub one model is fetched; put all of them on one claim (model.source: pvc)" }}{{ end -}}
{{- if gt (int $v.group.nodes) 1 -}}
{{- if ne (include "rlu.engineCount" .) "1" }}{{ fail "group.nodes: several machines run one engine; engine.replicas and furtherEngines are for one" }}{{ end -}}
{{- if not (has "--pipeline-parallel-size" $v.engine.arguments | or (has "--tensor-parallel-size" $v.engine.arguments)) }}{{ fail "group.nodes: say in engine.arguments how the engine spreads over the machines (--tensor-parallel-size, --pipeline-parallel-size)" }}{{ end -}}
{{- if or (ne $v.model.updateSchedule "manual") $v.model.update.source }}{{ fail "group.nodes: updates roll single machines only; set model.updateSchedule: manual and leave model.update.source empty" }}{{ end -}}
{{- if $v.telemetry.optIn }}{{ fail "group.nodes: telemetry is read from single machines only" }}{{ end -}}
{{- end -}}
{{- with $v.autoscaling -}}
{{- if and (ne .kind "none") (not (or .exchangesPerReplica .waitingPerReplica .kvCachePercent)) }}{{ fail "autoscaling: at least one of exchangesPerReplica, waitingPerReplica and kvCachePercent is to count" }}{{ end -}}
{{- if and (eq .kind "hpa") .kvCachePercent (ne (include "rlu.engineCount" $) "1") }}{{ fail "autoscaling.kvCachePercent: the shares of a pod's engines cannot be averaged for an HPA; use kind: keda, or set it to 0" }}{{ end -}}
{{- end -}}
{{- end }}
