{{/* [update] of the job's own rlu.toml; what serves has none. */}}
{{- define "rlu.settings.update" -}}
{{- $u := .Values.model.update -}}
[update]
source = {{ $u.source | toJson }}
endpoint = {{ $u.endpoint | toJson }}
region = {{ $u.region | toJson }}
allow = {{ $u.allow | toJson }}
{{- if $u.credentialsSecret }}
credentials = "/etc/rlu/update"
{{- end }}
{{- if $u.ca }}
ca_file = "/etc/rlu/update-ca.pem"
{{- end }}
proxy = {{ $u.proxy | toJson }}
rate_bytes = {{ mul (int64 $u.rateMib) 1048576 }}
reserve_bytes = {{ mul (int64 $u.reserveGib) 1073741824 }}
keep = {{ int64 $u.keep }}
rollout = {{ printf "%s/%s" .Release.Namespace (include "rlu.fullname" .) | toJson }}
{{- end }}

{{- define "rlu.checks.update" -}}
{{- with .Values.model -}}
{{- if and (ne .updateSchedule "manual") (not .update.source) }}{{ fail (printf "model.updateSchedule is %s: say where updates come from (model.update.source), or set it to manual" .updateSchedule) }}{{ end -}}
{{- if .update.source -}}
{{- if semverCompare "<1.30.0-0" $.Capabilities.KubeVersion.Version }}{{ fail (printf "model.update.source: what keeps the job's account to one annotation (ValidatingAdmissionPolicy) needs Kubernetes 1.30 or later, this is %s; leave it empty, and run `rlu update` yourself" $.Capabilities.KubeVersion.Version) }}{{ end -}}
{{- if gt (int $.Values.group.nodes) 1 }}{{ fail "model.update.source: instances of several nodes are not rolled by updates yet; set group.nodes to 1, or leave it empty, and run `rlu update` yourself" }}{{ end -}}
{{- if ne .source "pvc" }}{{ fail (printf "model.update.source: updates go to a claim (model.source: pvc), and model.source is %s" .source) }}{{ end -}}
{{- if not .signers }}{{ fail "model.update.source: updates are taken only from signers that are named; set model.signers" }}{{ end -}}
{{- if not .updateEgress }}{{ fail "model.updateEgress: list the addresses of the source, or of your mirror or proxy (NetworkPolicy peers know no names)" }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}
