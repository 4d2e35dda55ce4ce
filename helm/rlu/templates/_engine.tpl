{{- define "rlu.pod.engine" -}}
{{- $v := .Values -}}
{{- $engines := fromYamlArray (include "rlu.engines" .) -}}
- name: engine
  image: {{ include "rlu.image" . }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  command: [rlu, serve, --json, --role, engine]
  env:
    {{- include "rlu.pod.environment" . | nindent 4 }}
  securityContext:
    {{- include "rlu.containerSecurity" . | nindent 4 }}
    readOnlyRootFilesystem: {{ not $v.pod.unsafeWritableRoot }}
    runAsUser: {{ include "rlu.uid.engine" . }}
  resources:
    {{- $gpus := dict }}
    {{- if $v.hardware.gpus.count }}{{ $_ := set $gpus $v.hardware.gpus.resource $v.hardware.gpus.count }}{{ end }}
    {{- include "rlu.resources" (merge (dict "more" $gpus) $v.resources) | nindent 4 }}
  lifecycle:
    {{- include "rlu.pause" . | nindent 4 }}
  terminationMessagePolicy: File
  volumeMounts:
    - {name: settings, mountPath: /etc/rlu/rlu.toml, subPath: rlu.toml, readOnly: true}
    {{- if $v.model.signers }}
    - {name: settings, mountPath: /etc/rlu/model-signers.pem, subPath: model-signers.pem, readOnly: true}
    {{- end }}
    - name: model
      mountPath: /models
      readOnly: true
    - {name: engine-runtime, mountPath: /run/rlu}
    {{- range $engines }}
    - {name: {{ .volume }}, mountPath: /run/rlu/{{ .place }}}
    {{- end }}
    - {name: engine-facts, mountPath: /run/rlu/engine-facts}
    - {name: gateway-public, mountPath: /run/rlu/gateway, readOnly: true}
    {{- if $v.model.encrypted.broker }}
    - {name: weights, mountPath: /run/rlu/weights, readOnly: true}
    {{- end }}
    - {name: shared-memory, mountPath: /dev/shm}
    - {name: temporary, mountPath: /tmp}
{{- end }}

{{- define "rlu.pod.engineVolumes" -}}
{{- $v := .Values -}}
{{- $engines := fromYamlArray (include "rlu.engines" .) -}}
- name: settings
  configMap:
    name: {{ include "rlu.fullname" . }}-settings
- name: model
  {{- if eq $v.model.source "image" }}
  image:
    reference: {{ $v.model.image.reference }}
    pullPolicy: {{ $v.model.image.pullPolicy }}
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ $v.model.pvc.claimName }}
    readOnly: true
  {{- end }}
{{- range $engines }}
- name: {{ .volume }}
  emptyDir:
    medium: Memory
    sizeLimit: {{ $v.engine.scratchGib }}Gi
{{- end }}
{{- range list "engine-runtime" "engine-facts" "gateway-public" }}
- name: {{ . }}
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- end }}
{{- if $v.model.encrypted.broker }}
# Opened files of the encrypted model, while engines load them. Their memory counts with the container that writes them.
- name: weights
  emptyDir:
    medium: Memory
    sizeLimit: {{ int64 $v.model.encrypted.memoryGib }}Gi
{{- end }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ $v.engine.sharedMemoryGib }}Gi
- name: temporary
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
{{- end }}
