{{- /*
What to put into a pod. In your own chart, with this one as a dependency:

    initContainers:
      {{- include "asynq-ttl.sidecar" (index .Subcharts "asynq-ttl") | nindent 6 }}
    volumes:
      {{- include "asynq-ttl.volumes" (index .Subcharts "asynq-ttl") | nindent 6 }}
*/ -}}

{{- define "asynq-ttl.name" -}}
{{ printf "%s-asynq-ttl" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "asynq-ttl.sidecar" -}}
- name: asynq-ttl
  restartPolicy: Always
  {{- include "asynq-ttl.container" (dict "root" . "host" "127.0.0.1" "announce" "") | nindent 2 }}
{{- end -}}

{{- define "asynq-ttl.volumes" -}}
- name: asynq-ttl-policy
  configMap:
    name: {{ include "asynq-ttl.name" . }}
{{- end -}}

{{- define "asynq-ttl.container" -}}
{{- $values := .root.Values -}}
image: {{ printf "%s:%s" $values.image.repository (default .root.Chart.AppVersion $values.image.tag) | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args: [serve]
env:
  - name: ASYNQ_TTL_LISTEN
    value: {{ printf "%s:%d" .host (int $values.port) | quote }}
  - name: ASYNQ_TTL_POLICY
    value: /etc/asynq-ttl/policy.yaml
  - name: ASYNQ_TTL_DRAIN_TIMEOUT
    value: {{ $values.drainTimeoutSeconds | quote }}
  - name: ASYNQ_TTL_UPSTREAM
    valueFrom:
      secretKeyRef:
        name: {{ default (include "asynq-ttl.name" .root) $values.upstream.existingSecret }}
        key: {{ $values.upstream.key }}
  {{- if $values.cluster.ports }}
  - name: ASYNQ_TTL_CLUSTER_PORTS
    value: {{ $values.cluster.ports | quote }}
  {{- with default .announce $values.cluster.announce }}
  - name: ASYNQ_TTL_ANNOUNCE
    value: {{ . | quote }}
  {{- end }}
  {{- end }}
  {{- with $values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
startupProbe:
  exec: {command: [asynq-ttl, ready, --startup]}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  exec: {command: [asynq-ttl, ready, --live]}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 3
readinessProbe:
  exec: {command: [asynq-ttl, ready]}
  periodSeconds: 20
  timeoutSeconds: 5
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
volumeMounts:
  - name: asynq-ttl-policy
    mountPath: /etc/asynq-ttl
    readOnly: true
{{- end -}}
