{{/* Quotes are part of the values: nats-server reads a variable as it reads its configuration, and a password of
digits would be a number. */}}
{{- define "frontdesk.nats.env" -}}
{{- $secret := include "frontdesk.secret.nats" . -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: SERVER_NAME
  value: '"$(POD_NAME)"'
{{- range $user := concat (list "provision" "cluster") (keys .Values.services | sortAlpha) }}
{{- $variable := $user | upper | replace "-" "_" }}
{{ include "frontdesk.secretEnv" (dict "name" (printf "RAW_%s" $variable) "secret" $secret "key" $user) }}
- name: PASSWORD_{{ $variable }}
  value: '"$(RAW_{{ $variable }})"'
{{- end }}
{{- if gt (int .Values.nats.replicas) 1 }}
{{- $host := include "frontdesk.name" (dict "root" . "name" "nats") }}
{{- range $index := until (int .Values.nats.replicas) }}
- name: ROUTE_{{ $index }}
  value: '"nats://cluster:$(RAW_CLUSTER)@{{ $host }}-{{ $index }}.{{ $host }}-headless:6222"'
{{- end }}
{{- end }}
{{- end -}}

{{/* What Prometheus reads: streams, consumers, connections. */}}
{{- define "frontdesk.nats.exporter" -}}
- name: exporter
  image: {{ include "frontdesk.image" (dict "image" .Values.monitoring.natsExporter.image) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [-port=7777, -varz, -connz, -jsz=all, "http://127.0.0.1:8222"]
  ports:
    - {name: metrics, containerPort: 7777}
  readinessProbe:
    tcpSocket: {port: metrics}
  resources:
    {{- toYaml .Values.monitoring.natsExporter.resources | nindent 4 }}
  securityContext:
    {{- include "frontdesk.containerSecurity" . | nindent 4 }}
{{- end -}}

{{/* A volume for data; (dict "values" with "storage"). */}}
{{- define "frontdesk.claim" -}}
- metadata:
    name: data
    labels:
      {{- include "frontdesk.selector" . | nindent 6 }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .values.storage.className }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .values.storage.size }}
{{- end -}}
