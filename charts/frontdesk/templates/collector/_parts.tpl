{{- define "frontdesk.collector.component" -}}
{{- dict "name" "collector" "values" .Values.collector | toYaml -}}
{{- end -}}

{{- define "frontdesk.collector.config" -}}
{{- $exporters := keys .Values.collector.exporters | sortAlpha -}}
receivers:
  otlp:
    protocols:
      http: {endpoint: "0.0.0.0:4318"}
processors:
  memory_limiter: {check_interval: 1s, limit_percentage: 80, spike_limit_percentage: 20}
  batch: {}
exporters:
  {{- toYaml .Values.collector.exporters | nindent 2 }}
service:
  telemetry:
    metrics: {level: none}
  pipelines:
    {{- range list "traces" "metrics" "logs" }}
    {{ . }}:
      receivers: [otlp]
      processors: [memory_limiter, batch]
      exporters: {{ $exporters | toJson }}
    {{- end }}
{{- end -}}
