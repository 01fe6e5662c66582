{{- /* Durations and sizes as numbers, for what has to be compared or reckoned. */ -}}

{{- /* `1500ms`, `70s`, `2m` or `1h` in whole seconds, rounded up. */ -}}
{{- define "ruvvector.seconds" -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $number := trimSuffix $unit . | int64 -}}
{{- if eq $unit "ms" -}}
{{- div (add $number 999) 1000 -}}
{{- else -}}
{{- mul $number (get (dict "s" 1 "m" 60 "h" 3600) $unit) -}}
{{- end -}}
{{- end -}}

{{- /* A size in whole MiB, rounded down: `10Gi` and `1.5T` of Kubernetes, `8GiB`, `20 MB` and plain bytes of the settings. */ -}}
{{- define "ruvvector.mebibytes" -}}
{{- $text := toString . | replace " " "" -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- $number := trimSuffix $unit $text | float64 -}}
{{- $bytes := get (dict "" 1 "K" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "KI" 1024 "MI" 1048576 "GI" 1073741824 "TI" 1099511627776) (upper $unit | trimSuffix "B") -}}
{{- if not $bytes -}}
{{- fail (printf "%s is no size" $text) -}}
{{- end -}}
{{- floor (divf (mulf $number $bytes) 1048576) | int64 -}}
{{- end -}}

{{- /* The database's port, as far as the values say it: in the URL, or beside the host; else PostgreSQL's own. */ -}}
{{- define "ruvvector.databasePort" -}}
{{- $db := .Values.database -}}
{{- $place := regexReplaceAll "^.*[@/]" (regexFind "^[a-z]+://[^/?]*" $db.url) "" -}}
{{- $inUrl := regexFind "^(\\[.*\\]|[^:]*):[0-9]+$" $place | regexFind "[0-9]+$" -}}
{{- if $db.url -}}
{{- $inUrl | default "5432" -}}
{{- else -}}
{{- $db.port -}}
{{- end -}}
{{- end -}}

{{- /*
What the journal may fill on an emptyDir, or nothing. The service would reckon it from the node's whole disk, and a pod that
fills its emptyDir is evicted with all that is in it: four fifths of persistence.size, at most the usual 4 GiB.
*/ -}}
{{- define "ruvvector.emptyDirBudget" -}}
{{- if not (or .Values.persistence.enabled (hasKey .Values.settings "journal_max_bytes")) -}}
{{- printf "%dMiB" (min 4096 (div (mul 4 (include "ruvvector.mebibytes" .Values.persistence.size | int64)) 5)) -}}
{{- end -}}
{{- end -}}
