{{/* Names of the node monitor, which lives in a namespace of its own. */}}

{{- define "executor.monitorLabels" -}}
app.kubernetes.io/name: {{ include "executor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: monitor
{{- end -}}

{{- define "executor.monitorNamespace" -}}
{{- default (printf "%s-monitor" (include "executor.fullname" .)) .Values.monitor.namespace.name -}}
{{- end -}}

{{/* `metadata` of an object there. */}}
{{- define "executor.monitorMetadata" -}}
name: {{ include "executor.fullname" . }}-monitor
namespace: {{ include "executor.monitorNamespace" . }}
labels: {{- include "executor.labels" . | nindent 2 }}
{{- end -}}
