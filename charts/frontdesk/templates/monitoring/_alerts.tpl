{{/* docs/operations.md has a row for each: what it means and what to do. */}}
{{- define "frontdesk.alerts" -}}
{{- $pods := printf "namespace=%q,pod=~%q" .Release.Namespace (printf "%s-.*" (include "frontdesk.fullname" .)) -}}
{{- $gateway := printf "namespace=%q,job=\"connection-gateway\"" .Release.Namespace -}}
- alert: FrontdeskShardsWithoutOwner
  expr: sum(frontdesk_shards_owned{ {{- $gateway -}} }) < {{ .Values.shards }} or absent(frontdesk_shards_owned{ {{- $gateway -}} })
  for: 1m
  labels: {severity: critical}
  annotations:
    summary: Accounts of some shards are offline.
    runbook: Are gateway pods ready, and is NATS? `kubectl get pods`; /readyz of a gateway names what it lacks.
- alert: FrontdeskShardsLost
  expr: sum(increase(frontdesk_shards_losses_total{ {{- $gateway -}} }[10m])) > 3
  labels: {severity: warning}
  annotations:
    summary: Gateway replicas lose shards that they did not hand over.
    runbook: A replica stands still or is cut off from NATS. Look for throttled CPU, paused nodes and NATS restarts.
- alert: FrontdeskPodNotReady
  expr: max by (pod) (kube_pod_status_ready{ {{- $pods -}} ,condition="false"} == 1 unless on (pod) kube_pod_status_phase{ {{- $pods -}} ,phase="Succeeded"} == 1) > 0
  for: 5m
  labels: {severity: warning}
  annotations:
    summary: '{{ "{{" }} $labels.pod {{ "}}" }} has not been ready for five minutes.'
    runbook: /readyz says why; `kubectl describe pod` when it does not even start.
- alert: FrontdeskPodRestarts
  expr: sum by (pod) (increase(kube_pod_container_status_restarts_total{ {{- $pods -}} }[15m])) > 3
  labels: {severity: warning}
  annotations:
    summary: '{{ "{{" }} $labels.pod {{ "}}" }} restarts again and again.'
    runbook: '`kubectl logs --previous`; the last line says what it ended over. OOMKilled wants more memory.'
- alert: FrontdeskProvisionFailed
  expr: max by (job_name) (kube_job_status_failed{namespace={{ .Release.Namespace | quote }},job_name=~"{{ include "frontdesk.fullname" . }}-provision-.*"}) > 0
  labels: {severity: critical}
  annotations:
    summary: Streams, schemas or migrations could not be made.
    runbook: '`kubectl logs job/…-provision-…` names what it waited for or was refused; then `helm upgrade` again.'
- alert: FrontdeskDoorErrors
  expr: sum by (job) (rate(http_server_request_duration_seconds_count{namespace={{ .Release.Namespace | quote }},http_response_status_code=~"5.."}[5m])) / sum by (job) (rate(http_server_request_duration_seconds_count{namespace={{ .Release.Namespace | quote }}}[5m])) > 0.05
  for: 5m
  labels: {severity: warning}
  annotations:
    summary: More than one in twenty requests to {{ "{{" }} $labels.job {{ "}}" }} fails.
    runbook: The log line of a failed request has its trace id and reason; 503 means a dependency is away.
- alert: FrontdeskVolumeFilling
  expr: min by (persistentvolumeclaim) (kubelet_volume_stats_available_bytes{namespace={{ .Release.Namespace | quote }},persistentvolumeclaim=~"data-{{ include "frontdesk.fullname" . }}-.*"} / kubelet_volume_stats_capacity_bytes) < 0.15
  for: 10m
  labels: {severity: critical}
  annotations:
    summary: The volume {{ "{{" }} $labels.persistentvolumeclaim {{ "}}" }} is nearly full.
    runbook: Enlarge the claim. NATS refuses messages when it is full, PostgreSQL stops.
{{- $here := printf "namespace=%q" .Release.Namespace }}
{{- $limits := .Values.monitoring.prometheusRule }}
- alert: FrontdeskMessagesWait
  expr: max by (messaging_destination_name, messaging_consumer_group_name) (frontdesk_consumer_waiting{ {{- $here -}} ,messaging_destination_name=~"INBOUND|OUTBOUND|TIMERS"}) > {{ $limits.waitingMessages }}
  for: 2m
  labels: {severity: critical}
  annotations:
    summary: Messages wait in {{ "{{" }} $labels.messaging_destination_name {{ "}}" }}; buyers are not answered.
    runbook: INBOUND and TIMERS want the reply-engine, OUTBOUND a gateway. Are they ready, is the database slow?
- alert: FrontdeskDeadLetters
  expr: max(delta(frontdesk_stream_messages{ {{- $here -}} ,messaging_destination_name="DEAD"}[15m])) > 0
  labels: {severity: warning}
  annotations:
    summary: A message could not be handled by anybody.
    runbook: DEAD keeps it for thirty days with the reason.
- alert: FrontdeskStreamFilling
  expr: max by (messaging_destination_name) (frontdesk_stream_size_bytes{ {{- $here -}} ,messaging_destination_name=~"INBOUND|OUTBOUND|TIMERS|NOTIFY"}) > 0.8 * {{ .Values.provision.streamMegabytes }} * 1024 * 1024
  for: 5m
  labels: {severity: critical}
  annotations:
    summary: '{{ "{{" }} $labels.messaging_destination_name {{ "}}" }} is nearly full and will refuse messages.'
    runbook: Whoever reads it is away or too slow; see FrontdeskMessagesWait.
