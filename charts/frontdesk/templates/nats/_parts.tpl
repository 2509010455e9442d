{{- define "frontdesk.nats.component" -}}
{{- dict "name" "nats" "values" .Values.nats "uid" 10002 | toYaml -}}
{{- end -}}

{{/* What every service may: look at streams, answer callers, wake who sleeps, tell what happened, bury, count crashes;
and hear its own inbox only, where JetStream delivers and calls answer. No service may make or change a stream. */}}
{{- define "frontdesk.rights.common" -}}
publish:
  - $JS.API.STREAM.INFO.*
  - _INBOX.>
  - wake.*
  - event.>
  - dead.*
  - $KV.frontdesk-crashes.>
  - $JS.API.STREAM.MSG.GET.KV_frontdesk-crashes
subscribe: []
{{- end -}}

{{/* The provision Job makes streams, buckets and consumers; it reads and writes no message. */}}
{{- define "frontdesk.rights.provision" -}}
publish: [$JS.API.>]
subscribe: []
{{- end -}}

{{/* One user as nats-server's configuration has it; the password comes from the environment. */}}
{{- define "frontdesk.nats.user" -}}
{{- $publish := .rights.publish -}}
{{- $subscribe := append .rights.subscribe (printf "_INBOX.%s.>" .name) -}}
{
  user: {{ .name }}, password: {{ include "frontdesk.nats.variable" .name }}
  permissions {
    publish { allow: {{ $publish | toJson | replace "\\u003e" ">" }} }
    subscribe { allow: {{ $subscribe | toJson | replace "\\u003e" ">" }} }
  }
}
{{- end -}}

{{- define "frontdesk.nats.variable" -}}
$PASSWORD_{{ . | upper | replace "-" "_" }}
{{- end -}}

{{/* Whose certificates services accept; empty when the operating system's authorities do. */}}
{{- define "frontdesk.nats.ca" -}}
{{- if .Values.nats.enabled -}}
{{- if .Values.nats.tls.enabled -}}{{ include "frontdesk.nats.tlsSecret" . }}{{- end -}}
{{- else -}}
{{- .Values.nats.external.caSecret -}}
{{- end -}}
{{- end -}}
{{- define "frontdesk.nats.tlsSecret" -}}
{{- .Values.nats.tls.existingSecret | default (include "frontdesk.name" (dict "root" . "name" "nats-tls")) -}}
{{- end -}}
{{- define "frontdesk.nats.caMount" -}}
{{- if include "frontdesk.nats.ca" . }}
- {name: nats-ca, mountPath: /etc/frontdesk/nats, readOnly: true}
{{- end }}
{{- end -}}
{{- define "frontdesk.nats.caVolume" -}}
{{- with include "frontdesk.nats.ca" . }}
- name: nats-ca
  secret:
    secretName: {{ . }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- end -}}
