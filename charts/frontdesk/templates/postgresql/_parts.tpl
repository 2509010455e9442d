{{- define "frontdesk.postgresql.component" -}}
{{- dict "name" "postgresql" "values" .Values.postgresql "uid" .Values.postgresql.uid | toYaml -}}
{{- end -}}
