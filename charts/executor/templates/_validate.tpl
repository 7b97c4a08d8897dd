{{/* Mistakes that the schema can't see: values that contradict each other. Each names the values and the way out. */}}

{{- define "executor.validate" -}}
{{- $v := .Values -}}
{{- $shared := include "executor.shared" . -}}
{{- if and (include "executor.several" .) (not $shared) -}}
{{- fail "replicas/autoscaling: several pods need a database that they share; name its Secret in store.existingSecret, or set replicas: 1 and autoscaling.enabled: false" -}}
{{- end -}}
{{- if and $v.store.url $v.store.existingSecret -}}
{{- fail "store.url and store.existingSecret: set one of them" -}}
{{- end -}}
{{- if and $v.persistence.enabled $shared -}}
{{- fail "persistence.enabled: the claim is for the SQLite file, and store names a database instead; leave one of them out" -}}
{{- end -}}
{{- if and $v.persistence.existingClaim (not $v.persistence.enabled) -}}
{{- fail "persistence.existingClaim: it is not used without persistence.enabled; set that, or leave the claim out" -}}
{{- end -}}
{{- if and $v.sandbox.imagePullSecrets (not $v.sandbox.serviceAccount.create) -}}
{{- fail "sandbox.imagePullSecrets: they belong to an account that is not made here; name them in the imagePullSecrets of your ServiceAccount, or set sandbox.serviceAccount.create" -}}
{{- end -}}
{{- if and $v.service.nodePort (eq $v.service.type "ClusterIP") -}}
{{- fail "service.nodePort: a Service of type ClusterIP has none; set service.type: NodePort, or leave the port out" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (not $v.autoscaling.targetCPUUtilizationPercentage) (not $v.autoscaling.metrics) -}}
{{- fail "autoscaling.metrics: set one, or autoscaling.targetCPUUtilizationPercentage" -}}
{{- end -}}
{{- include "executor.validateAuth" . -}}
{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled -}}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled: both scrape the same pods; choose one" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) -}}
{{- fail "ingress.hosts: name a host, or set ingress.enabled: false" -}}
{{- end -}}
{{- range $mode := list "enforce" "audit" "warn" -}}
{{- if ne (get $v.sandbox.namespace.labels (printf "pod-security.kubernetes.io/%s" $mode) | default "restricted") "restricted" -}}
{{- fail (printf "sandbox.namespace.labels: pod-security.kubernetes.io/%s is restricted where the chart makes the namespace; leave it out, or make the namespace yourself and set sandbox.namespace.create: false" $mode) -}}
{{- end -}}
{{- end -}}
{{- if and $v.sandbox.admissionPolicy.enabled (include "executor.oneNamespace" .) -}}
{{- fail "sandbox.admissionPolicy.enabled: it would keep the service's own pods out; give sandboxes a namespace of their own (sandbox.namespace.name)" -}}
{{- end -}}
{{- if and (eq $v.dispatch "proxy") $v.networkPolicy.enabled (not $v.networkPolicy.sandboxFrom) -}}
{{- fail "networkPolicy.sandboxFrom: with dispatch: proxy the API server calls the runners; allow its addresses here, such as [{ipBlock: {cidr: 10.0.0.1/32}}]" -}}
{{- end -}}
{{- if and $v.monitor.enabled (eq (include "executor.monitorNamespace" .) (include "executor.sandboxNamespace" .)) -}}
{{- fail "monitor.namespace.name: sandboxes live there, and Pod Security restricted keeps the monitor out; give it another namespace" -}}
{{- end -}}
{{- $own := list -}}
{{- range $v.extraEnv }}{{ $own = append $own .name }}{{ end -}}
{{- if and $v.tracing.enabled (not $v.tracing.endpoint) (not $v.extraEnvFrom) (not (has "OTEL_EXPORTER_OTLP_ENDPOINT" $own)) (not (has "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" $own)) -}}
{{- fail "tracing.endpoint: where traces go is not said; set it to the collector's URL, such as http://collector.observability:4318" -}}
{{- end -}}
{{- if and $v.tracing.endpoint (not $v.tracing.enabled) -}}
{{- fail "tracing.endpoint: it is not used without tracing.enabled; set that, or leave the endpoint out" -}}
{{- end -}}
{{- $ways := list -}}
{{- range $v.networkPolicy.egress -}}
{{- if has .name $ways -}}
{{- fail (printf "networkPolicy.egress (%s): there are two of this name; give one another name" .name) -}}
{{- end -}}
{{- $ways = append $ways .name -}}
{{- range $template := .templates -}}
{{- if not (or (eq $template "default") (hasKey $v.templates $template)) -}}
{{- fail (printf "networkPolicy.egress (%s): there is no %q in templates; correct the name, or add the template" (last $ways) $template) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $fields := $v.templates -}}
{{- $path := ($fields | default dict).job_template -}}
{{- if and $path (not (hasPrefix "/" $path)) (not (hasKey $v.jobTemplates $path)) -}}
{{- fail (printf "templates.%s.job_template: there is no %q in jobTemplates; put its text there" $name $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "executor.validateAuth" -}}
{{- $auth := .Values.auth -}}
{{- $ways := list -}}
{{- if $auth.apiKey.enabled }}{{ $ways = append $ways "auth.apiKey.enabled" }}{{ end -}}
{{- if $auth.apiKeys.existingSecret }}{{ $ways = append $ways "auth.apiKeys.existingSecret" }}{{ end -}}
{{- if $auth.oidc.issuer }}{{ $ways = append $ways "auth.oidc.issuer" }}{{ end -}}
{{- if $auth.tokenReview.audience }}{{ $ways = append $ways "auth.tokenReview.audience" }}{{ end -}}
{{- if and (not $ways) (not $auth.none) -}}
{{- fail "auth: no way to tell callers is on; set auth.apiKey.enabled, auth.apiKeys.existingSecret, auth.oidc.issuer or auth.tokenReview.audience, or say auth.none: true if whoever reaches the service may run code" -}}
{{- end -}}
{{- if and $ways $auth.none -}}
{{- fail (printf "auth.none: callers are told by %s; leave one or the other out" (join ", " $ways)) -}}
{{- end -}}
{{- if ne (empty $auth.oidc.issuer) (empty $auth.oidc.audience) -}}
{{- fail "auth.oidc: issuer and audience go together; set both" -}}
{{- end -}}
{{- end -}}
