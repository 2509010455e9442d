{{/* What a process of Frontdesk reads from its environment. docs/configuration.md has every key. */}}

{{- define "frontdesk.nats.url" -}}
{{- if .Values.nats.enabled -}}
{{- printf "%s://%s:4222" (ternary "tls" "nats" .Values.nats.tls.enabled) (include "frontdesk.name" (dict "root" . "name" "nats")) -}}
{{- else -}}
{{- required "nats.external.url is needed when nats.enabled is false" .Values.nats.external.url -}}
{{- end -}}
{{- end -}}

{{/* The copies of each stream that NATS keeps. */}}
{{- define "frontdesk.nats.copies" -}}
{{- ternary .Values.nats.replicas .Values.nats.external.copies .Values.nats.enabled -}}
{{- end -}}

{{- define "frontdesk.collector.endpoint" -}}
{{- if .Values.collector.enabled -}}
{{- printf "http://%s:4318" (include "frontdesk.name" (dict "root" . "name" "collector")) -}}
{{- else -}}
{{- .Values.telemetry.endpoint -}}
{{- end -}}
{{- end -}}

{{/* The NATS user's name and password, and its authority's certificate. */}}
{{- define "frontdesk.env.nats" -}}
- name: FRONTDESK_NATS_USER
  value: {{ .name }}
{{ include "frontdesk.secretEnv" (dict "name" "FRONTDESK_NATS_PASSWORD" "secret" .secret "key" .name) }}
{{- end -}}

{{/* A service's database URL; a password in it comes from a variable before it. "variable" names the URL's. */}}
{{- define "frontdesk.env.database" -}}
{{- $values := .root.Values.postgresql -}}
{{- if $values.enabled -}}
{{ include "frontdesk.secretEnv" (dict "name" (include "frontdesk.env.passwordName" .) "secret" .secret "key" .name) }}
- name: {{ .variable }}
  value: {{ printf "postgresql://%s:$(%s)@%s:5432/%s" (.name | replace "-" "_") (include "frontdesk.env.passwordName" .) (include "frontdesk.name" (dict "root" .root "name" "postgresql")) $values.database }}
{{- else -}}
{{ include "frontdesk.secretEnv" (dict "name" .variable "secret" .secret "key" .name) }}
{{- end -}}
{{- end -}}

{{/* What one service reads besides the common ConfigMap. */}}
{{- define "frontdesk.env.service" -}}
{{ include "frontdesk.env.nats" (dict "name" .name "secret" (include "frontdesk.secret.nats" .root)) }}
{{ include "frontdesk.env.database" (dict "root" .root "name" .name "variable" "FRONTDESK_DATABASE_URL" "secret" (include "frontdesk.secret.postgresql" .root)) }}
{{ include "frontdesk.secretEnv" (dict "name" "FRONTDESK_SECRET_KEYS" "secret" (include "frontdesk.secret.keys" .root) "key" "secret-keys") }}
{{- if not .root.Values.secrets.jwt.jwksUrl }}
{{ include "frontdesk.secretEnv" (dict "name" "FRONTDESK_JWT_PUBLIC_KEYS" "secret" (include "frontdesk.secret.jwt" .root) "key" "jwt-public.pem") }}
{{- end }}
{{- range $key, $value := .env }}
- name: {{ $key }}
  {{- if kindIs "map" $value }}
  valueFrom:
    {{- toYaml $value | nindent 4 }}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- range $key, $value := .values.settings }}
- name: {{ $key }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end -}}


{{- define "frontdesk.env.passwordName" -}}
{{- .variable | trimPrefix "FRONTDESK_" | replace "_URL" "_PASSWORD" -}}
{{- end -}}
