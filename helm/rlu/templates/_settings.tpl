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
{{- if or $v.attestation.collateral.secret $v.controllers.collateral.enabled }}
collateral_dir = "/etc/rlu/collateral"
{{- end }}
pcrs = {{ $v.attestation.pcrs | toJson }}
renew_s = {{ int64 $v.attestation.renewSeconds }}
statement_ttl_s = {{ int64 $v.attestation.statementTtlSeconds }}
rotate_days = {{ int64 $v.attestation.rotateDays }}
appraise_s = {{ int64 $v.attestation.appraiseSeconds }}
{{- if $v.attestation.policy.configMap }}
policy = {{ printf "/etc/rlu/policy/%s" $v.attestation.policy.key | toJson }}
{{- end }}
gpu = { vendor = {{ $v.hardware.gpus.vendor | toJson }}, evidence = {{ $v.hardware.gpus.evidence | toJson }} }

[gateway]
host = "0.0.0.0"
port = 8443
hostnames = {{ include "rlu.hostnames" . }}
{{- if $v.gateway.tls.secretName }}
tls_certificate_file = "/etc/rlu/tls/tls.crt"
tls_key_file = "/etc/rlu/tls/tls.key"
{{- end }}
api_keys_file = "/etc/rlu/keys/apikeys.json"
workers = {{ int64 $v.gateway.workers }}
max_body_bytes = {{ int64 $v.gateway.maxBodyBytes }}
max_header_bytes = {{ int64 $v.gateway.maxHeaderBytes }}
max_connections = {{ int64 $v.gateway.maxConnections }}
header_timeout_s = {{ int64 $v.gateway.headerTimeoutSeconds }}
body_timeout_s = {{ int64 $v.gateway.bodyTimeoutSeconds }}
idle_timeout_s = {{ int64 $v.gateway.idleTimeoutSeconds }}
response_timeout_s = {{ int64 $v.gateway.responseTimeoutSeconds }}
drain_timeout_s = {{ int64 $v.gateway.drainSeconds }}
session_ttl_s = {{ int64 $v.gateway.sessionTtlSeconds }}
session_idle_s = {{ int64 $v.gateway.sessionIdleSeconds }}
max_sessions = {{ int64 $v.gateway.maxSessions }}
receipts_per_session = {{ int64 $v.gateway.receiptsPerSession }}
access_log = {{ $v.gateway.accessLog }}

[responses]
store = {{ $v.gateway.responses.store | toJson }}
session_bytes = {{ mul (int64 $v.gateway.responses.sessionMib) 1048576 }}
tenant_bytes = {{ mul (int64 $v.gateway.responses.tenantMib) 1048576 }}
total_bytes = {{ mul (int64 $v.gateway.responses.totalMib) 1048576 }}
age_s = {{ int64 $v.gateway.responses.ageSeconds }}
reserve_bytes = {{ mul (int64 $v.gateway.responses.reserveKib) 1024 }}

[admission]
{{- if $v.admission.limits }}
limits_file = "/etc/rlu/limits/limits.toml"
{{- end }}
max_in_flight = {{ int64 $v.admission.maxInFlight }}
engine_backlog = {{ int64 $v.admission.engineBacklog }}
queue_size = {{ int64 $v.admission.queueSize }}
queue_wait_s = {{ int64 $v.admission.queueWaitSeconds }}
batch_share = {{ $v.admission.batchShare }}

[engine]
{{- include "rlu.engineSettings" $v.engine }}
ready_timeout_s = {{ int64 $v.engine.readyTimeoutSeconds }}

[model]
path = {{ include "rlu.modelPath" . | toJson }}
name = {{ $v.model.name | toJson }}
{{- with $v.model.aliases }}
aliases = {{ include "rlu.inlineTable" . }}
{{- end }}
list_aliases = {{ $v.model.listAliases }}
signature = {{ $v.model.signature | toJson }}
{{- if $v.model.signers }}
signers = ["/etc/rlu/model-signers.pem"]
{{- end }}
{{- if $v.model.encrypted.broker }}

[weights]
# By way of the relay, which passes it on to the broker.
broker = {{ printf "%s/broker" (include "rlu.relay.address" .) | toJson }}
ca_file = "/etc/rlu/relay/ca.crt"
after_loading = {{ $v.model.encrypted.afterLoading | toJson }}
{{- end }}
{{- range $v.furtherEngines }}

[[further_engines]]
path = {{ printf "/models/%s" .subPath | toJson }}
name = {{ .name | toJson }}
{{- include "rlu.engineSettings" . }}
{{- end }}
{{ include "rlu.authSettings" . }}

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
tenants = {{ int64 $v.monitoring.tenants }}

[tracing]
sample = {{ $v.tracing.sample }}
continue_clients = {{ $v.tracing.continueClients }}

[log]
segment_leaves = {{ int64 $v.log.segmentLeaves }}
head_interval_s = {{ int64 $v.log.headIntervalSeconds }}
export_limit = {{ int64 $v.log.exportLimit }}
export_when_behind = {{ $v.log.exportWhenBehind | toJson }}
exporter = {{ $v.log.exporter | toJson }}
witnesses = {{ $v.log.witnesses | toJson }}
{{- if $v.licence.secret }}

[licence]
file = "/etc/rlu/licence/licence.jws"
vendor_keys = [{{ range $i, $key := $v.licence.vendorKeys }}{{ if $i }}, {{ end }}{{ printf "/etc/rlu/licence/%s" $key | toJson }}{{ end }}]
answer_file = "/etc/rlu/licence{{ if $v.licence.validation.url }}-answer{{ end }}/answer.jws"
{{- end }}
{{- end }}

{{/* What [engine] and each of [[further_engines]] have in common. Takes the values of one. */}}
{{- define "rlu.engineSettings" }}
arguments = {{ .arguments | default list | toJson }}
{{- with .environment }}
environment = {{ include "rlu.inlineTable" . }}
{{- end }}
replicas = {{ int64 (.replicas | default 1) }}
devices = {{ .devices | default list | toJson }}
{{- with .maxModelLen }}
max_model_len = {{ int64 . }}
{{- end }}
{{- with .kvCacheGib }}
kv_cache_gib = {{ int64 . }}
{{- end }}
{{- end }}

{{/* A map of texts, numbers and truths as an inline table of TOML. */}}
{{- define "rlu.inlineTable" -}}
{ {{ range $i, $name := keys . | sortAlpha }}{{ if $i }}, {{ end }}{{ $name | toJson }} = {{ get $ $name | toJson }}{{ end }} }
{{- end }}
