{{/*
For charts that have this one as a dependency. Each takes the context of that chart ("."), or of this one within it
(index .Subcharts "ALIAS"), which it needs where the dependency has an alias.

  questdb-ilp-proxy.sidecar.container    an element for the pod's initContainers; put it first
  questdb-ilp-proxy.sidecar.volumes      elements for the pod's volumes
  questdb-ilp-proxy.sidecar.annotations  annotations for the pod
  questdb-ilp-proxy.sidecar.labels       labels for the pod, by which a PodMonitor finds it
  questdb-ilp-proxy.sidecar.graceSeconds terminationGracePeriodSeconds of the pod
*/}}

{{/* This chart's own context, checked, as JSON of its values is not enough for the templates: sets "found" in the dict given. */}}
{{- define "questdb-ilp-proxy.sidecar.find" -}}
{{- $from := .from -}}
{{- $mine := dict -}}
{{- if hasKey ($from.Subcharts | default dict) "questdb-ilp-proxy" -}}
{{- $mine = index $from.Subcharts "questdb-ilp-proxy" -}}
{{- else if and (hasKey $from.Values "upstream") (hasKey $from.Values "mode") (hasKey $from.Values "sidecar") -}}
{{- $mine = $from -}}
{{- else -}}
{{- fail "questdb-ilp-proxy: no dependency of this name is here, or its condition disables it; if it has an alias, include with (index .Subcharts \"ALIAS\") instead of ." -}}
{{- end -}}
{{- if eq $mine.Values.mode "gateway" -}}
{{- fail "questdb-ilp-proxy: mode is gateway, so there is no sidecar; set questdb-ilp-proxy.mode=sidecar in the values of the chart that includes it" -}}
{{- end -}}
{{- include "questdb-ilp-proxy.validate" $mine -}}
{{- $_ := set . "found" $mine -}}
{{- end -}}

{{- define "questdb-ilp-proxy.sidecar.container" -}}
{{- $at := dict "from" . -}}
{{- include "questdb-ilp-proxy.sidecar.find" $at -}}
- {{ include "questdb-ilp-proxy.container" $at.found | nindent 2 | trim }}
{{- end -}}

{{- define "questdb-ilp-proxy.sidecar.volumes" -}}
{{- $at := dict "from" . -}}
{{- include "questdb-ilp-proxy.sidecar.find" $at -}}
{{- include "questdb-ilp-proxy.volumes" $at.found -}}
{{- end -}}

{{- define "questdb-ilp-proxy.sidecar.annotations" -}}
{{- $at := dict "from" . -}}
{{- include "questdb-ilp-proxy.sidecar.find" $at -}}
{{- $own := dict "questdb-ilp-proxy/upstream" $at.found.Values.upstream -}}
{{- toYaml (merge (deepCopy $at.found.Values.sidecar.annotations) $own) -}}
{{- end -}}

{{- define "questdb-ilp-proxy.sidecar.labels" -}}
{{- $at := dict "from" . -}}
{{- include "questdb-ilp-proxy.sidecar.find" $at -}}
questdb-ilp-proxy/sidecar: "true"
{{- end -}}

{{- define "questdb-ilp-proxy.sidecar.graceSeconds" -}}
{{- $at := dict "from" . -}}
{{- include "questdb-ilp-proxy.sidecar.find" $at -}}
{{- include "questdb-ilp-proxy.graceSeconds" $at.found -}}
{{- end -}}
