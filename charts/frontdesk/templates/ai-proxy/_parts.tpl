{{- define "frontdesk.aiProxy" -}}
{{- $values := include "frontdesk.service.values" (dict "root" $ "name" "ai-proxy") | fromYaml -}}
{{- dict "name" "ai-proxy" "kind" "Deployment" "values" $values | toYaml -}}
{{- end -}}

{{- define "frontdesk.streams.ai-proxy" -}}EVENTS{{- end -}}

{{/* What ai-proxy may say and hear on NATS, besides what every service may. */}}
{{- define "frontdesk.rights.ai-proxy" -}}
publish:
  {{- range splitList " " (include "frontdesk.streams.ai-proxy" .) }}
  - $JS.API.CONSUMER.INFO.{{ . }}.ai-proxy
  - $JS.API.CONSUMER.MSG.NEXT.{{ . }}.ai-proxy
  - $JS.ACK.{{ . }}.ai-proxy.>
  {{- end }}
subscribe:
  - rpc.frontdesk.api.ai.>
{{- end -}}
