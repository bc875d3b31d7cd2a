{{/* The labels of every object of the chart. Pods have none of those that change with the chart's version. */}}
{{- define "prober.labels" -}}
app.kubernetes.io/part-of: prober
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The reference of an image: (list REPOSITORY DIGEST ROOT). */}}
{{- define "prober.image" -}}
{{- $root := index . 2 -}}
{{- with index . 1 -}}
{{ index $ 0 }}@{{ . }}
{{- else -}}
{{ index . 0 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Where the pods of agents run: on nodes that are machines, and run DaemonSets. */}}
{{- define "prober.placement" -}}
nodeSelector:
  kubernetes.io/os: linux
  {{- with .Values.agents.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - key: type
              operator: NotIn
              values: [virtual-kubelet]
            - key: eks.amazonaws.com/compute-type
              operator: NotIn
              values: [fargate]
{{- with .Values.agents.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.agents.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- include "prober.pullSecrets" . }}
{{- end }}

{{- define "prober.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The identity of an agent, as environment variables of its container. */}}
{{- define "prober.agentEnv" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
