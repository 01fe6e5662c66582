{{- /* What every pod of the chart has. */ -}}
{{- define "ruvvector.pod" -}}
automountServiceAccountToken: false
# Kubernetes would set variables that are called like settings.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end -}}

{{- /* Of affinity what a Job keeps: the nodes, as it may well stand beside an instance. */ -}}
{{- define "ruvvector.nodeAffinity" -}}
{{- with .Values.affinity.nodeAffinity -}}
affinity:
  nodeAffinity:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{- /* Image and security of every container of the chart. */ -}}
{{- define "ruvvector.container" -}}
image: {{ include "ruvvector.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end -}}

{{- /*
Of a Job. Takes a dict: root, and container, its name. Another try does not mend what was asked wrongly, and an eviction is no
try. Kubernetes has it for good since 1.31; before, its own schema does not take a rule as it has to be written.
*/ -}}
{{- define "ruvvector.podFailurePolicy" -}}
{{- if semverCompare ">=1.31-0" .root.Capabilities.KubeVersion.Version -}}
podFailurePolicy:
  rules:
    - action: FailJob
      onExitCodes:
        containerName: {{ .container }}
        operator: In
        values: [2]
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
{{- end -}}
{{- end -}}

{{- /* Which database. Takes a dict: root, and secret, the name of the Secret with the chart's own values. */ -}}
{{- define "ruvvector.databaseEnv" -}}
{{- $db := .root.Values.database -}}
{{- $secret := .secret -}}
- name: RUVVECTOR_STORE
  value: {{ .root.Values.store }}
{{- with $db.urlFile }}
- name: DATABASE_URL_FILE
  value: {{ . | quote }}
{{- end }}
{{- with $db.host }}
- name: POSTGRES_HOST
  value: {{ . | quote }}
- name: POSTGRES_PORT
  value: {{ $db.port | quote }}
{{- end }}
{{- with $db.user }}
- name: POSTGRES_USER
  value: {{ . | quote }}
{{- end }}
{{- with $db.name }}
- name: POSTGRES_DB
  value: {{ . | quote }}
{{- end }}
{{- $variables := dict "url" "DATABASE_URL" "readUrl" "RUVVECTOR_DATABASE_READ_URL" "user" "POSTGRES_USER" "password" "POSTGRES_PASSWORD" }}
{{- range $value, $variable := $variables }}
{{- if get $db.secretKeys $value }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $db.existingSecret }}
      key: {{ get $db.secretKeys $value | quote }}
{{- else if and (ne $value "user") (get $db $value) }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $variable }}
{{- end }}
{{- end }}
{{- range $key, $from := .root.Values.settingsFrom }}
- name: RUVVECTOR_{{ upper $key }}
  valueFrom:
    secretKeyRef:
      name: {{ $from.secret }}
      key: {{ $from.key | quote }}
{{- end }}
{{- end -}}

{{- /* What writes a journal into the database. Takes a dict: root, and log, by which the database knows the journal. */ -}}
{{- define "ruvvector.logEnv" -}}
{{- $values := .root.Values -}}
{{- include "ruvvector.databaseEnv" (dict "root" .root "secret" (include "ruvvector.fullname" .root)) }}
- name: RUVVECTOR_DATA_DIR
  value: /data
- name: RUVVECTOR_CONFIG
  value: /etc/ruvvector/ruvvector.toml
- name: RUVVECTOR_SHUTDOWN_GRACE
  value: {{ $values.shutdownGrace | quote }}
{{- if $values.migration.enabled }}
- name: RUVVECTOR_AUTO_MIGRATE
  value: "false"
{{- end }}
# The name is the one of the pod or claim, which two namespaces or clusters may have alike.
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: RUVVECTOR_COLLECTOR
  value: {{ printf "%s$(POD_NAMESPACE)/%s" ($values.cluster | empty | ternary "" (printf "%s/" $values.cluster)) .log | quote }}
{{- end -}}

{{- /* All that the chart itself sets for the service. */ -}}
{{- define "ruvvector.env" -}}
{{- include "ruvvector.logEnv" (dict "root" . "log" "$(POD_NAME)") }}
- name: RUVVECTOR_BIND
  value: {{ .Values.bind | quote }}
- name: RUVVECTOR_SERVICE_PORT
  value: "3100"
- name: RUVVECTOR_OTLP_HTTP_PORT
  value: "4318"
- name: RUVVECTOR_OTLP_GRPC_PORT
  value: "4317"
- name: RUVVECTOR_SHUTDOWN_DELAY
  value: {{ .Values.shutdownDelay | quote }}
{{- with include "ruvvector.emptyDirBudget" . }}
- name: RUVVECTOR_JOURNAL_MAX_BYTES
  value: {{ . | quote }}
{{- end }}
{{- if .Values.auth.existingSecret }}
- name: RUVVECTOR_AUTH_TOKENS
  valueFrom:
    secretKeyRef:
      name: {{ .Values.auth.existingSecret }}
      key: {{ .Values.auth.secretKey | quote }}
{{- else if .Values.auth.tokens }}
- name: RUVVECTOR_AUTH_TOKENS
  valueFrom:
    secretKeyRef:
      name: {{ include "ruvvector.fullname" . }}
      key: RUVVECTOR_AUTH_TOKENS
{{- end }}
{{- end -}}

{{- /* The same settings for a pod that has no file of them: a hook, which comes before the ConfigMap. */ -}}
{{- define "ruvvector.settingsEnv" -}}
{{- range $key, $value := .Values.settings }}
- name: RUVVECTOR_{{ upper $key }}
  value: {{ include "ruvvector.text" $value | quote }}
{{- end }}
{{- end -}}

{{- /* The values that are secrets, and not in a Secret of the user's. */ -}}
{{- define "ruvvector.databaseSecret" -}}
{{- with .Values.database.url }}
DATABASE_URL: {{ . | b64enc }}
{{- end }}
{{- with .Values.database.readUrl }}
RUVVECTOR_DATABASE_READ_URL: {{ . | b64enc }}
{{- end }}
{{- with .Values.database.password }}
POSTGRES_PASSWORD: {{ . | b64enc }}
{{- end }}
{{- end -}}

{{- define "ruvvector.secret" -}}
{{- include "ruvvector.databaseSecret" . }}
{{- with .Values.auth.tokens }}
RUVVECTOR_AUTH_TOKENS: {{ join "," . | b64enc }}
{{- end }}
{{- end -}}

{{- /* A setting's value as text, which every kind of setting may be written as. */ -}}
{{- define "ruvvector.text" -}}
{{- if kindIs "string" . -}}
{{- . -}}
{{- else if kindIs "slice" . -}}
{{- join "," . -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{- /* The settings file. */ -}}
{{- define "ruvvector.settings" -}}
# Made by the chart from `settings`.
{{- range $key, $value := .Values.settings }}
{{ $key }} = {{ include "ruvvector.text" $value | toJson }}
{{- end }}
{{ end -}}
