{{- define "frontdesk.gateway" -}}
{{- $values := include "frontdesk.service.values" (dict "root" $ "name" "connection-gateway") | fromYaml -}}
{{- dict "name" "connection-gateway" "kind" "StatefulSet" "values" $values | toYaml -}}
{{- end -}}

{{/* It holds connections: it never sleeps. */}}
{{- define "frontdesk.streams.connection-gateway" -}}{{- end -}}

{{/* Variables of the gateway alone: its name in leases, and where the marketplace is when it is simulated. */}}
{{- define "frontdesk.gateway.env" -}}
FRONTDESK_REPLICA:
  fieldRef:
    fieldPath: metadata.name
{{- if .Values.kubernetes.annotatePods }}
FRONTDESK_KUBERNETES_ANNOTATE: "true"
FRONTDESK_POD_NAME:
  fieldRef:
    fieldPath: metadata.name
FRONTDESK_POD_NAMESPACE:
  fieldRef:
    fieldPath: metadata.namespace
{{- end }}
{{- if .Values.simulator.enabled }}
{{- $host := include "frontdesk.name" (dict "root" . "name" "simulator") }}
FRONTDESK_GOOFISH_WS_URL: ws://{{ $host }}:8081/
FRONTDESK_GOOFISH_API_URL: http://{{ $host }}:8080
FRONTDESK_GOOFISH_PASSPORT_URL: http://{{ $host }}:8080
FRONTDESK_GOOFISH_UPLOAD_URL: http://{{ $host }}:8080/api/upload.api
{{- end }}
{{- end -}}

{{/* What the gateway may say and hear on NATS, besides what every service may. */}}
{{- define "frontdesk.rights.connection-gateway" -}}
publish:
  - inbound.>
  # To itself too: the replica that owns the account answers.
  - rpc.frontdesk.api.accounts.>
  - rpc.frontdesk.api.fleet.>
  - rpc.frontdesk.api.clients.>
  - rpc.frontdesk.api.replies.v1.ReplyService.>
  - rpc.frontdesk.api.ai.v1.AiService.>
  # The fleet's view: how much waits.
  - $JS.API.CONSUMER.LIST.*
  # The OUTBOUND consumers of its shards, which each owner makes anew.
  - $JS.API.CONSUMER.DURABLE.CREATE.OUTBOUND.*
  - $JS.API.CONSUMER.DELETE.OUTBOUND.*
  - $JS.API.CONSUMER.INFO.OUTBOUND.*
  - $JS.API.CONSUMER.MSG.NEXT.OUTBOUND.*
  - $JS.ACK.OUTBOUND.*.>
  # Leases of shards.
  - $KV.frontdesk-shards.>
  - $JS.API.STREAM.MSG.GET.KV_frontdesk-shards
  - $JS.API.DIRECT.GET.KV_frontdesk-shards
  - $JS.API.DIRECT.GET.KV_frontdesk-shards.>
  - $JS.API.CONSUMER.CREATE.KV_frontdesk-shards
  - $JS.API.CONSUMER.CREATE.KV_frontdesk-shards.>
  - $JS.API.CONSUMER.DELETE.KV_frontdesk-shards.*
subscribe:
  - rpc.frontdesk.api.accounts.>
  - rpc.frontdesk.api.fleet.>
  - rpc.frontdesk.api.clients.>
  - event.session.*
{{- end -}}
