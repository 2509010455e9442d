{{/* Labels by which a Prometheus or a Grafana finds what is meant for it. */}}
{{- define "frontdesk.monitoring.metadata" -}}
{{- $metadata := include "frontdesk.metadata" (dict "root" .root "name" .name) | fromYaml -}}
{{- $_ := set $metadata "labels" (merge (deepCopy .labels) $metadata.labels) -}}
{{- toYaml $metadata -}}
{{- end -}}
