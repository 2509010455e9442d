{{/* What all services read alike: ports, addresses, keys of tokens, logs, and `settings` of the values. */}}
{{- define "frontdesk.settings" -}}
{{- include "frontdesk.settings.guard" . -}}
{{- $settings := dict
  "FRONTDESK_NATS_URL" (include "frontdesk.nats.url" .)
  "FRONTDESK_NATS_REPLICAS" (include "frontdesk.nats.copies" .)
  "FRONTDESK_SHARDS" .Values.shards
  "FRONTDESK_HTTP_HOST" "0.0.0.0"
  "FRONTDESK_HTTP_PORT" 8000
  "FRONTDESK_GRPC_HOST" "0.0.0.0"
  "FRONTDESK_GRPC_PORT" 50051
  "FRONTDESK_METRICS_HOST" "0.0.0.0"
  "FRONTDESK_METRICS_PORT" 9464
  "FRONTDESK_LOG_LEVEL" .Values.telemetry.logLevel
  "FRONTDESK_JWT_ISSUER" .Values.secrets.jwt.issuer
  "FRONTDESK_JWT_AUDIENCE" .Values.secrets.jwt.audience
-}}
{{- with .Values.secrets.jwt.jwksUrl -}}
{{- $_ := set $settings "FRONTDESK_JWKS_URL" . -}}
{{- end -}}
{{- if include "frontdesk.nats.ca" . -}}
{{- $_ := set $settings "FRONTDESK_NATS_CA_FILE" "/etc/frontdesk/nats/ca.crt" -}}
{{- end -}}
{{- with include "frontdesk.collector.endpoint" . -}}
{{- $_ := set $settings "OTEL_EXPORTER_OTLP_ENDPOINT" . -}}
{{- /* Prometheus pulls metrics, and logs go to stderr, where the cluster collects them. */ -}}
{{- $_ := set $settings "OTEL_METRICS_EXPORTER" (ternary "otlp" "none" $.Values.telemetry.pushMetrics) -}}
{{- $_ := set $settings "OTEL_LOGS_EXPORTER" (ternary "otlp" "none" $.Values.telemetry.pushLogs) -}}
{{- end -}}
{{- $_ := merge $settings (include "frontdesk.settings.heartbeat" . | fromYaml) -}}
{{- range $key, $value := mergeOverwrite $settings .Values.settings }}
{{ $key }}: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{/* Seconds between heartbeats to the marketplace and of silence, by preset (X-01). */}}
{{- define "frontdesk.settings.heartbeat" -}}
{{- $preset := get (dict "default" (list 15 30) "relaxed" (list 30 60)) .Values.heartbeat.preset -}}
{{- $interval := .Values.heartbeat.intervalSeconds | default (first $preset) -}}
{{- $timeout := .Values.heartbeat.timeoutSeconds | default (last $preset) -}}
{{- if le (float64 $timeout) (float64 $interval) -}}
{{- fail (printf "heartbeat.timeoutSeconds is %v: it must be more than the %v seconds between two heartbeats" $timeout $interval) -}}
{{- end -}}
FRONTDESK_HEARTBEAT_INTERVAL_SECONDS: {{ $interval }}
FRONTDESK_HEARTBEAT_TIMEOUT_SECONDS: {{ $timeout }}
{{- end -}}

{{/*
The number of shards says which replica an account belongs to: it is fixed when the release is installed. A database comes
from a Secret: replicas can't share SQLite, a file in a pod (X-16).
*/}}
{{- define "frontdesk.settings.guard" -}}
{{- range $name, $values := merge (dict "settings" .Values) .Values.services -}}
{{- if hasKey ($values.settings | default dict) "FRONTDESK_DATABASE_URL" -}}
{{- fail (printf "FRONTDESK_DATABASE_URL in the settings of %s: replicas share PostgreSQL, whose URL is in the Secret postgresql.external.existingSecret" (eq $name "settings" | ternary "all services" $name)) -}}
{{- end -}}
{{- end -}}
{{- $found := lookup "v1" "ConfigMap" .Release.Namespace (include "frontdesk.name" (dict "root" . "name" "settings")) -}}
{{- $before := get (($found).data | default dict) "FRONTDESK_SHARDS" -}}
{{- if and $before (ne $before (toString .Values.shards)) -}}
{{- fail (printf "shards is %s in this release and can't become %v: accounts would change their owners" $before .Values.shards) -}}
{{- end -}}
{{- end -}}
