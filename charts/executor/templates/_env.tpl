{{/* The service's settings as variables. What `extraEnv` names is left to it: a name may be there only once. */}}

{{- define "executor.env" -}}
{{- $auth := .Values.auth -}}
{{- $set := dict
  "BACKEND" "kubernetes"
  "HOST" "0.0.0.0"
  "PORT" "8000"
  "METRICS_PORT" "9090"
  "NAMESPACE" (include "executor.sandboxNamespace" .)
  "OWNER_LEASE" (printf "%s-owner" (include "executor.fullname" .))
  "IMAGE" (include "executor.image" (list . .Values.sandbox.image))
  "DISPATCH" .Values.dispatch
  "TEMPLATES" "/etc/executor/templates.yaml"
  "DRAIN_SECONDS" (toJson .Values.drain.seconds)
  "SHUTDOWN_SECONDS" (toJson .Values.drain.shutdownSeconds) -}}
{{- if not (include "executor.shared" .) }}{{ $_ := set $set "DATA_DIR" "/var/lib/executor-api" }}{{ end -}}
{{- if $auth.none }}{{ $_ := set $set "NO_AUTH" "true" }}{{ end -}}
{{- with $auth.apiKeys }}{{ if .existingSecret }}{{ $_ := set $set "API_KEYS" (printf "/etc/executor-keys/%s" .key) }}{{ end }}{{ end -}}
{{- if $auth.tenants }}{{ $_ := set $set "TENANTS" "/etc/executor/tenants.yaml" }}{{ end -}}
{{- with $auth.oidc.issuer }}{{ $_ := set $set "OIDC_ISSUER" . }}{{ end -}}
{{- with $auth.oidc.audience }}{{ $_ := set $set "OIDC_AUDIENCE" . }}{{ end -}}
{{- with $auth.oidc.tenantClaim }}{{ $_ := set $set "OIDC_TENANT_CLAIM" . }}{{ end -}}
{{- with $auth.oidc.defaultScopes }}{{ $_ := set $set "OIDC_DEFAULT_SCOPES" . }}{{ end -}}
{{- with $auth.tokenReview.audience }}{{ $_ := set $set "TOKEN_REVIEW_AUDIENCE" . }}{{ end -}}
{{- if .Values.tracing.enabled }}{{ $_ := set $set "TRACING" "true" }}{{ end -}}
{{- range $name, $value := .Values.settings -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $set ($name | snakecase | upper) (kindIs "string" $value | ternary $value (toJson $value)) -}}
{{- end -}}
{{- end -}}
{{- $own := list -}}
{{- range .Values.extraEnv }}{{ $own = append $own .name }}{{ end -}}
{{- range $name, $value := $set }}
{{- if not (has (printf "EXECUTOR_%s" $name) $own) }}
- name: EXECUTOR_{{ $name }}
  value: {{ quote $value }}
{{- end }}
{{- end }}
{{- with .Values.tracing }}{{ if and .enabled .endpoint (not (has "OTEL_EXPORTER_OTLP_ENDPOINT" $own)) }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ quote .endpoint }}
{{- end }}{{ end -}}
{{- $secrets := dict "EXECUTOR_MASTER_KEY" (list (include "executor.masterKeySecret" .) .Values.masterKey.key) -}}
{{- with $auth.apiKey }}{{ if .enabled }}{{ $_ := set $secrets "EXECUTOR_API_KEY" (list (include "executor.apiKeySecret" $) .key) }}{{ end }}{{ end -}}
{{- if include "executor.shared" . }}{{ $_ := set $secrets "EXECUTOR_STORE_URL" (list (include "executor.storeSecret" .) .Values.store.key) }}{{ end -}}
{{- range $name, $at := $secrets }}
{{- if not (has $name $own) }}
{{ include "executor.secretEnv" (prepend $at $name) }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
