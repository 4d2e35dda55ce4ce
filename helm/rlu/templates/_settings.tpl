{{/* rlu.toml. Every key is one of server/rlu.example.toml; a test loads the result with the server's own settings. */}}
{{- define "rlu.settings" -}}
{{- $v := .Values -}}
{{- $full := include "rlu.fullname" . -}}
{{- $ns := .Release.Namespace -}}
state_dir = "/var/lib/rlu/state"
# Each role's own; what one shows to another is mounted below.
runtime_dir = "/run/rlu"

[deployment]
boundary = {{ $v.deployment.boundary | toJson }}
site = {{ $v.deployment.site | toJson }}
hardware_profile = {{ $v.hardware.profile | toJson }}

[attestation]
{{- if $v.attestation.unsafeSoftwareKey }}
key = "none"
insecure_software_key = true
{{- else }}
key = {{ $v.attestation.key | toJson }}
{{- end }}
{{- if include "rlu.usesTpm" . }}
tcti = {{ printf "device:%s" $v.attestation.tpm.device | toJson }}
{{- end }}
{{- if $v.attestation.collateral.secret }}
collateral_dir = "/etc/rlu/collateral"
{{- end }}
pcrs = {{ $v.attestation.pcrs | toJson }}
renew_s = {{ int64 $v.attestation.renewSeconds }}
statement_ttl_s = {{ int64 $v.attestation.statementTtlSeconds }}
gpu = { vendor = {{ $v.hardware.gpus.vendor | toJson }}, evidence = {{ $v.hardware.gpus.evidence | toJson }} }

[gateway]
host = "0.0.0.0"
port = 8443
{{- $names := list "localhost" (printf "%s.%s.svc" $full $ns) }}
{{- range $i := until (int (include "rlu.instances" .)) }}
{{- $names = append $names (printf "%s-%d.%s.svc" $full $i $ns) }}
{{- if and (ne $v.exposure.kind "none") $v.exposure.instances }}
{{- $names = append $names (printf "%s-%d.%s" $full $i $v.exposure.host) }}
{{- end }}
{{- end }}
{{- if ne $v.exposure.kind "none" }}
{{- $names = append $names $v.exposure.host }}
{{- end }}
hostnames = {{ concat $names $v.gateway.hostnames | uniq | toJson }}
api_keys_file = "/etc/rlu/keys/apikeys.json"
workers = {{ int64 $v.gateway.workers }}
max_body_bytes = {{ int64 $v.gateway.maxBodyBytes }}
max_connections = {{ int64 $v.gateway.maxConnections }}
response_timeout_s = {{ int64 $v.gateway.responseTimeoutSeconds }}
drain_timeout_s = {{ int64 $v.gateway.drainSeconds }}
session_ttl_s = {{ int64 $v.gateway.sessionTtlSeconds }}
session_idle_s = {{ int64 $v.gateway.sessionIdleSeconds }}
max_sessions = {{ int64 $v.gateway.maxSessions }}
access_log = {{ $v.gateway.accessLog }}

[responses]
store = {{ $v.gateway.responses.store | toJson }}
session_bytes = {{ mul (int64 $v.gateway.responses.sessionMib) 1048576 }}
tenant_bytes = {{ mul (int64 $v.gateway.responses.tenantMib) 1048576 }}
total_bytes = {{ mul (int64 $v.gateway.responses.totalMib) 1048576 }}
age_s = {{ int64 $v.gateway.responses.ageSeconds }}
{{- if or $v.admission.limits $v.admission.maxInFlight }}

[admission]
{{- if $v.admission.limits }}
limits_file = "/etc/rlu/limits/limits.toml"
{{- end }}
max_in_flight = {{ int64 $v.admission.maxInFlight }}
{{- end }}

[engine]
arguments = {{ $v.engine.arguments | toJson }}
{{- with $v.engine.environment }}
environment = { {{ range $i, $name := keys . | sortAlpha }}{{ if $i }}, {{ end }}{{ $name }} = {{ get $v.engine.environment $name | toJson }}{{ end }} }
{{- end }}
ready_timeout_s = {{ int64 $v.engine.readyTimeoutSeconds }}
{{- with $v.engine.maxModelLen }}
max_model_len = {{ int64 . }}
{{- end }}
{{- with $v.engine.kvCacheGib }}
kv_cache_gib = {{ int64 . }}
{{- end }}

[model]
path = {{ include "rlu.modelPath" . | toJson }}
name = {{ $v.model.name | toJson }}
{{- with $v.model.aliases }}
aliases = { {{ range $i, $name := keys . | sortAlpha }}{{ if $i }}, {{ end }}{{ $name | toJson }} = {{ get $v.model.aliases $name | toJson }}{{ end }} }
{{- end }}
list_aliases = {{ $v.model.listAliases }}
signature = {{ $v.model.signature | toJson }}
{{- if $v.model.signers }}
signers = ["/etc/rlu/model-signers.pem"]
{{- end }}
{{- if ne $v.exposure.kind "none" }}

[auth]
# All clients have the address of what is in front of them: one that guesses would have all others wait.
lockout_after = 0
{{- end }}

[lock]
minimum_landlock_abi = {{ int64 $v.lock.minimumLandlockAbi }}
# The containers of a pod share a network; the NetworkPolicy of this release denies all egress.
engine_network = "shared"
scratch_bytes = {{ mul (int64 $v.engine.scratchGib) 1073741824 }}
unsafe_allow_swap = {{ $v.lock.unsafeAllowSwap }}

[lock.uids]
attestor = {{ include "rlu.uid.attestor" . }}
engine = {{ include "rlu.uid.engine" . }}
gateway = {{ include "rlu.uid.gateway" . }}

[metrics]
{{- if include "rlu.measured" . }}
listen = "0.0.0.0:{{ int64 $v.monitoring.port }}"
{{- else }}
listen = "unix"
{{- end }}

[log]
head_interval_s = {{ int64 $v.log.headIntervalSeconds }}
export_limit = {{ int64 $v.log.exportLimit }}
export_when_behind = {{ $v.log.exportWhenBehind | toJson }}
exporter = {{ $v.log.exporter | toJson }}
witnesses = {{ $v.log.witnesses | toJson }}
{{- if $v.licence.secret }}

[licence]
file = "/etc/rlu/licence/licence.jws"
vendor_keys = [{{ range $i, $key := $v.licence.vendorKeys }}{{ if $i }}, {{ end }}{{ printf "/etc/rlu/licence/%s" $key | toJson }}{{ end }}]
answer_file = "/etc/rlu/licence/answer.jws"
{{- end }}
{{- end }}
