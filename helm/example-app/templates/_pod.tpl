{{/* A pod with the proxy: what all of them have. */}}
{{- define "example-app.pod" -}}
metadata:
  labels:
    app.kubernetes.io/name: example-app
    app.kubernetes.io/instance: {{ .Release.Name }}
    {{- include "questdb-ilp-proxy.sidecar.labels" . | nindent 4 }}
  annotations:
    {{- include "questdb-ilp-proxy.sidecar.annotations" . | nindent 4 }}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ include "questdb-ilp-proxy.sidecar.graceSeconds" . }}
  securityContext:
    runAsNonRoot: true
    seccompProfile: {type: RuntimeDefault}
  initContainers:
    {{- include "questdb-ilp-proxy.sidecar.container" . | nindent 4 }}
  containers:
    - name: writer
      image: {{ .Values.image }}
      imagePullPolicy: {{ .Values.pullPolicy }}
      command:
        {{- toYaml .Values.command | nindent 8 }}
      securityContext:
        runAsUser: {{ int .Values.runAsUser }}
        allowPrivilegeEscalation: false
        capabilities: {drop: [ALL]}
  volumes:
    {{- include "questdb-ilp-proxy.sidecar.volumes" . | nindent 4 }}
{{- end -}}
