{{- define "rlu.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "rlu.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "rlu.name" .) .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "rlu.name" .) | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "rlu.selector" -}}
app.kubernetes.io/name: {{ include "rlu.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rlu.serving" -}}
{{ include "rlu.selector" . }}
app.kubernetes.io/component: serving
{{- end }}

{{- define "rlu.labels" -}}
{{ include "rlu.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "rlu.reference" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .version }}
{{- end -}}
{{- end }}

{{/* The engine's image. */}}
{{- define "rlu.image" -}}
{{ include "rlu.reference" (dict "image" .Values.image "version" .Chart.AppVersion) }}
{{- end }}

{{/* The image of gateway and attestor. */}}
{{- define "rlu.gatewayImage" -}}
{{ include "rlu.reference" (dict "image" .Values.gatewayImage "version" .Chart.AppVersion) }}
{{- end }}

{{/* A user for each role, in one group. The state belongs to the attestor, whose user is the first. */}}
{{- define "rlu.uid.attestor" -}}
{{ int64 .Values.pod.uid }}
{{- end }}

{{- define "rlu.uid.engine" -}}
{{ add (int64 .Values.pod.uid) 1 }}
{{- end }}

{{- define "rlu.uid.gateway" -}}
{{ add (int64 .Values.pod.uid) 2 }}
{{- end }}

{{- define "rlu.environment" -}}
- name: RLU_CONFIG
  value: /etc/rlu/rlu.toml
- name: RLU_DATA_RESIDENCY_REGION
  value: {{ .Values.deployment.region | quote }}
- name: RLU_MODEL_UPDATE_SCHEDULE
  value: {{ .Values.model.updateSchedule | quote }}
- name: RLU_TELEMETRY_OPT_IN
  value: {{ .Values.telemetry.optIn | quote }}
{{- with .Values.attestation.keyPath }}
- name: RLU_ATTESTATION_KEY_PATH
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Requests and limits are the same. */}}
{{- define "rlu.resources" -}}
{{- $all := merge (dict "cpu" .cpu "memory" .memory) (.more | default dict) -}}
requests:
  {{- toYaml $all | nindent 2 }}
limits:
  {{- toYaml $all | nindent 2 }}
{{- end }}

{{/* The attestor's memory, and that of the opened weights, which are charged to who writes them. */}}
{{- define "rlu.attestorMemory" -}}
{{- $own := .Values.resources.attestor.memory -}}
{{- $e := .Values.model.encrypted -}}
{{- if not $e.broker -}}
{{ $own }}
{{- else -}}
{{- $mib := dict "Ki" 0 "Mi" 1 "Gi" 1024 "Ti" 1048576 -}}
{{- $unit := regexFind "[KMGT]i$" $own -}}
{{- $number := int64 (trimSuffix $unit $own) -}}
{{- $base := ternary (div (add $number 1023) 1024) (mul $number (get $mib $unit)) (eq $unit "Ki") -}}
{{ printf "%dMi" (add $base (mul (int64 $e.memoryGib) 1024)) }}
{{- end -}}
{{- end }}

{{/* Until every proxy knows that this endpoint goes. All three pause, so that those the gateway needs outlast its drain. No image needs a shell. */}}
{{- define "rlu.pause" -}}
preStop:
  exec:
    command: [python3, -I, -S, -c, {{ printf "import time; time.sleep(%d)" (int64 .Values.gateway.preStopSeconds) | quote }}]
{{- end }}

{{- define "rlu.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Pod and container security of every pod of this chart: what the restricted Pod Security Standard asks, and a read-only root. */}}
{{- define "rlu.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.pod.uid }}
runAsGroup: {{ .Values.pod.uid }}
fsGroup: {{ .Values.pod.uid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "rlu.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
capabilities:
  drop: [ALL]
{{- end }}

{{/* Whether metrics have a port. */}}
{{- define "rlu.measured" -}}
{{- if or .Values.monitoring.listen .Values.monitoring.serviceMonitor .Values.telemetry.optIn (ne .Values.autoscaling.kind "none") }}true{{ end -}}
{{- end }}

{{/* How many instances there may be: each needs a name of its own. */}}
{{- define "rlu.instances" -}}
{{- if eq .Values.autoscaling.kind "none" }}{{ .Values.replicas }}{{ else }}{{ max .Values.replicas .Values.autoscaling.maxReplicas }}{{ end -}}
{{- end }}

{{- define "rlu.usesTpm" -}}
{{- if has .Values.attestation.key (list "tpm2" "gcp-vtpm" "azure-vtpm" "nitrotpm") }}yes{{ end -}}
{{- end }}

{{- define "rlu.usesTsm" -}}
{{- if has .Values.attestation.key (list "sev-snp" "tdx") }}yes{{ end -}}
{{- end }}

{{- define "rlu.keysSecret" -}}
{{ .Values.apiKeys.existingSecret | default (printf "%s-apikeys" (include "rlu.fullname" .)) }}
{{- end }}

{{/* Where the model is in the pod. */}}
{{- define "rlu.modelPath" -}}
{{- $sub := "" -}}
{{- if eq .Values.model.source "pvc" }}{{ $sub = .Values.model.pvc.subPath }}
{{- else if eq .Values.model.source "image" }}{{ $sub = .Values.model.image.subPath }}
{{- else }}{{ $sub = .Values.model.hub.id | replace "/" "--" }}{{ end -}}
/models{{ if $sub }}/{{ $sub }}{{ end }}{{ if .Values.model.update.source }}/current{{ end }}
{{- end }}

{{/* The pod's grace: the pause, the drain, and what `rlu serve` then allows each of its three processes (20 s), and some to spare. */}}
{{- define "rlu.grace" -}}
{{ add .Values.gateway.preStopSeconds .Values.gateway.drainSeconds 60 15 }}
{{- end }}

{{/* Names and addresses of all instances, as JSON: each has all of them in its certificate. */}}
{{- define "rlu.hostnames" -}}
{{- $v := .Values -}}
{{- $full := include "rlu.fullname" . -}}
{{- $ns := .Release.Namespace -}}
{{- $names := list "localhost" (printf "%s.%s.svc" $full $ns) -}}
{{- range $i := until (int (include "rlu.instances" .)) -}}
{{- $names = append $names (printf "%s-%d.%s.svc" $full $i $ns) -}}
{{- if and (ne $v.exposure.kind "none") $v.exposure.instances }}{{ $names = append $names (printf "%s-%d.%s" $full $i $v.exposure.host) }}{{ end -}}
{{- end -}}
{{- if ne $v.exposure.kind "none" }}{{ $names = append $names $v.exposure.host }}{{ end -}}
{{ concat $names $v.gateway.hostnames | uniq | toJson }}
{{- end }}

{{/* Every engine of an instance: its directory below the runtime directory, as the server names it, and the volume there. */}}
{{- define "rlu.engines" -}}
{{- range $i := until (int (include "rlu.engineCount" .)) }}
- place: engine{{ if $i }}{{ add1 $i }}{{ end }}
  volume: scratch{{ if $i }}-{{ add1 $i }}{{ end }}
{{- end }}
{{- end }}

{{- define "rlu.engineCount" -}}
{{- $count := int .Values.engine.replicas }}
{{- range .Values.furtherEngines }}{{ $count = add $count (int (.replicas | default 1)) }}{{ end -}}
{{ $count }}
{{- end }}
