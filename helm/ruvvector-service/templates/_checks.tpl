{{- /*
What does not go together is refused before anything is made: a misspelt value must never lose an event.
Shapes and types are values.schema.json's.
*/ -}}
{{- define "ruvvector.checks" -}}
{{- $db := .Values.database -}}
{{- $keys := $db.secretKeys -}}
{{- $persistence := .Values.persistence -}}
{{- $many := or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled -}}
{{- $given := or $db.url $db.urlFile $db.readUrl $db.host $db.user $db.password $db.name $db.existingSecret -}}
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
{{- $urls := compact (list $db.url $db.urlFile $keys.url) -}}
{{- $ways := concat $urls (compact (list $db.host)) -}}
{{- if ne (len $ways) 1 -}}
{{- fail "store=postgres needs exactly one of database.url, .urlFile, .host and .secretKeys.url" -}}
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

{{- include "ruvvector.checkSettings" . -}}
{{- include "ruvvector.checkLabels" . -}}
{{- include "ruvvector.checkRoom" . -}}
{{- include "ruvvector.checkDrain" . -}}

{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled, but ingress.hosts is empty" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled, but httpRoute.parentRefs is empty" -}}
{{- end -}}
{{- end -}}

{{- /*
Settings that are values of their own, or fixed by the chart: from any other side they would be ignored in silence, put
the journal where no volume is, or show a secret.
*/ -}}
{{- define "ruvvector.checkSettings" -}}
{{- $own := dict "store" "store" "bind" "bind" "shutdown_delay" "shutdownDelay" "shutdown_grace" "shutdownGrace" "auth_tokens" "auth" "database_url" "database" "database_read_url" "database" "postgres_host" "database" "postgres_port" "database" "postgres_user" "database" "postgres_password" "database" "postgres_db" "database" "auto_migrate" "migration" "service_port" "service.ports" "otlp_http_port" "service.ports" "otlp_grpc_port" "service.ports" "data_dir" "persistence" "sqlite_path" "persistence" "config" "settings" "collector" "cluster" -}}
{{- range $key, $what := $own -}}
{{- range $where := list "settings" "settingsFrom" -}}
{{- if hasKey (get $.Values $where) $key -}}
{{- fail (printf "%s.%s is the value %s of the chart" $where $key $what) -}}
{{- end -}}
{{- end -}}
{{- $flag := printf "--%s" ($key | replace "_" "-") -}}
{{- range $argument := $.Values.extraArgs -}}
{{- if eq $flag (regexFind "^[^=]*" $argument) -}}
{{- fail (printf "extraArgs: %s is the value %s of the chart" $flag $what) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key, $_ := .Values.settingsFrom -}}
{{- if hasKey $.Values.settings $key -}}
{{- fail (printf "settings.%s and settingsFrom.%s are both set: which is meant?" $key $key) -}}
{{- end -}}
{{- end -}}
{{- if hasKey .Values.settings "traces_headers" -}}
{{- fail "settings.traces_headers would show a secret in a ConfigMap: name the key of a Secret in settingsFrom" -}}
{{- end -}}
{{- $names := list -}}
{{- range include "ruvvector.env" . | fromYamlArray -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if has .name $names -}}
{{- fail (printf "extraEnv: %s is set twice, by the chart's own values or by extraEnv" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}

{{- /* Labels by which pods are found: with others, they would not be, or those of two components would be taken for one. */ -}}
{{- define "ruvvector.checkLabels" -}}
{{- $given := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels "persistence.labels" .Values.persistence.labels "service.labels" .Values.service.labels -}}
{{- range $where, $labels := $given -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/managed-by" -}}
{{- if hasKey $labels $label -}}
{{- fail (printf "%s: the label %s is the chart's own; nameOverride changes the name" $where $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Time to stop in, and room for the journal. */ -}}
{{- define "ruvvector.checkRoom" -}}
{{- $stop := add (include "ruvvector.seconds" .Values.shutdownDelay) (include "ruvvector.seconds" .Values.shutdownGrace) -}}
{{- if ge $stop (int64 .Values.terminationGracePeriodSeconds) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, and shutdownDelay and shutdownGrace alone are %d: a stop would be cut off" (int64 .Values.terminationGracePeriodSeconds) $stop) -}}
{{- end -}}
{{- $addresses := regexSplit "[, ]+" .Values.bind -1 -}}
{{- $outside := false -}}
{{- range $addresses -}}
{{- if not (regexMatch "^(127\\..*|\\[?::1\\]?)$" .) -}}
{{- $outside = true -}}
{{- end -}}
{{- end -}}
{{- if not $outside -}}
{{- fail (printf "bind is %s, and nobody outside the pod reaches that: neither probes nor clients" .Values.bind) -}}
{{- end -}}
{{- $size := include "ruvvector.mebibytes" .Values.persistence.size | int64 -}}
{{- with .Values.settings.journal_max_bytes -}}
{{- if and (ne (toString .) "auto") (gt (mul 10 (include "ruvvector.mebibytes" . | int64)) (mul 9 $size)) -}}
{{- fail "settings.journal_max_bytes is over nine tenths of persistence.size" -}}
{{- end -}}
{{- if and (eq (toString .) "auto") (not $.Values.persistence.enabled) -}}
{{- fail "settings.journal_max_bytes=auto would go by the node's disk: leave it out, and it goes by persistence.size" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Claims to drain are those that no instance has, or may have, under it. */ -}}
{{- define "ruvvector.checkDrain" -}}
{{- if and .Values.drain.claims (eq .Values.store "sqlite") -}}
{{- fail "store=sqlite keeps the events on the volume itself: there is nowhere to drain it to" -}}
{{- end -}}
{{- $ours := printf "^data-%s-[0-9]+$" (include "ruvvector.fullname" . | replace "." "\\.") -}}
{{- $live := include "ruvvector.ordinals" . | int -}}
{{- if or .Values.persistence.existingClaim (not .Values.persistence.enabled) -}}
{{- /* What instances there are have no such claims any more. */ -}}
{{- $live = 0 -}}
{{- end -}}
{{- range $claim := .Values.drain.claims -}}
{{- if eq $claim $.Values.persistence.existingClaim -}}
{{- fail (printf "drain.claims: %s is persistence.existingClaim, which the instance uses" $claim) -}}
{{- end -}}
{{- if and (regexMatch $ours $claim) (lt (regexFind "[0-9]+$" $claim | int) $live) -}}
{{- $why := ternary "autoscaling.maxReplicas" "replicas" $.Values.autoscaling.enabled -}}
{{- fail (printf "drain.claims: %s is the volume of an instance that is there (%s is %d): it drains itself" $claim $why $live) -}}
{{- end -}}
{{- end -}}
{{- end -}}
