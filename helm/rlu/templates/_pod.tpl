{{/* The pods of an instance. One machine: one pod of three containers. Several: that pod leads, and the others have an engine only. */}}
{{- define "rlu.pod" -}}
{{- $v := .Values -}}
{{- $engines := fromYamlArray (include "rlu.engines" .) -}}
metadata:
  labels:
    {{- include "rlu.serving" . | nindent 4 }}
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
  # Variables such as RLU_SERVICE_HOST would be taken for settings, and refuse.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "rlu.grace" . }}
  {{- include "rlu.pod.node" . | nindent 2 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: {{ $v.pod.topologyKey }}
      whenUnsatisfiable: {{ $v.pod.spread }}
      labelSelector:
        matchLabels:
          {{- include "rlu.serving" . | nindent 10 }}
  # Each role is a user of its own with a root of its own. What one shows to another is a volume that the other has read-only.
  containers:
    - name: gateway
      image: {{ include "rlu.gatewayImage" . }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command: [rlu, serve, --json, --role, gateway]
      env:
        {{- include "rlu.pod.environment" . | nindent 8 }}
      ports:
        - name: https
          containerPort: 8443
        {{- if include "rlu.measured" . }}
        - name: metrics
          containerPort: {{ $v.monitoring.port }}
        {{- end }}
      securityContext:
        {{- include "rlu.containerSecurity" . | nindent 8 }}
        readOnlyRootFilesystem: true
        runAsUser: {{ include "rlu.uid.gateway" . }}
      resources:
        {{- include "rlu.resources" $v.resources.gateway | nindent 8 }}
      # The model is measured and loaded, and the engine's known answer checked, before the gateway is ready.
      startupProbe:
        httpGet: {path: /readyz, port: https, scheme: HTTPS}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: {{ add (div (add (int64 $v.engine.readyTimeoutSeconds) 300) 10) 1 }}
      readinessProbe:
        httpGet: {path: /readyz, port: https, scheme: HTTPS}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      livenessProbe:
        httpGet: {path: /healthz, port: https, scheme: HTTPS}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      lifecycle:
        {{- include "rlu.pause" . | nindent 8 }}
      terminationMessagePolicy: File
      volumeMounts:
        - {name: settings, mountPath: /etc/rlu/rlu.toml, subPath: rlu.toml, readOnly: true}
        - {name: keys, mountPath: /etc/rlu/keys, readOnly: true}
        {{- if $v.admission.limits }}
        # The whole directory: a file of its own would not follow the ConfigMap.
        - {name: limits, mountPath: /etc/rlu/limits, readOnly: true}
        {{- end }}
        # Without it, the pod's own: writable for everybody in the pod, and a tmpfs that may swap.
        - {name: no-shared-memory, mountPath: /dev/shm, readOnly: true}
        - {name: gateway-runtime, mountPath: /run/rlu}
        - {name: gateway-public, mountPath: /run/rlu/gateway}
        - {name: attestor-socket, mountPath: /run/rlu/attestor, readOnly: true}
        {{- range $engines }}
        - {name: {{ .volume }}, mountPath: /run/rlu/{{ .place }}, readOnly: true}
        {{- end }}
        {{- if $v.auth.configMap }}
        # The whole directory, for the same reason.
        - {name: auth, mountPath: /etc/rlu/auth, readOnly: true}
        {{- end }}
        {{- if $v.gateway.tls.secretName }}
        - {name: tls, mountPath: /etc/rlu/tls, readOnly: true}
        {{- end }}
        {{- if $v.relay.enabled }}
        - {name: relay-ca, mountPath: /etc/rlu/relay, readOnly: true}
        {{- end }}
    - name: attestor
      image: {{ include "rlu.gatewayImage" . }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command: [rlu, serve, --json, --role, attestor]
      env:
        {{- include "rlu.pod.environment" . | nindent 8 }}
        {{- if eq $v.hardware.gpus.vendor "nvidia" }}
        # It counts the GPUs, and asks them for evidence: NVML only, and no share of them from the device plugin.
        - {name: NVIDIA_VISIBLE_DEVICES, value: all}
        - {name: NVIDIA_DRIVER_CAPABILITIES, value: utility}
        {{- if $v.hardware.gpus.switches }}
        - {name: NVIDIA_NVSWITCH, value: enabled}
        {{- end }}
        {{- end }}
      securityContext:
        {{- include "rlu.containerSecurity" . | nindent 8 }}
        readOnlyRootFilesystem: true
        runAsUser: {{ include "rlu.uid.attestor" . }}
      resources:
        {{- $more := dict }}
        {{- if include "rlu.usesTpm" . }}{{ $_ := set $more $v.attestation.tpm.resource 1 }}{{ end }}
        {{- include "rlu.resources" (dict "more" $more "cpu" $v.resources.attestor.cpu "memory" (include "rlu.attestorMemory" .)) | nindent 8 }}
      lifecycle:
        {{- include "rlu.pause" . | nindent 8 }}
      terminationMessagePolicy: File
      volumeMounts:
        - {name: settings, mountPath: /etc/rlu/rlu.toml, subPath: rlu.toml, readOnly: true}
        - {name: state, mountPath: /var/lib/rlu}
        - {name: no-shared-memory, mountPath: /dev/shm, readOnly: true}
        - {name: attestor-runtime, mountPath: /run/rlu}
        - {name: attestor-socket, mountPath: /run/rlu/attestor}
        - {name: engine-facts, mountPath: /run/rlu/engine-facts, readOnly: true}
        - {name: gateway-public, mountPath: /run/rlu/gateway, readOnly: true}
        {{- if $v.attestation.collateral.secret }}
        - {name: collateral, mountPath: /etc/rlu/collateral, readOnly: true}
        {{- else if $v.controllers.collateral.enabled }}
        # Each collector takes what it knows, so that the same files can be in the directory of each.
        {{- range compact (list (include "rlu.stapled" .) (eq $v.hardware.gpus.evidence "nvidia" | ternary "nvidia" "")) }}
        - {name: collateral, mountPath: /etc/rlu/collateral/{{ . }}, readOnly: true}
        {{- end }}
        {{- end }}
        {{- if $v.attestation.policy.configMap }}
        - {name: policy, mountPath: /etc/rlu/policy, readOnly: true}
        {{- end }}
        {{- if $v.licence.secret }}
        # The whole directory, so that a new licence counts without a restart.
        - {name: licence, mountPath: /etc/rlu/licence, readOnly: true}
        {{- end }}
        {{- if $v.licence.validation.url }}
        - {name: licence-answer, mountPath: /etc/rlu/licence-answer, readOnly: true}
        {{- end }}
        {{- if $v.model.encrypted.broker }}
        # It opens the encrypted model: asks the broker by way of the relay, and writes into memory what the engine reads.
        - {name: model, mountPath: /models, readOnly: true}
        - {name: weights, mountPath: /run/rlu/weights}
        - {name: relay-ca, mountPath: /etc/rlu/relay, readOnly: true}
        {{- end }}
        {{- if include "rlu.usesTsm" . }}
        - {name: tsm, mountPath: /sys/kernel/config}
        {{- end }}
    {{- include "rlu.pod.engine" . | nindent 4 }}
  volumes:
    {{- include "rlu.pod.engineVolumes" . | nindent 4 }}
    - name: keys
      secret:
        secretName: {{ include "rlu.keysSecret" . }}
        defaultMode: 0440
        items:
          - {key: {{ $v.apiKeys.key }}, path: apikeys.json}
    {{- if $v.admission.limits }}
    - name: limits
      configMap:
        name: {{ include "rlu.fullname" . }}-limits
    {{- end }}
    {{- range list "gateway-runtime" "attestor-runtime" "attestor-socket" "no-shared-memory" }}
    - name: {{ . }}
      emptyDir:
        medium: Memory
        sizeLimit: 16Mi
    {{- end }}
    {{- if $v.attestation.collateral.secret }}
    - name: collateral
      secret:
        secretName: {{ $v.attestation.collateral.secret }}
        defaultMode: 0440
        {{- with $v.attestation.collateral.items }}
        items:
          {{- toYaml . | nindent 10 }}
        {{- end }}
    {{- else if $v.controllers.collateral.enabled }}
    - name: collateral
      configMap:
        name: {{ include "rlu.fullname" . }}-collateral
    {{- end }}
    {{- if $v.attestation.policy.configMap }}
    - name: policy
      configMap:
        name: {{ $v.attestation.policy.configMap }}
    {{- end }}
    {{- if $v.auth.configMap }}
    - name: auth
      configMap:
        name: {{ $v.auth.configMap }}
    {{- end }}
    {{- if $v.gateway.tls.secretName }}
    - name: tls
      secret:
        secretName: {{ $v.gateway.tls.secretName }}
        defaultMode: 0440
        items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
    {{- end }}
    {{- if $v.relay.enabled }}
    # Its CA, not its key.
    - name: relay-ca
      secret:
        secretName: {{ $v.relay.tls.secretName }}
        defaultMode: 0440
        items: [{key: ca.crt, path: ca.crt}]
    {{- end }}
    {{- if $v.licence.secret }}
    - name: licence
      secret:
        secretName: {{ $v.licence.secret }}
        defaultMode: 0440
    {{- end }}
    {{- if $v.licence.validation.url }}
    - name: licence-answer
      configMap:
        name: {{ include "rlu.fullname" . }}-licence
    {{- end }}
    {{- if include "rlu.usesTsm" . }}
    # The one host path of this chart: the report interface of the confidential guest. Restricted Pod Security refuses it.
    - name: tsm
      hostPath:
        path: /sys/kernel/config
        type: Directory
    {{- end }}
{{- end }}

{{/* Where it may run, and as whom. */}}
{{- define "rlu.pod.node" -}}
{{- $v := .Values -}}
{{- with $v.hardware.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $v.pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- include "rlu.pullSecrets" . | nindent 0 }}
securityContext:
  {{- include "rlu.podSecurity" . | nindent 2 }}
  {{- $groups := $v.hardware.gpus.groups }}
  {{- if include "rlu.usesTpm" . }}{{ $groups = concat $groups $v.attestation.tpm.groups | uniq }}{{ end }}
  {{- with $groups }}
  supplementalGroups: {{ toJson . }}
  {{- end }}
{{- with $v.hardware.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $v.hardware.requireCertified }}
# The label's value is the digest of the node's evidence, so that its presence is what counts.
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - key: {{ $v.hardware.certifiedLabel }}
              operator: Exists
{{- end }}
{{- with $v.hardware.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "rlu.pod.environment" -}}
{{ include "rlu.environment" . }}
{{- if gt (int .Values.group.nodes) 1 }}
# The first two are LeaderWorkerSet's words, put before ours.
- {name: RLU_GROUP__RANK, value: $(LWS_WORKER_INDEX)}
- {name: RLU_GROUP__LEADER, value: $(LWS_LEADER_ADDRESS)}
- {name: RLU_GROUP__NODES, value: {{ .Values.group.nodes | quote }}}
- {name: RLU_GROUP__PORT, value: {{ .Values.group.port | quote }}}
{{- end }}
{{- end }}

{{/* The claim that keeps an instance's state. */}}
{{- define "rlu.stateClaim" -}}
{{- $v := .Values -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: state
    labels:
      {{- include "rlu.serving" . | nindent 6 }}
  spec:
    accessModes: [ReadWriteOncePod]
    {{- with $v.state.storageClassName }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ $v.state.size }}
{{- end }}
