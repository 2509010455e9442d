{{/* Names, labels and images. A component is a service, or nats, postgresql, provision … */}}

{{- define "frontdesk.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* How `frontdesk token` is told the release: by its name, or by the Secret's where another name was chosen. */}}
{{- define "frontdesk.tokenOption" -}}
{{- if .Values.fullnameOverride -}}
--secret {{ include "frontdesk.fullname" . }}-jwt
{{- else -}}
--release {{ .Release.Name }}
{{- end -}}
{{- end -}}

{{/* The name of a component's resources; (dict "root" $ "name" "reply-engine"). */}}
{{- define "frontdesk.name" -}}
{{- printf "%s-%s" (include "frontdesk.fullname" .root) .name -}}
{{- end -}}

{{- define "frontdesk.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{/* Labels of pods: none that a new version of the chart changes, or it would restart NATS and PostgreSQL. */}}
{{- define "frontdesk.podLabels" -}}
{{ include "frontdesk.selector" . }}
app.kubernetes.io/part-of: frontdesk
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "frontdesk.labels" -}}
{{ include "frontdesk.podLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* metadata of a namespaced resource; "suffix" is added to its name, "annotations" is a map. */}}
{{- define "frontdesk.metadata" -}}
name: {{ include "frontdesk.name" . }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "frontdesk.labels" . | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An image's reference, by digest when there is one; (dict "image" map "default" tag). */}}
{{- define "frontdesk.image" -}}
{{- $image := .image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .default) -}}
{{- end -}}
{{- end -}}

{{- define "frontdesk.ownImage" -}}
{{- include "frontdesk.image" (dict "image" .Values.image "default" .Chart.AppVersion) -}}
{{- end -}}
