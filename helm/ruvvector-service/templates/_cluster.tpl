{{- /*
Kinds that not every cluster has. A cluster names what it has, and always its own apiregistration.k8s.io; where even that
is not named, nobody was asked (`helm template`), and nothing is refused.
*/ -}}
{{- define "ruvvector.needs" -}}
{{- $has := .root.Capabilities.APIVersions -}}
{{- if and ($has.Has "apiregistration.k8s.io/v1") (not ($has.Has .kind)) -}}
{{- fail (printf "%s.enabled, but the cluster has no %s: install %s first" .value .kind .by) -}}
{{- end -}}
{{- end -}}
