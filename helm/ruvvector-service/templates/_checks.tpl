{{- /*
What does not go together is refused before anything is made: a misspelt value must never lose an event.
Shapes and types are values.schema.json's.
*/ -}}
{{- define "ruvvector.checks" -}}
{{- $db := .Values.database -}}
{{- $keys := $db.secretKeys -}}
{{- $persistence := .Values.persistence -}}
{{- $many := or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled -}}
{{- $given := or $db.url $db.readUrl $db.host $db.user $db.password $db.name $db.existingSecret -}}
{{- if not .Values.store -}}
{{- fail "store is not named: set store=postgres and database, or store=sqlite" -}}
{{- end -}}

{{- if eq .Values.store "sqlite" -}}
{{- if $many -}}
{{- fail "store=sqlite is one file of one pod: replicas must be 1 (or 0) and autoscaling off" -}}
{{- end -}}
{{- if not $persistence.enabled -}}
{{- fail "store=sqlite needs a volume: persistence.enabled must be true" -}}
{{- end -}}
{{- if $given -}}
{{- fail "store=sqlite, but database.… names a PostgreSQL: which is meant?" -}}
{{- end -}}
{{- if .Values.migration.enabled -}}
{{- fail "store=sqlite migrates on first contact: migration.enabled must be false" -}}
{{- end -}}
{{- else -}}
{{- $urls := compact (list $db.url $keys.url) -}}
{{- $ways := concat $urls (compact (list $db.host)) -}}
{{- if ne (len $ways) 1 -}}
{{- fail "store=postgres needs exactly one of database.url, database.host and database.secretKeys.url" -}}
{{- end -}}
{{- $parts := or $db.user $db.password $db.name $keys.user $keys.password -}}
{{- if and $urls $parts -}}
{{- fail "a database URL says all: database.user, .password and .name, and their secretKeys, go with database.host" -}}
{{- end -}}
{{- if or (and $db.user $keys.user) (and $db.password $keys.password) (and $db.readUrl $keys.readUrl) -}}
{{- fail "database: a value and its secretKeys entry are both set: which is meant?" -}}
{{- end -}}
{{- $taken := or $keys.url $keys.readUrl $keys.user $keys.password -}}
{{- if and $taken (not $db.existingSecret) -}}
{{- fail "database.secretKeys is set, but database.existingSecret is not" -}}
{{- end -}}
{{- if and $db.existingSecret (not $taken) -}}
{{- fail "database.existingSecret is set, but database.secretKeys names nothing in it" -}}
{{- end -}}
{{- end -}}

{{- if and $many $persistence.existingClaim -}}
{{- fail "persistence.existingClaim is one volume: replicas must be 1 and autoscaling off" -}}
{{- end -}}
{{- if and $persistence.existingClaim (not $persistence.enabled) -}}
{{- fail "persistence.existingClaim is set, but persistence.enabled is false" -}}
{{- end -}}
{{- range $when, $what := $persistence.retention -}}
{{- if ne $what "Retain" -}}
{{- fail (printf "persistence.retention.%s=%s would delete acknowledged events that the database does not have yet: it must be Retain" $when $what) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.auth.tokens .Values.auth.existingSecret -}}
{{- fail "auth.tokens and auth.existingSecret are both set: which is meant?" -}}
{{- end -}}
{{- range $token := .Values.auth.tokens -}}
{{- if or (contains "," $token) (not $token) -}}
{{- fail "auth.tokens: a token is empty or holds a comma" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is over autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not (dig "requests" "cpu" "" .Values.resources)) -}}
{{- fail "autoscaling goes by CPU, and needs resources.requests.cpu" -}}
{{- end -}}

{{- /* Values of their own, or fixed by the chart; in the file they would be passed over in silence, or show a secret. */ -}}
{{- $own := dict "store" "store" "bind" "bind" "drain_delay" "drainDelay" "shutdown_grace" "shutdownGrace" "auth_tokens" "auth" "database_url" "database" "database_read_url" "database" "postgres_host" "database" "postgres_port" "database" "postgres_user" "database" "postgres_password" "database" "postgres_db" "database" "auto_migrate" "migration" "service_port" "service.ports" "otlp_http_port" "service.ports" "otlp_grpc_port" "service.ports" "data_dir" "persistence" "sqlite_path" "persistence" "config" "settings" -}}
{{- range $key, $_ := .Values.settings -}}
{{- with get $own $key -}}
{{- fail (printf "settings.%s is the value %s of the chart" $key .) -}}
{{- end -}}
{{- end -}}

{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled, but ingress.hosts is empty" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled, but httpRoute.parentRefs is empty" -}}
{{- end -}}
{{- end -}}
