{{/* Autoscalers. Each workload has none or one: "frontdesk.scaler" decides. */}}

{{/* "kind" is Deployment or StatefulSet. Scaling down is slow: it moves work, a burst may return. */}}
{{- define "frontdesk.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "frontdesk.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .kind }}
    name: {{ include "frontdesk.name" . }}
  minReplicas: {{ .values.autoscaling.minReplicas }}
  maxReplicas: {{ .values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .values.autoscaling.targetCPU }}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 300
      policies:
        - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}

{{/*
By the lag of a service's JetStream consumers, down to zero. Its WAKE consumer is added: a message there means that
somebody calls. The provision Job makes all of
them before any pod: KEDA takes a missing consumer for an error and scales no more. With "cpu" also by CPU from one
replica on, for a service whose work stands in no stream.
*/}}
{{- define "frontdesk.scaledObject" -}}
{{- $keda := .values.keda -}}
{{- $wake := dict "stream" "WAKE" "consumer" (printf "wake-%s" .name) "lag" 1000 -}}
{{- $triggers := list -}}
{{- range splitList " " (include (printf "frontdesk.streams.%s" .name) .root) -}}
{{- $triggers = append $triggers (dict "stream" . "consumer" $.name "lag" $keda.lagThreshold) -}}
{{- end -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "frontdesk.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    kind: {{ .kind }}
    name: {{ include "frontdesk.name" . }}
  minReplicaCount: {{ $keda.minReplicas }}
  maxReplicaCount: {{ $keda.maxReplicas }}
  pollingInterval: {{ $keda.pollingSeconds }}
  cooldownPeriod: {{ $keda.cooldownSeconds }}
  # Without it KEDA scales a fresh installation to zero at once.
  initialCooldownPeriod: {{ $keda.cooldownSeconds }}
  advanced:
    restoreToOriginalReplicaCount: true
    horizontalPodAutoscalerConfig:
      name: {{ include "frontdesk.name" . }}
      behavior:
        # Without these a burst is over before the second step, and the highest wish is remembered for minutes.
        scaleUp:
          stabilizationWindowSeconds: 0
          policies:
            - {type: Pods, value: {{ $keda.maxReplicas }}, periodSeconds: 5}
        scaleDown:
          stabilizationWindowSeconds: {{ $keda.cooldownSeconds }}
          policies:
            - {type: Percent, value: 50, periodSeconds: 15}
  triggers:
    {{- range append $triggers $wake }}
    - type: nats-jetstream
      name: {{ .stream | lower }}
      metadata:
        natsServerMonitoringEndpoint: {{ include "frontdesk.nats.monitoring" $.root | quote }}
        account: {{ $.root.Values.keda.account | quote }}
        stream: {{ .stream }}
        consumer: {{ .consumer }}
        lagThreshold: {{ .lag | quote }}
        activationLagThreshold: "0"
    {{- end }}
    {{- if .cpu }}
    - type: cpu
      name: cpu
      metricType: Utilization
      metadata:
        value: {{ .values.autoscaling.targetCPU | quote }}
    {{- end }}
{{- end -}}

{{/* Where KEDA asks for lag: the headless Service, through which it finds the server that leads a consumer. */}}
{{- define "frontdesk.nats.monitoring" -}}
{{- if .Values.nats.enabled -}}
{{- printf "%s-headless.%s.svc:8222" (include "frontdesk.name" (dict "root" . "name" "nats")) .Release.Namespace -}}
{{- else -}}
{{- required "nats.external.monitoring is needed for KEDA when nats.enabled is false" .Values.nats.external.monitoring -}}
{{- end -}}
{{- end -}}
