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

{{- /* Image and security of every container of the chart. */ -}}
{{- define "ruvvector.container" -}}
image: {{ include "ruvvector.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end -}}

{{- /* Which database. Takes a dict: root, and secret, the name of the Secret with the chart's own values. */ -}}
{{- define "ruvvector.databaseEnv" -}}
{{- $db := .root.Values.database -}}
{{- $secret := .secret -}}
- name: RUVVECTOR_STORE
  value: {{ .root.Values.store }}
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

{{- /* The settings file. */ -}}
{{- define "ruvvector.settings" -}}
# Made by the chart from `settings`.
{{- range $key, $value := .Values.settings }}
{{- if kindIs "string" $value }}
{{ $key }} = {{ $value | toJson }}
{{- else if kindIs "float64" $value }}
{{ $key }} = {{ $value | int64 }}
{{- else }}
{{ $key }} = {{ $value }}
{{- end }}
{{- end }}
{{ end -}}
