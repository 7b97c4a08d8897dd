{{/* Names, labels and references that several templates use. */}}

{{- define "executor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Leaves room for the longest ending within 63 characters. */}}
{{- define "executor.fullname" -}}
{{- $name := include "executor.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* For objects that no namespace holds. */}}
{{- define "executor.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "executor.fullname" .) -}}
{{- end -}}

{{- define "executor.selectorLabels" -}}
app.kubernetes.io/name: {{ include "executor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: api
{{- end -}}

{{- define "executor.metricsLabels" -}}
app.kubernetes.io/name: {{ include "executor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: metrics
{{- end -}}

{{- define "executor.testLabels" -}}
app.kubernetes.io/name: {{ include "executor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{/* Of everything but pods: no component, which only tells pods apart. */}}
{{- define "executor.labels" -}}
{{- $fixed := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")
  "app.kubernetes.io/name" (include "executor.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/part-of" "executor"
  "app.kubernetes.io/managed-by" .Release.Service -}}
{{- merge $fixed .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* `metadata` of an object in the release's namespace: (list $ NAME-ENDING), and maybe labels of its own, which win. */}}
{{- define "executor.metadata" -}}
{{- $ := index . 0 -}}
{{- $own := index (append . dict) 2 -}}
name: {{ include "executor.fullname" $ }}{{ index . 1 }}
namespace: {{ $.Release.Namespace }}
labels: {{- merge dict $own (include "executor.labels" $ | fromYaml) | toYaml | nindent 2 }}
{{- end -}}

{{/* The same in the sandboxes' namespace. */}}
{{- define "executor.sandboxMetadata" -}}
{{- $ := index . 0 -}}
name: {{ include "executor.fullname" $ }}{{ index . 1 }}
namespace: {{ include "executor.sandboxNamespace" $ }}
labels: {{- include "executor.labels" $ | nindent 2 }}
{{- end -}}

{{- define "executor.sandboxNamespace" -}}
{{- default (printf "%s-sandboxes" (include "executor.fullname" .)) .Values.sandbox.namespace.name -}}
{{- end -}}

{{/* Not empty if service and sandboxes share a namespace. */}}
{{- define "executor.oneNamespace" -}}
{{- if eq (include "executor.sandboxNamespace" .) .Release.Namespace }}yes{{ end -}}
{{- end -}}

{{/* Not empty if replicas share a database. */}}
{{- define "executor.shared" -}}
{{- if or .Values.store.existingSecret .Values.store.url }}yes{{ end -}}
{{- end -}}

{{/* Not empty if there are several service pods. */}}
{{- define "executor.several" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) }}yes{{ end -}}
{{- end -}}

{{/* An image reference: (list $ IMAGE). */}}
{{- define "executor.image" -}}
{{- $ := index . 0 -}}
{{- $image := index . 1 -}}
{{- $name := $image.repository -}}
{{- with $.Values.global.imageRegistry }}{{ $name = printf "%s/%s" (trimSuffix "/" .) $name }}{{ end -}}
{{- if $image.digest }}{{ $name }}@{{ $image.digest }}{{ else }}{{ $name }}:{{ default $.Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{/* The key and its value, or nothing: (list $ LIST). */}}
{{- define "executor.pullSecrets" -}}
{{- $ := index . 0 -}}
{{- with concat (index . 1) $.Values.global.imagePullSecrets | uniq -}}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "executor.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "executor.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Empty where sandboxes take their namespace's default one. */}}
{{- define "executor.sandboxServiceAccount" -}}
{{- if .Values.sandbox.serviceAccount.create -}}
{{- default (printf "%s-sandbox" (include "executor.fullname" .)) .Values.sandbox.serviceAccount.name -}}
{{- else -}}
{{- .Values.sandbox.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* A Secret of our own, or the one that is there: (list $ EXISTING NAME-ENDING). */}}
{{- define "executor.secretName" -}}
{{- $own := printf "%s-%s" (include "executor.fullname" (index . 0)) (index . 2) -}}
{{- default $own (index . 1) -}}
{{- end -}}

{{- define "executor.masterKeySecret" -}}
{{- include "executor.secretName" (list . .Values.masterKey.existingSecret "master-key") -}}
{{- end -}}

{{- define "executor.apiKeySecret" -}}
{{- include "executor.secretName" (list . .Values.auth.apiKey.existingSecret "api-key") -}}
{{- end -}}

{{- define "executor.storeSecret" -}}
{{- include "executor.secretName" (list . .Values.store.existingSecret "store") -}}
{{- end -}}

{{/* `metadata` of one of these Secrets without its name. */}}
{{- define "executor.secretMetadata" -}}
namespace: {{ .Release.Namespace }}
labels: {{- include "executor.labels" . | nindent 2 }}
{{- end -}}

{{/* What the Secret in the cluster has, else something new: (list $ SECRET KEY). Base64. */}}
{{- define "executor.kept" -}}
{{- $there := (lookup "v1" "Secret" (index . 0).Release.Namespace (index . 1)).data | default dict -}}
{{- index $there (index . 2) | default (randAlphaNum 48 | b64enc) -}}
{{- end -}}

{{/* One environment variable from a Secret: (list NAME SECRET KEY). */}}
{{- define "executor.secretEnv" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef: {name: {{ index . 1 }}, key: {{ index . 2 }}}
{{- end -}}
