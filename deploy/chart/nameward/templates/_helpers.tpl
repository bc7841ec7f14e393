{{/* Labels of everything. Helm adds its own when it installs. Argument: the component. */}}
{{- define "nameward.labels" -}}
app.kubernetes.io/name: nameward
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "nameward.image" -}}
{{- $i := .Values.image -}}
{{ $i.repository }}{{ if $i.digest }}@{{ $i.digest }}{{ else }}:{{ $i.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* Where a runtime keeps its sandboxes' resolv.conf, and network namespaces. */}}
{{- define "nameward.sandboxes" -}}
{{- $usual := dict
  "containerd" "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes"
  "k3s" "/var/lib/rancher/k3s/agent/containerd/io.containerd.grpc.v1.cri/sandboxes"
  "rke2" "/var/lib/rancher/rke2/agent/containerd/io.containerd.grpc.v1.cri/sandboxes" -}}
{{ .Values.agent.paths.sandboxes | default (get $usual .Values.agent.runtime) }}
{{- end }}
{{- define "nameward.netns" -}}
{{ .Values.agent.paths.netns | default (eq .Values.agent.runtime "docker" | ternary "/run/docker/netns" "/run/netns") }}
{{- end }}
{{- define "nameward.cniResults" -}}
{{ .Values.agent.paths.cniResults | default (eq .Values.agent.runtime "docker" | ternary "/var/lib/cni/cache/results" "/var/lib/cni/results") }}
{{- end }}

{{/* Validations: of what containers may use, memory limits are raised alone. Arguments: the containers now; as they were; what is asked
     first, if anything. */}}
{{- define "nameward.limits" -}}
{{- $now := index . 0 -}}
{{- $was := index . 1 -}}
{{- $first := "" -}}
{{- if gt (len .) 2 }}{{ $first = index . 2 }}{{ end -}}
- expression: >-
    {{ $first }}{{ $now }}.all(c, {{ $was }}.exists(o, o.name == c.name &&
    has(c.resources) == has(o.resources) && (!has(c.resources) || has(c.resources.limits) == has(o.resources.limits))))
  message: the coordinator adds and removes no limits of a container
- expression: >-
    {{ $first }}{{ $now }}.all(c, !has(c.resources) || !has(c.resources.limits) ||
    {{ $was }}.exists(o, o.name == c.name && c.resources.limits.all(k, k in o.resources.limits &&
    (c.resources.limits[k] == o.resources.limits[k] || k == 'memory'))
    && o.resources.limits.all(k, k in c.resources.limits)))
  message: of a container's limits the coordinator changes the one of memory alone
- expression: >-
    {{ $first }}{{ $now }}.all(c, !has(c.resources) || !has(c.resources.limits) || !('memory' in c.resources.limits) ||
    {{ $was }}.exists(o, o.name == c.name &&
    !quantity(c.resources.limits['memory']).isLessThan(quantity(o.resources.limits['memory']))))
  message: the coordinator lowers no memory limit
{{- range list "requests" "claims" }}
- expression: >-
    {{ $first }}{{ $now }}.all(c, !has(c.resources) || {{ $was }}.exists(o, o.name == c.name &&
    has(c.resources.{{ . }}) == has(o.resources.{{ . }}) && (!has(c.resources.{{ . }}) || c.resources.{{ . }} == o.resources.{{ . }})))
  message: the coordinator does not change {{ . }} of a container
{{- end }}
{{- end }}

{{/* A setting's environment variable, from its key. */}}
{{- define "nameward.settings" -}}
{{- range $key, $value := .Values.settings }}
- name: NAMEWARD_{{ $key | upper | replace "." "_" | replace "-" "_" }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{/* Liveness and readiness. Argument: whether the pod is in the host's network. */}}
{{- define "nameward.probes" -}}
# Neither depends on the API or on DNS: an agent that restarts because the network is broken could not say so.
startupProbe:
  httpGet: {path: /healthz, port: metrics{{ if . }}, host: 127.0.0.1{{ end }}}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: metrics{{ if . }}, host: 127.0.0.1{{ end }}}
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics{{ if . }}, host: 127.0.0.1{{ end }}}
  periodSeconds: 10
  timeoutSeconds: 5
{{- end }}
