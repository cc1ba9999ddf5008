{{- define "nodeagent.labels" -}}
app.kubernetes.io/name: nodeagent
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "nodeagent.selector" -}}
app.kubernetes.io/name: nodeagent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "nodeagent.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "nodeagent.listen" -}}
{{ .Values.metrics.address | default (ternary "127.0.0.1" "0.0.0.0" .Values.hostNetwork) }}:{{ int .Values.metrics.port }}
{{- end }}
