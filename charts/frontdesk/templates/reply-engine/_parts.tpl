{{- define "frontdesk.engine" -}}
{{- $values := include "frontdesk.service.values" (dict "root" $ "name" "reply-engine") | fromYaml -}}
{{- dict "name" "reply-engine" "kind" "Deployment" "values" $values | toYaml -}}
{{- end -}}

{{- define "frontdesk.streams.reply-engine" -}}INBOUND TIMERS EVENTS{{- end -}}

{{/* What the reply-engine may say and hear on NATS, besides what every service may. */}}
{{- define "frontdesk.rights.reply-engine" -}}
publish:
  - outbound.>
  - timer.>
  - $JS.API.STREAM.PURGE.TIMERS
  - rpc.frontdesk.api.accounts.>
  - rpc.frontdesk.api.ai.v1.AiService.>
  {{- range splitList " " (include "frontdesk.streams.reply-engine" .) }}
  - $JS.API.CONSUMER.INFO.{{ . }}.reply-engine
  - $JS.API.CONSUMER.MSG.NEXT.{{ . }}.reply-engine
  - $JS.ACK.{{ . }}.reply-engine.>
  {{- end }}
subscribe:
  - rpc.frontdesk.api.replies.>
  - rpc.frontdesk.api.chats.>
  - event.>
{{- end -}}
