{{/* [auth]. Files lie in a directory of the ConfigMap's own, so that a change of theirs counts without a restart. */}}
{{- define "rlu.authSettings" }}
{{- $auth := .Values.auth }}
[auth]
{{- if ne .Values.exposure.kind "none" }}
# All clients have the address of what is in front of them: one that guesses would have all others wait.
lockout_after = 0
{{- else }}
lockout_after = {{ int64 $auth.lockoutAfter }}
{{- end }}
lockout_longest_s = {{ int64 $auth.lockoutLongestSeconds }}
review_ttl_s = {{ int64 $auth.reviewTtlSeconds }}
review_timeout_s = {{ int64 $auth.reviewTimeoutSeconds }}
administrators = {{ $auth.administrators | toJson }}
{{- if .Values.relay.enabled }}
# An address: nothing in these pods looks up names.
relay = {{ include "rlu.relay.address" . | toJson }}
relay_ca_file = "/etc/rlu/relay/ca.crt"
{{- end }}
{{- with $auth.certificates }}
{{- if ne .mode "off" }}

[auth.certificates]
mode = {{ .mode | toJson }}
ca_file = {{ printf "/etc/rlu/auth/%s" .caKey | toJson }}
{{- if .crlKey }}
crl_file = {{ printf "/etc/rlu/auth/%s" .crlKey | toJson }}
{{- end }}
{{- range .rules }}

[[auth.certificates.rules]]
source = {{ .source | toJson }}
pattern = {{ .pattern | toJson }}
{{- with .tenant }}
tenant = {{ . | toJson }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $auth.issuers }}

[[auth.issuers]]
name = {{ .name | toJson }}
issuer = {{ .issuer | toJson }}
audience = {{ .audience | toJson }}
{{- with .jwksKey }}
jwks_file = {{ printf "/etc/rlu/auth/%s" . | toJson }}
{{- end }}
review = {{ .review | default false }}
{{- with .algorithms }}
algorithms = {{ . | toJson }}
{{- end }}
{{- with .tenant }}
tenant = {{ . | toJson }}
{{- end }}
{{- with .tenantClaim }}
tenant_claim = {{ . | toJson }}
{{- end }}
{{- with .tenants }}
tenants = {{ . | toJson }}
{{- end }}
{{- with .principalClaim }}
principal_claim = {{ . | toJson }}
{{- end }}
{{- with .principalPrefix }}
principal_prefix = {{ . | toJson }}
{{- end }}
{{- with .required }}
required = {{ include "rlu.inlineTable" . }}
{{- end }}
{{- if hasKey . "clockSkewSeconds" }}
clock_skew_s = {{ int64 .clockSkewSeconds }}
{{- end }}
{{- end }}
{{- end }}

{{- define "rlu.relay.selector" -}}
{{ include "rlu.selector" . }}
app.kubernetes.io/component: relay
{{- end }}

{{- define "rlu.relay.address" -}}
{{- $ip := .Values.relay.clusterIP -}}
https://{{ if contains ":" $ip }}[{{ $ip }}]{{ else }}{{ $ip }}{{ end }}:{{ int64 .Values.relay.port }}
{{- end }}
