{{/* The proxy's container, as every mode has it; the context is this chart's own. */}}

{{- define "questdb-ilp-proxy.env" -}}
{{- $v := .Values -}}
{{- $gateway := eq $v.mode "gateway" -}}
{{- $host := ternary "" "localhost" $gateway -}}
{{- $listen := list (printf "tcp://%s:%d" $host (int $v.listen.port)) -}}
{{- if $v.listen.udp -}}
{{- $listen = append $listen (printf "udp://%s:%d" $host (int $v.listen.port)) -}}
{{- end -}}
- name: ILP_LISTEN
  value: {{ join "," $listen | quote }}
{{- if $gateway }}
- name: ILP_ALLOW
  value: {{ join "," $v.gateway.allow | quote }}
{{- end }}
- name: ILP_UPSTREAM
  value: {{ $v.upstream | quote }}
{{- if $v.auth.keyId }}
- name: ILP_AUTH_KEY_ID
  value: {{ $v.auth.keyId | quote }}
- name: ILP_AUTH_KEY_FILE
  value: /etc/questdb-ilp-proxy/auth/{{ $v.auth.keyKey }}
{{- else }}
- name: ILP_AUTH_JWK_FILE
  value: /etc/questdb-ilp-proxy/auth/{{ $v.auth.jwkKey }}
{{- end }}
{{- if $v.tls.existingSecret }}
{{- with $v.tls.caKey }}
- name: ILP_TLS_CA
  value: /etc/questdb-ilp-proxy/tls/{{ . }}
{{- end }}
{{- if $v.tls.clientCertificate }}
- name: ILP_TLS_CERT
  value: /etc/questdb-ilp-proxy/tls/tls.crt
- name: ILP_TLS_KEY
  value: /etc/questdb-ilp-proxy/tls/tls.key
{{- end }}
{{- end }}
{{- with $v.tls.serverName }}
- name: ILP_TLS_SERVER_NAME
  value: {{ . | quote }}
{{- end }}
{{- if $v.tls.unsafeSkipVerify }}
- name: ILP_TLS_UNSAFE_SKIP_VERIFY
  value: "true"
{{- end }}
- name: ILP_ADMIN
  value: {{ printf "%s:%d" (ternary "" "127.0.0.1" (eq (include "questdb-ilp-proxy.adminExposed" .) "true")) (int $v.admin.port) | quote }}
{{- with $v.admin.hosts }}
- name: ILP_ADMIN_HOSTS
  value: {{ join "," . | quote }}
{{- end }}
{{- if $v.admin.tokenSecret }}
- name: ILP_ADMIN_TOKEN_FILE
  value: /etc/questdb-ilp-proxy/admin/{{ $v.admin.tokenKey }}
{{- end }}
- name: ILP_DRAIN_TIMEOUT
  value: {{ printf "%ds" (int $v.drain.timeoutSeconds) | quote }}
{{- if ne $v.rejected.storage "log" }}
- name: PROXY_POD
  valueFrom:
    fieldRef:
      apiVersion: v1
      fieldPath: metadata.name
- name: ILP_REJECTED_FILE
  value: /var/lib/questdb-ilp-proxy/$(PROXY_POD).jsonl
{{- end }}
{{- range $name, $value := $v.config }}
- name: {{ $name }}
  value: {{ ternary (int64 $value) $value (kindIs "float64" $value) | toString | quote }}
{{- end }}
{{- end -}}

{{- define "questdb-ilp-proxy.securityContext" -}}
{{- /* Group 0 in a pod of others: without its fsGroup the Secret's files are root's, and only their group may read them. */ -}}
{{- $mine := dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" (ternary 65532 0 (eq .Values.mode "gateway")) "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- toYaml (mergeOverwrite $mine (deepCopy .Values.securityContext)) -}}
{{- end -}}

