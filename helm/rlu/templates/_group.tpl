{{/* A machine of a group that does not lead. */}}
{{- define "rlu.workerPod" -}}
{{- $v := .Values -}}
metadata:
  labels:
    {{- include "rlu.selector" . | nindent 4 }}
    app.kubernetes.io/component: worker
    {{- include "rlu.group.label" . | nindent 4 }}
    {{- with $v.pod.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/settings: {{ printf "%s%s" (include "rlu.settings" .) $v.model.signers | sha256sum }}
    {{- with $v.pod.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "rlu.fullname" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "rlu.grace" . }}
  {{- include "rlu.pod.node" . | nindent 2 }}
  containers:
    {{- include "rlu.pod.engine" . | nindent 4 }}
  volumes:
    {{- include "rlu.pod.engineVolumes" . | nindent 4 }}
{{- end }}

{{/* What machines of a group have in common, for their NetworkPolicy. */}}
{{- define "rlu.group.label" -}}
{{- if gt (int .Values.group.nodes) 1 -}}
app.kubernetes.io/part-of: nodes
{{- end -}}
{{- end }}

{{/* What keeps the pods: its kind, API and name. Pods of an instance are named after it. */}}
{{- define "rlu.workload" -}}
{{ include "rlu.fullname" . }}{{ if gt (int .Values.group.nodes) 1 }}-nodes{{ end }}
{{- end }}

{{- define "rlu.workload.target" -}}
{{- if gt (int .Values.group.nodes) 1 -}}
{apiVersion: leaderworkerset.x-k8s.io/v1, kind: LeaderWorkerSet, name: {{ include "rlu.workload" . }}}
{{- else -}}
{apiVersion: apps/v1, kind: StatefulSet, name: {{ include "rlu.workload" . }}}
{{- end -}}
{{- end }}
