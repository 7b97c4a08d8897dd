{{/* What the service's ConfigMap holds; its checksum tells pods of a change. */}}

{{- define "executor.config" -}}
owner.id: {{ printf "%s/%s" .Release.Namespace (include "executor.fullname" .) }}
templates.yaml: | {{- include "executor.templates" . | nindent 2 }}
{{- with .Values.auth.tenants }}
tenants.yaml: | {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $name, $text := .Values.jobTemplates }}
{{ $name }}: {{ toJson $text }}
{{- end }}
{{- end -}}

{{/* The templates' file: each with the sandboxes' service account, unless it names its own. */}}
{{- define "executor.templates" -}}
{{- $all := list -}}
{{- $account := include "executor.sandboxServiceAccount" . -}}
{{- range $name, $fields := merge (deepCopy .Values.templates) (dict "default" dict) -}}
{{- $more := ternary (dict "service_account" $account) dict (ne $account "") -}}
{{- $all = append $all (merge (dict "name" $name) ($fields | default dict) $more) -}}
{{- end -}}
{{- dict "templates" $all | toYaml -}}
{{- end -}}