{{- define "questdb-ilp-proxy.container" -}}
{{- $v := .Values -}}
{{- $gateway := eq $v.mode "gateway" -}}
name: {{ ternary "questdb-ilp-proxy" $v.sidecar.name $gateway }}
image: {{ include "questdb-ilp-proxy.image" . | quote }}
imagePullPolicy: {{ $v.image.pullPolicy }}
command: [/questdb-ilp-proxy]
args: [serve]
{{- if not $gateway }}
restartPolicy: Always
{{- end }}
env:
  {{- include "questdb-ilp-proxy.env" . | nindent 2 }}
{{- if include "questdb-ilp-proxy.adminExposed" . }}
ports:
  {{- if $gateway }}
  - name: ilp
    containerPort: {{ int $v.listen.port }}
    protocol: TCP
  {{- if $v.listen.udp }}
  - name: ilp-udp
    containerPort: {{ int $v.listen.port }}
    protocol: UDP
  {{- end }}
  {{- end }}
  - name: ilp-admin
    containerPort: {{ int $v.admin.port }}
    protocol: TCP
{{- end }}
startupProbe:
  exec:
    command: [/questdb-ilp-proxy, health]
  periodSeconds: 1
  timeoutSeconds: {{ int $v.probes.timeoutSeconds }}
  failureThreshold: 60
{{- if $v.probes.liveness }}
livenessProbe:
  exec:
    command: [/questdb-ilp-proxy, health]
  periodSeconds: {{ int $v.probes.periodSeconds }}
  timeoutSeconds: {{ int $v.probes.timeoutSeconds }}
  failureThreshold: {{ int $v.probes.failureThreshold }}
{{- end }}
{{- if ternary $gateway $v.probes.readiness (kindIs "invalid" $v.probes.readiness) }}
readinessProbe:
  exec:
    command: [/questdb-ilp-proxy, ready]
  periodSeconds: {{ int $v.probes.periodSeconds }}
  timeoutSeconds: {{ int $v.probes.timeoutSeconds }}
  failureThreshold: 2
{{- end }}
{{- if and $gateway (gt (int (include "questdb-ilp-proxy.preStopSleep" .)) 0) }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ include "questdb-ilp-proxy.preStopSleep" . }}
{{- end }}
securityContext:
  {{- include "questdb-ilp-proxy.securityContext" . | nindent 2 }}
resources:
  {{- toYaml $v.resources | nindent 2 }}
volumeMounts:
  - name: questdb-ilp-proxy-auth
    mountPath: /etc/questdb-ilp-proxy/auth
    readOnly: true
  {{- if $v.tls.existingSecret }}
  - name: questdb-ilp-proxy-tls
    mountPath: /etc/questdb-ilp-proxy/tls
    readOnly: true
  {{- end }}
  {{- if $v.admin.tokenSecret }}
  - name: questdb-ilp-proxy-admin
    mountPath: /etc/questdb-ilp-proxy/admin
    readOnly: true
  {{- end }}
  {{- if ne $v.rejected.storage "log" }}
  - name: questdb-ilp-proxy-rejected
    mountPath: /var/lib/questdb-ilp-proxy
  {{- end }}
{{- end -}}

{{/* Secrets whole: through a subPath a changed one never arrives. */}}
{{- define "questdb-ilp-proxy.volumes" -}}
{{- $v := .Values -}}
- name: questdb-ilp-proxy-auth
  secret:
    secretName: {{ $v.auth.existingSecret }}
    defaultMode: {{ int $v.auth.fileMode }}
{{- with $v.tls.existingSecret }}
- name: questdb-ilp-proxy-tls
  secret:
    secretName: {{ . }}
    defaultMode: {{ int $v.auth.fileMode }}
{{- end }}
{{- with $v.admin.tokenSecret }}
- name: questdb-ilp-proxy-admin
  secret:
    secretName: {{ . }}
    defaultMode: {{ int $v.auth.fileMode }}
{{- end }}
{{- if eq $v.rejected.storage "emptyDir" }}
- name: questdb-ilp-proxy-rejected
  emptyDir: {}
{{- else if eq $v.rejected.storage "claim" }}
- name: questdb-ilp-proxy-rejected
  persistentVolumeClaim:
    claimName: {{ $v.rejected.existingClaim }}
{{- end }}
{{- end -}}
