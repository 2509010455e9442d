{{/* Pieces of NetworkPolicies: peers and rules. What no rule names is refused. */}}

{{/* Pods of one component of this release. */}}
{{- define "frontdesk.peer" -}}
podSelector:
  matchLabels:
    {{- include "frontdesk.selector" . | nindent 4 }}
{{- end -}}

{{/* All pods of another namespace. */}}
{{- define "frontdesk.peer.namespace" -}}
namespaceSelector:
  matchLabels:
    kubernetes.io/metadata.name: {{ . }}
{{- end -}}

{{- define "frontdesk.egress.dns" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* To one component; (dict "root" "name" "ports"). */}}
{{- define "frontdesk.egress.to" -}}
- to:
    - {{- include "frontdesk.peer" . | nindent 6 }}
  ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end -}}

{{/* To something outside the chart: its addresses, or any when none are given. */}}
{{- define "frontdesk.egress.outside" -}}
- ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .cidrs }}
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* What every process of Frontdesk needs: names, NATS, PostgreSQL, and the collector. */}}
{{- define "frontdesk.egress.common" -}}
{{- $values := .Values -}}
{{ include "frontdesk.egress.dns" . }}
{{- if $values.nats.enabled }}
{{ include "frontdesk.egress.to" (dict "root" . "name" "nats" "ports" (list 4222)) }}
{{- else }}
{{ include "frontdesk.egress.outside" $values.nats.external }}
{{- end }}
{{- if $values.postgresql.enabled }}
{{ include "frontdesk.egress.to" (dict "root" . "name" "postgresql" "ports" (list 5432)) }}
{{- else }}
{{ include "frontdesk.egress.outside" $values.postgresql.external }}
{{- end }}
{{- end -}}

{{- define "frontdesk.egress.telemetry" -}}
{{- if .Values.collector.enabled -}}
{{ include "frontdesk.egress.to" (dict "root" . "name" "collector" "ports" (list 4318)) }}
{{- else if .Values.telemetry.endpoint -}}
{{ include "frontdesk.egress.outside" (dict "ports" .Values.telemetry.ports "cidrs" .Values.telemetry.cidrs) }}
{{- end -}}
{{- end -}}

{{/* A service's policy: its doors for the ingress controller and `helm test`, its metrics for Prometheus; out to
what it needs, and "egress", more rules as YAML. Services call each other over NATS, not here. */}}
{{- define "frontdesk.servicePolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "frontdesk.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "frontdesk.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - {{- include "frontdesk.peer" (dict "root" .root "name" "test") | nindent 10 }}
        {{- if .root.Values.ingress.enabled }}
        {{- toYaml .root.Values.networkPolicy.ingressController | nindent 8 }}
        {{- end }}
        {{- with .root.Values.networkPolicy.callers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {port: http, protocol: TCP}
        - {port: grpc, protocol: TCP}
    {{- if .root.Values.monitoring.serviceMonitor.enabled }}
    - from:
        - {{- include "frontdesk.peer.namespace" .root.Values.monitoring.namespace | nindent 10 }}
      ports:
        - {port: metrics, protocol: TCP}
    {{- end }}
  egress:
    {{- include "frontdesk.egress.common" .root | nindent 4 }}
    {{- with include "frontdesk.egress.telemetry" .root }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .egress }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .values.egress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
