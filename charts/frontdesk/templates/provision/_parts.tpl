{{- define "frontdesk.provision.component" -}}
{{- dict "name" "provision" "values" .Values.provision | toYaml -}}
{{- end -}}

{{/*
At an upgrade the Job is a hook that runs before anything of the chart is changed, so the Secrets of the release may
lack what this version adds (a new service's password). It reads a copy, made by a hook too, of what the release is
about to have. At an install, and for Secrets that were given, it reads the Secret itself.
*/}}
{{- define "frontdesk.provision.secret" -}}
{{- $given := ternary .values.existingSecret .values.external.existingSecret .values.enabled -}}
{{- if or $given .root.Release.IsInstall -}}
{{- include (printf "frontdesk.secret.%s" .name) .root -}}
{{- else -}}
{{- include "frontdesk.name" (dict "root" .root "name" "provision") }}-{{ .name }}
{{- end -}}
{{- end -}}

{{- define "frontdesk.provision.env" -}}
{{- $nats := include "frontdesk.provision.secret" (dict "root" . "name" "nats" "values" .Values.nats) -}}
{{- $postgresql := include "frontdesk.provision.secret" (dict "root" . "name" "postgresql" "values" .Values.postgresql) -}}
- name: FRONTDESK_NATS_URL
  value: {{ include "frontdesk.nats.url" . }}
- name: FRONTDESK_NATS_REPLICAS
  value: {{ include "frontdesk.nats.copies" . | quote }}
{{- if include "frontdesk.nats.ca" . }}
- name: FRONTDESK_NATS_CA_FILE
  value: /etc/frontdesk/nats/ca.crt
{{- end }}
- name: FRONTDESK_NATS_STREAM_MEGABYTES
  value: {{ .Values.provision.streamMegabytes | quote }}
- name: FRONTDESK_PROVISION_SECONDS
  value: {{ .Values.provision.seconds | quote }}
{{ include "frontdesk.env.nats" (dict "name" "provision" "secret" $nats) }}
{{- if .Values.postgresql.enabled }}
{{ include "frontdesk.secretEnv" (dict "name" "ADMIN_PASSWORD" "secret" $postgresql "key" "admin") }}
- name: FRONTDESK_ADMIN_DATABASE_URL
  value: postgresql://postgres:$(ADMIN_PASSWORD)@{{ include "frontdesk.name" (dict "root" . "name" "postgresql") }}:5432/{{ .Values.postgresql.database }}
{{- else }}
{{ include "frontdesk.secretEnv" (dict "name" "FRONTDESK_ADMIN_DATABASE_URL" "secret" $postgresql "key" "admin" "optional" true) }}
{{- end }}
{{- range $name := keys .Values.services | sortAlpha }}
{{ include "frontdesk.env.database" (dict "root" $ "name" $name "secret" $postgresql "variable" (printf "FRONTDESK_%s_DATABASE_URL" ($name | upper | replace "-" "_"))) }}
{{- end }}
{{- end -}}
