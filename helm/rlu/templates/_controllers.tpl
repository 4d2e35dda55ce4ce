{{/* What pods need that talk to the API server: a token of their own that ends soon, bound to the pod, and the cluster's CA. */}}
{{- define "rlu.account.volume" -}}
- name: account
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items:
            - path: namespace
              fieldRef: {fieldPath: metadata.namespace}
{{- end }}

{{- define "rlu.account.mount" -}}
- {name: account, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}

{{/* Egress to the API server: as listed, else as this cluster says when it is installed. NetworkPolicies see the address before or after the Service's translation, by the network. */}}
{{- define "rlu.apiServer" -}}
{{- $at := .Values.controllers.apiServer }}
{{- if $at.egress }}
- ports:
    - {port: {{ $at.port }}, protocol: TCP}
  to:
    {{- toYaml $at.egress | nindent 4 }}
{{- else }}
{{- $slice := lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "kubernetes" }}
{{- $service := lookup "v1" "Service" "default" "kubernetes" }}
{{- if not (and $slice $service) }}{{ fail "controllers.apiServer.egress: list the API server's addresses (kubectl -n default get endpointslices kubernetes); they cannot be looked up without a cluster" }}{{ end }}
- ports:
    {{- range $slice.ports }}
    - {port: {{ .port }}, protocol: TCP}
    {{- end }}
  to:
    {{- range $slice.endpoints }}
    {{- range .addresses }}
    - ipBlock: {cidr: {{ printf "%s/%s" . (ternary "128" "32" (contains ":" .)) | quote }}}
    {{- end }}
    {{- end }}
- ports:
    {{- range $service.spec.ports }}
    - {port: {{ .port }}, protocol: TCP}
    {{- end }}
  to:
    - ipBlock: {cidr: {{ printf "%s/%s" $service.spec.clusterIP (ternary "128" "32" (contains ":" $service.spec.clusterIP)) | quote }}}
{{- end }}
{{- end }}

{{- define "rlu.labeller.selector" -}}
{{ include "rlu.selector" . }}
app.kubernetes.io/component: labeller
{{- end }}

{{/* The labeller's command. What it cannot see from its pod, or the operator waived for the instances too, does not count. */}}
{{- define "rlu.labeller.command" -}}
{{- $v := .Values }}
{{- $l := $v.controllers.labeller }}
{{- $profile := $l.profile | default $v.hardware.profile }}
{{- $command := list "rlu" "cluster" "label" "--node" "$(NODE)" "--label" $v.hardware.certifiedLabel "--every" (toString $l.intervalSeconds) "--landlock" (toString $v.lock.minimumLandlockAbi) }}
{{- if not (has $profile (list "none" "unspecified")) }}{{ $command = concat $command (list "--profile" $profile) }}{{ end }}
{{- if include "rlu.usesTpm" . }}{{ $command = concat $command (list "--tpm" (printf "device:%s" $v.attestation.tpm.device)) }}{{ end }}
{{- if $l.taint }}{{ $command = concat $command (list "--taint" $l.taint) }}{{ end }}
{{- if $l.drain }}{{ $command = concat $command (list "--drain" (printf "app.kubernetes.io/name=%s,app.kubernetes.io/instance=%s,app.kubernetes.io/%s" (include "rlu.name" .) .Release.Name (ternary "part-of=nodes" "component=serving" (gt (int .Values.group.nodes) 1)))) }}{{ end }}
{{- $ignore := $l.ignore }}
{{- if $v.lock.unsafeAllowSwap }}{{ $ignore = append $ignore "kernel.swap" }}{{ end }}
{{- /* A TEE's report devices are in no labeller's pod; the instances' own evidence tells. */}}
{{- if not (include "rlu.usesTpm" .) }}{{ $ignore = concat $ignore (list "profile.key" "trust.key") }}{{ end }}
{{- range uniq $ignore }}{{ $command = concat $command (list "--ignore" .) }}{{ end }}
{{- toJson $command }}
{{- end }}

{{/* A container of a controller: the gateway's image with one command. */}}
{{- define "rlu.controller" -}}
image: {{ include "rlu.gatewayImage" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "rlu.containerSecurity" . | nindent 2 }}
  readOnlyRootFilesystem: true
{{- end }}

{{/* Of a job: who did not answer is asked again; who said no would say it again, and another time is the schedule's. */}}
{{- define "rlu.retries" -}}
backoffLimit: 3
{{ include "rlu.refusals" "FailJob" }}
{{- end }}

{{- define "rlu.refusals" -}}
podFailurePolicy:
  rules:
    - action: {{ . }}
      onExitCodes: {operator: In, values: [2, 10, 20, 30]}
{{- end }}

{{- define "rlu.checks.controllers" -}}
{{- $v := .Values -}}
{{- with $v.controllers -}}
{{- if and (or .labeller.enabled .keySets.enabled) (semverCompare "<1.30.0-0" $.Capabilities.KubeVersion.Version) }}{{ fail (printf "controllers: what keeps their accounts to their own node and files (ValidatingAdmissionPolicy) needs Kubernetes 1.30 or later, this is %s; set labeller.enabled and keySets.enabled to false, and label nodes by hand" $.Capabilities.KubeVersion.Version) }}{{ end -}}
{{- if .collateral.enabled -}}
{{- if not (or (include "rlu.stapled" $) (eq $v.hardware.gpus.evidence "nvidia")) }}{{ fail (printf "controllers.collateral: nothing is published about attestation.key: %s; set it to false" $v.attestation.key) }}{{ end -}}
{{- if $v.attestation.collateral.secret }}{{ fail "controllers.collateral and attestation.collateral.secret exclude each other: fetched, or brought by you" }}{{ end -}}
{{- if not .collateral.egress }}{{ fail "controllers.collateral.egress: list the addresses of the vendors' services, or of your mirror or proxy" }}{{ end -}}
{{- end -}}
{{- if and .keySets.enabled (not (and $v.auth.configMap .keySets.sets .keySets.egress)) }}{{ fail "controllers.keySets: auth.configMap, sets and egress are needed: into which ConfigMap, which key sets, and whom the job may reach" }}{{ end -}}
{{- end -}}
{{- end }}

{{/* The attestor's directory of collateral, if its key's evidence is one that collateral is stapled to. */}}
{{- define "rlu.stapled" -}}
{{- if has .Values.attestation.key (list "azure-vtpm" "gcp-vtpm" "nitrotpm" "sev-snp" "tdx") }}{{ .Values.attestation.key }}{{ end -}}
{{- end }}
