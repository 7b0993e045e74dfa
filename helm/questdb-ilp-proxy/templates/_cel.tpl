{{/* A value as a literal of CEL, which wants dyn() where types mix. JSON's strings are CEL's too. */}}
{{- define "questdb-ilp-proxy.cel" -}}
{{- if kindIs "map" . -}}
{ {{- $map := . -}}
{{- range $i, $key := keys . | sortAlpha }}{{ if $i }}, {{ end }}{{ toJson $key }}: dyn({{ include "questdb-ilp-proxy.cel" (index $map $key) }}){{ end -}} }
{{- else if kindIs "slice" . -}}
[{{- range $i, $item := . }}{{ if $i }}, {{ end }}dyn({{ include "questdb-ilp-proxy.cel" $item }}){{ end -}}]
{{- else if or (kindIs "float64" .) (kindIs "int" .) (kindIs "int64" .) -}}
{{- int64 . -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}
