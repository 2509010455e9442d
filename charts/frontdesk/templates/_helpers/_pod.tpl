{{/*
One service: its settings, its pod, and what stands around a pod. A folder templates/<service>/ uses these with
(include "frontdesk.service" (dict "root" $ "name" "reply-engine") | fromYaml).
*/}}

{{/* values.services.<name> over values.serviceDefaults. */}}
{{- define "frontdesk.service.values" -}}
{{- mergeOverwrite (deepCopy .root.Values.serviceDefaults) (deepCopy (index .root.Values.services .name)) | toYaml -}}
{{- end -}}

{{/* Who scales it: `keda`, `hpa` or nobody. Never two. KEDA needs streams to look at: "frontdesk.streams.<name>" lists
those with a durable consumer of the service's name, none for a service that can't sleep. */}}
{{- define "frontdesk.scaler" -}}
{{- $streams := include (printf "frontdesk.streams.%s" .name) .root -}}
{{- if and $streams .root.Values.keda.enabled .values.keda.enabled -}}keda
{{- else if .values.autoscaling.enabled -}}hpa
{{- end -}}
{{- end -}}

{{/* (dict "root" "name" "values" and "env", a map of variables of this service alone). */}}
{{- define "frontdesk.pod" -}}
metadata:
  labels:
    {{- include "frontdesk.podLabels" . | nindent 4 }}
    {{- with .values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/settings: {{ include "frontdesk.settings" .root | sha256sum }}
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "frontdesk.podCommon" . | nindent 2 }}
  {{- include "frontdesk.spread" . | nindent 2 }}
  # preStop, the drain (25 s) and a reserve.
  terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
  containers:
    - name: {{ .name }}
      image: {{ include "frontdesk.ownImage" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [frontdesk, {{ .name }}]
      envFrom:
        - configMapRef:
            name: {{ include "frontdesk.name" (dict "root" .root "name" "settings") }}
      env:
        {{- include "frontdesk.env.service" . | nindent 8 }}
      ports:
        - {name: http, containerPort: 8000}
        - {name: grpc, containerPort: 50051}
        - {name: metrics, containerPort: 9464}
      {{- include "frontdesk.probes" . | nindent 6 }}
      lifecycle:
        preStop:
          # The doors go on serving until load balancers have noticed.
          sleep:
            seconds: {{ .values.preStopSeconds }}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      securityContext:
        {{- include "frontdesk.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- include "frontdesk.nats.caMount" .root | nindent 8 }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- include "frontdesk.nats.caVolume" .root | nindent 4 }}
{{- end -}}

{{/* Started: the gRPC door serves, which opens last but one, after all that a start waits for. Ready: the service says
so and why not. Alive: its event loop answers; a dependency that is away is no reason to restart it. */}}
{{- define "frontdesk.probes" -}}
startupProbe:
  grpc:
    port: 50051
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: {{ .values.startSeconds }}
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 3
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 4
{{- end -}}

{{/* The doors. "headless": without an address of its own, for a StatefulSet. */}}
{{- define "frontdesk.doors" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "frontdesk.metadata" . | nindent 2 }}
spec:
  {{- if .suffix }}
  clusterIP: None
  publishNotReadyAddresses: true
  {{- end }}
  selector:
    {{- include "frontdesk.selector" . | nindent 4 }}
  ports:
    - {name: http, port: 8000, targetPort: http, appProtocol: http}
    - {name: grpc, port: 50051, targetPort: grpc, appProtocol: kubernetes.io/h2c}
    {{- if not .suffix }}
    - {name: metrics, port: 9464, targetPort: metrics, appProtocol: http}
    {{- end }}
{{- end -}}
