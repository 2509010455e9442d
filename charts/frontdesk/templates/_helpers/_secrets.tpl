{{/*
Secrets are generated once. What the cluster has already is read with `lookup` and kept; what is missing is made.
`helm template` and GitOps tools render without a cluster and would make new ones each time: give `existingSecret`
names there.

All are made in one go and remembered in .Values, so that every template of one rendering sees the same ones.
*/}}

{{- define "frontdesk.secrets.ready" -}}
{{- if not (hasKey .Values "generated") -}}
{{- $_ := set .Values "generated" (dict) -}}
{{- include "frontdesk.secrets.keys" . -}}
{{- include "frontdesk.secrets.jwt" . -}}
{{- include "frontdesk.secrets.passwords" (dict "root" . "name" "nats" "users" (list "provision" "cluster")) -}}
{{- include "frontdesk.secrets.passwords" (dict "root" . "name" "postgresql" "users" (list "admin")) -}}
{{- include "frontdesk.secrets.simulator" . -}}
{{- end -}}
{{- end -}}

{{/* What a Secret of this release holds in the cluster, base64, empty when there is none. */}}
{{- define "frontdesk.secrets.found" -}}
{{- $secret := lookup "v1" "Secret" .root.Release.Namespace (include "frontdesk.name" .) -}}
{{- ($secret).data | default dict | toJson -}}
{{- end -}}

{{- define "frontdesk.secrets.keys" -}}
{{- $found := include "frontdesk.secrets.found" (dict "root" . "name" "keys") | fromJson -}}
{{- $key := index $found "secret-keys" | default (randBytes 32 | b64enc) -}}
{{- $_ := set .Values.generated "keys" (dict "secret-keys" $key) -}}
{{- end -}}

{{/* The certificate is only an envelope: it carries the public key, which a template can't write down otherwise. */}}
{{- define "frontdesk.secrets.jwt" -}}
{{- $found := include "frontdesk.secrets.found" (dict "root" . "name" "jwt") | fromJson -}}
{{- if not (and (index $found "jwt-private.pem") (index $found "jwt-public.pem")) -}}
{{- $private := genPrivateKey "ed25519" -}}
{{- $certificate := genSelfSignedCertWithKey "frontdesk" nil nil 36500 $private -}}
{{- $found = dict "jwt-private.pem" ($private | b64enc) "jwt-public.pem" ($certificate.Cert | b64enc) -}}
{{- end -}}
{{- $_ := set .Values.generated "jwt" $found -}}
{{- end -}}

{{/* A password for each service and each of "users"; letters and digits, as they stand in URLs. */}}
{{- define "frontdesk.secrets.passwords" -}}
{{- $found := include "frontdesk.secrets.found" . | fromJson -}}
{{- $passwords := dict -}}
{{- range $user := concat .users (keys .root.Values.services | sortAlpha) -}}
{{- $_ := set $passwords $user (index $found $user | default (randAlphaNum 32 | b64enc)) -}}
{{- end -}}
{{- $_ := set .root.Values.generated .name $passwords -}}
{{- end -}}

{{- define "frontdesk.secrets.simulator" -}}
{{- $found := include "frontdesk.secrets.found" (dict "root" . "name" "simulator") | fromJson -}}
{{- $_ := set .Values.generated "simulator" (dict "control-token" (index $found "control-token" | default (randAlphaNum 32 | b64enc))) -}}
{{- end -}}

{{/* The names of the Secrets that pods read: given ones, else the generated. */}}
{{- define "frontdesk.secret.keys" -}}
{{- .Values.secrets.keys.existingSecret | default (include "frontdesk.name" (dict "root" . "name" "keys")) -}}
{{- end -}}
{{- define "frontdesk.secret.jwt" -}}
{{- .Values.secrets.jwt.existingSecret | default (include "frontdesk.name" (dict "root" . "name" "jwt")) -}}
{{- end -}}
{{- define "frontdesk.secret.nats" -}}
{{- $given := ternary .Values.nats.existingSecret .Values.nats.external.existingSecret .Values.nats.enabled -}}
{{- $given | default (include "frontdesk.name" (dict "root" . "name" "nats")) -}}
{{- end -}}
{{- define "frontdesk.secret.postgresql" -}}
{{- $given := ternary .Values.postgresql.existingSecret .Values.postgresql.external.existingSecret .Values.postgresql.enabled -}}
{{- $given | default (include "frontdesk.name" (dict "root" . "name" "postgresql")) -}}
{{- end -}}

{{/* A generated Secret; (dict "root" $ "name" "keys" "keep" true "annotations" map). "keep": it survives
`helm uninstall`, as what it opens does. */}}
{{- define "frontdesk.generatedSecret" -}}
{{- include "frontdesk.secrets.ready" .root -}}
apiVersion: v1
kind: Secret
metadata:
  {{- $annotations := merge (ternary (dict "helm.sh/resource-policy" "keep") dict (.keep | default false)) (.annotations | default dict) }}
  {{- include "frontdesk.metadata" (merge (dict "annotations" $annotations) .) | nindent 2 }}
type: Opaque
data:
  {{- index .root.Values.generated .name | toYaml | nindent 2 }}
{{- end -}}

{{/* An environment variable out of a Secret; (dict "name" "secret" "key" and "optional"). */}}
{{- define "frontdesk.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
      {{- if .optional }}
      optional: true
      {{- end }}
{{- end -}}
