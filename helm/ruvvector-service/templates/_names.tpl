{{- /* Names and labels. */ -}}

{{- define "ruvvector.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 52 characters: what is derived from it (-headless, the pods' -0) has to fit 63. */ -}}
{{- define "ruvvector.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "ruvvector.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ruvvector.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "ruvvector.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "ruvvector.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- /* What never changes in a release's life; the pods are found by it. */ -}}
{{- define "ruvvector.selector" -}}
app.kubernetes.io/name: {{ include "ruvvector.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* What the pods of all components carry, too; no version of the chart, so that it alone restarts nothing. */ -}}
{{- define "ruvvector.commonLabels" -}}
{{- $own := dict "app.kubernetes.io/version" .Chart.AppVersion "app.kubernetes.io/managed-by" .Release.Service -}}
{{- merge (include "ruvvector.selector" . | fromYaml) .Values.commonLabels $own | toYaml -}}
{{- end -}}

{{- define "ruvvector.labels" -}}
{{- $chart := printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- merge (include "ruvvector.commonLabels" . | fromYaml) (dict "helm.sh/chart" $chart) | toYaml -}}
{{- end -}}

{{- /* The labels of a pod. Takes a dict: root and component. */ -}}
{{- define "ruvvector.podLabels" -}}
{{- $own := dict "app.kubernetes.io/component" .component -}}
{{- merge $own .root.Values.podLabels (include "ruvvector.commonLabels" .root | fromYaml) | toYaml -}}
{{- end -}}

{{- /*
An object's metadata. Takes a dict: root, name, and optionally labels and annotations.
*/ -}}
{{- define "ruvvector.metadata" -}}
{{- $labels := merge (dict) (.labels | default dict) (include "ruvvector.labels" .root | fromYaml) -}}
{{- $annotations := merge (dict) (.annotations | default dict) .root.Values.commonAnnotations -}}
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- toYaml $labels | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* How many ordinals may be in use: those of replicas, or all that the autoscaler may reach. */ -}}
{{- define "ruvvector.ordinals" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled -}}
{{- end -}}
