{{/* One path to one service's port; refuses a service that this chart does not know. */}}
{{- define "frontdesk.ingress.path" -}}
{{- if not (hasKey .root.Values.services .route.service) -}}
{{- fail (printf "ingress: %s goes to the service %s, which does not exist; there are %s" .route.path .route.service (keys .root.Values.services | sortAlpha | join ", ")) -}}
{{- end -}}
- path: {{ .route.path }}
  pathType: {{ .route.pathType | default "Prefix" }}
  backend:
    service:
      name: {{ include "frontdesk.name" (dict "root" .root "name" .route.service) }}
      port: {name: {{ .port }}}
{{- end -}}

{{/* An Ingress; (dict "root" "suffix" "host" "routes" "port" "annotations" "tlsSecret"). */}}
{{- define "frontdesk.ingress" -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "frontdesk.metadata" (dict "root" .root "name" "ingress" "suffix" .suffix "annotations" .annotations) | nindent 2 }}
spec:
  {{- with .root.Values.ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- if .tlsSecret }}
  tls:
    - hosts: [{{ .host }}]
      secretName: {{ .tlsSecret }}
  {{- end }}
  rules:
    - host: {{ .host }}
      http:
        paths:
          {{- range .routes }}
          {{- include "frontdesk.ingress.path" (dict "root" $.root "route" . "port" $.port) | nindent 10 }}
          {{- end }}
{{- end -}}
