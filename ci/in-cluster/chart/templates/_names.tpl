{{- define "labels" -}}
app.kubernetes.io/name: gpu-conformance
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* Roles and bindings of cluster scope: those of two releases stay apart. */ -}}
{{- define "clusterScoped" -}}
{{ printf "%s-%s-%s" .Release.Namespace .Release.Name .Values.mode }}
{{- end -}}

{{- define "image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}
