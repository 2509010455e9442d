{{/* nats-server's configuration. Passwords and routes are variables, which the StatefulSet sets from the Secret. */}}
{{- define "frontdesk.nats.config" -}}
{{- $values := .Values.nats -}}
server_name: $SERVER_NAME
listen: "0.0.0.0:4222"
http: "0.0.0.0:8222"
pid_file: "/tmp/nats.pid"
max_payload: 1MB
# A server that leaves moves its clients and its streams' leaders away first.
lame_duck_grace_period: 5s
lame_duck_duration: 30s

jetstream {
  store_dir: "/data"
  max_file_store: {{ $values.fileStore }}
  max_memory_store: {{ $values.memoryStore }}
  {{- with $values.syncInterval }}
  sync_interval: {{ . }}
  {{- end }}
}
{{- if gt (int $values.replicas) 1 }}

cluster {
  name: {{ include "frontdesk.fullname" . }}
  listen: "0.0.0.0:6222"
  # Pods' addresses are of no use to who knows the Service; KEDA then asks the servers by name.
  no_advertise: true
  authorization { user: cluster, password: {{ include "frontdesk.nats.variable" "cluster" }} }
  routes: [
    {{- range $index := until (int $values.replicas) }}
    $ROUTE_{{ $index }}
    {{- end }}
  ]
  {{- include "frontdesk.nats.tlsBlock" . | nindent 2 }}
}
{{- end }}
{{ include "frontdesk.nats.tlsBlock" . }}

authorization {
  timeout: 5
  users: [
    {{- $provision := include "frontdesk.rights.provision" . | fromYaml }}
    {{- include "frontdesk.nats.user" (dict "name" "provision" "rights" $provision) | nindent 4 }}
    {{- $common := include "frontdesk.rights.common" . | fromYaml }}
    {{- range $name := keys .Values.services | sortAlpha }}
    {{- $own := include (printf "frontdesk.rights.%s" $name) $ | fromYaml }}
    {{- $rights := dict "publish" (concat $common.publish $own.publish) "subscribe" (concat $common.subscribe $own.subscribe) }}
    {{- include "frontdesk.nats.user" (dict "name" $name "rights" $rights) | nindent 4 }}
    {{- end }}
  ]
}
{{- end -}}

{{- define "frontdesk.nats.tlsBlock" -}}
{{- if .Values.nats.tls.enabled -}}
tls {
  cert_file: "/etc/nats/tls/tls.crt"
  key_file: "/etc/nats/tls/tls.key"
  ca_file: "/etc/nats/tls/ca.crt"
  timeout: 5
}
{{- end -}}
{{- end -}}
