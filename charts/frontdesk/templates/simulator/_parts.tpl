{{- define "frontdesk.simulator.component" -}}
{{- dict "name" "simulator" "values" .Values.simulator | toYaml -}}
{{- end -}}