- alert: FrontdeskAccountsFailed
  expr: sum(frontdesk_accounts{ {{- $here -}} ,frontdesk_account_state="FAILED"}) > 0
  for: 5m
  labels: {severity: warning}
  annotations:
    summary: '{{ "{{" }} $value {{ "}}" }} accounts are FAILED and wait for a person.'
    runbook: '`frontdesk account list` has the reason of each, and the marketplace''s link if it gave one.'
- alert: FrontdeskAccountsOffline
  expr: sum(frontdesk_accounts{ {{- $here -}} ,frontdesk_account_state=~"CONNECTING|RECONNECTING"}) > 0.2 * sum(frontdesk_accounts{ {{- $here -}} ,frontdesk_account_state=~"CONNECTED|CONNECTING|RECONNECTING"})
  for: 10m
  labels: {severity: critical}
  annotations:
    summary: More than one account in five does not get online.
    runbook: Does the marketplace answer, may gateway pods reach it? The log of a gateway has the error of each try.
- alert: FrontdeskSendsUnreported
  expr: max(frontdesk_sends_unreported{ {{- $here -}} }) > 0
  for: 5m
  labels: {severity: warning}
  annotations:
    summary: '{{ "{{" }} $value {{ "}}" }} answers were decided and nobody says what became of them.'
    runbook: They are published again and again. Are gateways ready, is the account of the chats online?
- alert: FrontdeskChatsWait
  expr: max(frontdesk_chats_waiting{ {{- $here -}} }) > {{ $limits.waitingChats }}
  for: 15m
  labels: {severity: warning}
  annotations:
    summary: '{{ "{{" }} $value {{ "}}" }} chats wait for a person.'
    runbook: Answer them; or is the stop switch on, is a rule missing, is the AI away? `frontdesk chat list --waiting` has them.
- alert: FrontdeskSpendWaits
  expr: max(frontdesk_ai_spend_waiting{ {{- $here -}} }) > 0
  for: 5m
  labels: {severity: critical}
  annotations:
    summary: What models used can not be told; when too much waits no call of a model begins.
    runbook: NATS does not take events. Is it there, is EVENTS or its disk full? The log of ai-proxy has the reason.
- alert: FrontdeskSpendBehind
  expr: max(frontdesk_consumer_waiting{ {{- $here -}} ,messaging_destination_name="EVENTS",messaging_consumer_group_name="ai-proxy"}) > {{ $limits.waitingMessages }}
  for: 5m
  labels: {severity: warning}
  annotations:
    summary: What models used is not counted in time; budgets hold what was set aside meanwhile.
    runbook: Is an ai-proxy ready, is its database slow? It counts by batches of 500.
- alert: FrontdeskAiProviderOpen
  expr: max by (pod) (max_over_time(frontdesk_ai_providers{ {{- $here -}} ,frontdesk_ai_breaker="open"}[5m])) > 0
  for: 15m
  labels: {severity: warning}
  annotations:
    summary: '{{ "{{" }} $value {{ "}}" }} providers of models fail so often that {{ "{{" }} $labels.pod {{ "}}" }} leaves them alone.'
    runbook: Its log names each with its organization and why; `frontdesk provider test` there tries one. 401 and 403 want a new key.
{{- $calls := "gen_ai_client_operation_duration_seconds_count" }}
{{- $failed := "error_type=~\"UNAVAILABLE|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL\"" }}
- alert: FrontdeskAiCallsFail
  expr: sum(rate({{ $calls }}{ {{- $here -}} ,{{ $failed }}}[10m])) / sum(rate({{ $calls }}{ {{- $here -}} }[10m])) > {{ divf $limits.failingAiPercent 100 }} and sum(increase({{ $calls }}{ {{- $here -}} ,{{ $failed }}}[10m])) > 10
  for: 10m
  labels: {severity: warning}
  annotations:
    summary: '{{ "{{" }} $value | humanizePercentage {{ "}}" }} of the calls of models fail.'
    runbook: By error_type, FAILED_PRECONDITION is a key, an address or a model that is wrong; the others are a provider that is away or slow. See FrontdeskAiProviderOpen.
- alert: FrontdeskAiSlow
  expr: histogram_quantile(0.95, sum by (le) (rate(gen_ai_server_time_to_first_token_seconds_bucket{ {{- $here -}} }[10m]))) > {{ $limits.firstTokenSeconds }}
  for: 10m
  labels: {severity: warning}
  annotations:
    summary: Streamed answers begin late, one in twenty after {{ "{{" }} $value | humanizeDuration {{ "}}" }}.
    runbook: The dashboard has it by model. A provider that is slow can be given less weight, or FRONTDESK_AI_HEDGE_MILLISECONDS asks the next one too.
- alert: FrontdeskReadingsOld
  expr: max by (pod, frontdesk_reading) (frontdesk_reading_age_seconds{ {{- $here -}} }) > {{ $limits.readingSeconds }}
  for: 2m
  labels: {severity: warning}
  annotations:
    summary: '{{ "{{" }} $labels.pod {{ "}}" }} can not read what waits ({{ "{{" }} $labels.frontdesk_reading {{ "}}" }}); other alerts are blind.'
    runbook: Its log says why, once; NATS or the database is away or very slow, or the NATS user lacks a right.
{{- end -}}
