{{/* Names, labels, and what is computed from the values. */}}

{{- define "questdb-ilp-proxy.name" -}}
{{- default "questdb-ilp-proxy" .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "questdb-ilp-proxy.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "questdb-ilp-proxy.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "questdb-ilp-proxy.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "questdb-ilp-proxy.selectorLabels" -}}
app.kubernetes.io/name: {{ include "questdb-ilp-proxy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "questdb-ilp-proxy.labels" -}}
{{ include "questdb-ilp-proxy.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "questdb-ilp-proxy.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "questdb-ilp-proxy.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "questdb-ilp-proxy.image" -}}
{{- $i := .Values.image -}}
{{- printf "%s:%s" $i.repository (default .Chart.AppVersion $i.tag) -}}
{{- with $i.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Whether the pause before the end can be had: the sleep action is on by default from 1.30. */}}
{{- define "questdb-ilp-proxy.preStopSleep" -}}
{{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version -}}
{{- int .Values.gateway.preStopSleepSeconds -}}
{{- else -}}
0
{{- end -}}
{{- end -}}

{{/* Seconds that the proxy needs after it was told to end, with the margin. */}}
{{- define "questdb-ilp-proxy.drainSeconds" -}}
{{- add (int .Values.drain.timeoutSeconds) (int .Values.drain.marginSeconds) -}}
{{- end -}}

{{/* terminationGracePeriodSeconds: what the pod's end takes at most. A smaller one would have records lost that could be delivered. */}}
{{- define "questdb-ilp-proxy.graceSeconds" -}}
{{- $before := int .Values.sidecar.appStopSeconds -}}
{{- $what := "sidecar.appStopSeconds" -}}
{{- if eq .Values.mode "gateway" -}}
{{- $before = int (include "questdb-ilp-proxy.preStopSleep" .) -}}
{{- $what = "gateway.preStopSleepSeconds" -}}
{{- end -}}
{{- $least := add $before (int (include "questdb-ilp-proxy.drainSeconds" .)) -}}
{{- $given := .Values.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $given -}}
{{- $least -}}
{{- else if lt (int $given) (int $least) -}}
{{- fail (printf "terminationGracePeriodSeconds: %d is too short, Kubernetes would kill the proxy while it delivers; should be at least %d (%s %d + drain.timeoutSeconds %d + drain.marginSeconds %d), or null to have it computed" (int $given) (int $least) $what $before (int .Values.drain.timeoutSeconds) (int .Values.drain.marginSeconds)) -}}
{{- else -}}
{{- int $given -}}
{{- end -}}
{{- end -}}

{{/* Bytes of a size; 0 if it is none that is understood here. M is 1000 * 1000 to Kubernetes, and with .own, to the proxy, 1024 * 1024. */}}
{{- define "questdb-ilp-proxy.bytes" -}}
{{- $text := .size | toString | lower -}}
{{- $unit := regexReplaceAll "^[0-9]+" $text "" -}}
{{- $base := ternary 1024 1000 (or (contains "i" $unit) (and .own (not (hasSuffix "b" $unit)))) | int64 -}}
{{- if regexMatch "^[0-9]+([kmgt]i?b?|b)?$" $text -}}
{{- $bytes := regexFind "^[0-9]+" $text | int64 -}}
{{- $power := dict "k" 1 "m" 2 "g" 3 "t" 4 -}}
{{- range until (get $power (trunc 1 $unit) | default 0 | int) -}}
{{- $bytes = mul $bytes $base -}}
{{- end -}}
{{- $bytes -}}
{{- else -}}
0
{{- end -}}
{{- end -}}

{{/* Whether the admin port is open to the pod network: true, or nothing. */}}
{{- define "questdb-ilp-proxy.adminExposed" -}}
{{- if or (eq .Values.mode "gateway") .Values.admin.expose -}}true{{- end -}}
{{- end -}}

{{/* Everything that one value alone cannot show to be wrong, or that has no default: all of it at once. */}}
{{- define "questdb-ilp-proxy.validate" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if not $v.upstream -}}
{{- $wrong = append $wrong "upstream: where is QuestDB? Like tcp://questdb.databases:9009" -}}
{{- end -}}
{{- if not $v.auth.existingSecret -}}
{{- $wrong = append $wrong (printf "auth.existingSecret: which Secret has the key? questdb-ilp-proxy keygen --kid ID --out key.jwk && kubectl create secret generic NAME --from-file=%s=key.jwk" $v.auth.jwkKey) -}}
{{- end -}}
{{- if and $v.auth.keyId (not $v.auth.keyKey) -}}
{{- $wrong = append $wrong "auth.keyKey: with auth.keyId, which entry of the Secret has the private scalar d?" -}}
{{- end -}}
{{- if and $v.auth.keyKey (not $v.auth.keyId) -}}
{{- $wrong = append $wrong "auth.keyId: with auth.keyKey, which key id goes with it?" -}}
{{- end -}}
{{- $tls := hasPrefix "tcps://" $v.upstream -}}
{{- if and (not $tls) (or $v.tls.existingSecret $v.tls.serverName $v.tls.unsafeSkipVerify) -}}
{{- $wrong = append $wrong "tls: set, but upstream is not tcps://, so nothing would be encrypted" -}}
{{- end -}}
{{- if and $v.tls.clientCertificate (not $v.tls.existingSecret) -}}
{{- $wrong = append $wrong "tls.existingSecret: with tls.clientCertificate, which Secret has tls.crt and tls.key?" -}}
{{- end -}}
{{- if and (eq $v.rejected.storage "claim") (not $v.rejected.existingClaim) -}}
{{- $wrong = append $wrong "rejected.existingClaim: with rejected.storage=claim, which PersistentVolumeClaim?" -}}
{{- end -}}
{{- if eq (int $v.listen.port) (int $v.admin.port) -}}
{{- $wrong = append $wrong (printf "admin.port: %d is listen.port too" (int $v.admin.port)) -}}
{{- end -}}
{{- $bufferValue := $v.config.ILP_BUFFER | default "64MiB" -}}
{{- if kindIs "float64" $bufferValue -}}{{- $bufferValue = int64 $bufferValue -}}{{- end -}}
{{- with ($v.resources.limits).memory -}}
{{- $limit := include "questdb-ilp-proxy.bytes" (dict "size" . "own" false) | int64 -}}
{{- $buffer := include "questdb-ilp-proxy.bytes" (dict "size" $bufferValue "own" true) | int64 -}}
{{- if and $limit (lt $limit (add $buffer 67108864)) -}}
{{- $wrong = append $wrong (printf "resources.limits.memory: %v is too little for ILP_BUFFER %v and 64Mi beside it; the proxy would be killed with rows in memory" . $bufferValue) -}}
{{- end -}}
{{- end -}}
{{- if and $v.podMonitor.enabled (eq $v.mode "gateway") -}}
{{- $wrong = append $wrong "podMonitor.enabled: it is for sidecars; a gateway has serviceMonitor.enabled" -}}
{{- end -}}
{{- if and $v.podMonitor.enabled (ne $v.mode "gateway") (not $v.admin.expose) -}}
{{- $wrong = append $wrong "admin.expose: with podMonitor.enabled it has to be true, or Prometheus cannot reach the port" -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled (ne $v.mode "gateway") -}}
{{- $wrong = append $wrong "serviceMonitor.enabled: it is for a gateway; sidecars have podMonitor.enabled" -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled (eq $v.mode "gateway") (not $v.networkPolicy.metrics) -}}
{{- $wrong = append $wrong "networkPolicy.metrics: with serviceMonitor.enabled, where is Prometheus? Like [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- $wrong = append $wrong "autoscaling.minReplicas: more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (not (($v.resources.requests).cpu)) -}}
{{- $wrong = append $wrong "resources.requests.cpu: autoscaling.enabled measures by it, so it has to be set" -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\nThese values have to change:\n- %s\n" (join "\n- " $wrong)) -}}
{{- end -}}
{{- end -}}
