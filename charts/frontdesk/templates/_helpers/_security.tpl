{{/* What the restricted pod security standard asks for, and a read-only root file system. */}}

{{/* (dict "uid" 10001) */}}
{{- define "frontdesk.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .uid }}
fsGroup: {{ .uid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "frontdesk.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
privileged: false
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Parts of a pod's spec that all components share. "account" names another ServiceAccount. */}}
{{- define "frontdesk.podCommon" -}}
serviceAccountName: {{ include "frontdesk.name" . }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "frontdesk.podSecurity" (dict "uid" (.uid | default 10001)) | nindent 2 }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Replicas apart: by node, and by zone where nodes have one. Never in the way of a start. */}}
{{- define "frontdesk.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "frontdesk.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "frontdesk.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "frontdesk.metadata" . | nindent 2 }}
automountServiceAccountToken: false
{{- end -}}

{{/* One pod at a time may be evicted; a single replica does not hold up a node's drain. */}}
{{- define "frontdesk.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "frontdesk.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "frontdesk.selector" . | nindent 6 }}
{{- end -}}
