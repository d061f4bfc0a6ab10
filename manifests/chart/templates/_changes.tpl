{{/* What the values change in an object of manifests/. Each changes `object` in place, and prints nothing. */}}

{{- define "conversion-guard.change" -}}
{{- $root := .root -}}
{{- $object := .object -}}
{{- if eq $object.kind "Deployment" }}{{ include "conversion-guard.deployment" . }}{{ end -}}
{{- if and (eq $object.kind "Service") $root.Values.api -}}
{{- $ports := (include "conversion-guard.text" (dict "root" $root "file" "api/service.yaml") | fromYaml).spec.ports -}}
{{- $_ := set $object.spec "ports" (concat $object.spec.ports $ports) -}}
{{- end -}}
{{- if eq $object.kind "NetworkPolicy" -}}
{{- if $root.Values.api -}}
{{- $rule := index $object.spec.ingress 0 -}}
{{- $_ := set $rule "ports" (append $rule.ports (dict "port" "api" "protocol" "TCP")) -}}
{{- end -}}
{{- with $root.Values.networkPolicy.egress }}{{ $_ := set $object.spec "egress" . }}{{ end -}}
{{- end -}}
{{- if eq $object.kind "Certificate" -}}
{{- if eq $object.metadata.name "conversion-guard" }}{{ $_ := set $object.spec "secretName" $root.Values.certificate.secretName }}{{ end -}}
{{- end -}}
{{- if hasSuffix "WebhookConfiguration" $object.kind -}}
{{- range $object.webhooks -}}
{{- if and $root.Values.strict (eq .name "migration.conversion-guard.io") }}{{ $_ := set . "failurePolicy" "Fail" }}{{ end -}}
{{- if eq $root.Values.certificate.source "self-managed" }}{{ $_ := unset .clientConfig.service "path" }}{{ end -}}
{{- if $root.Values.certificate.caBundle }}{{ $_ := set .clientConfig "caBundle" (b64enc $root.Values.certificate.caBundle) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- include "conversion-guard.annotate" . -}}
{{- end }}

{{/* The annotations by which something else brings the certificate: those of its component in manifests/. */}}
{{- define "conversion-guard.annotate" -}}
{{- $object := .object -}}
{{- $text := include "conversion-guard.text" (dict "root" .root "file" (printf "%s/kustomization.yaml" .root.Values.certificate.source)) -}}
{{- range (fromYaml $text).patches -}}
{{- if regexMatch (printf "^(%s)$" .target.kind) $object.kind -}}
{{- range fromYamlArray .patch }}{{ $_ := set $object.metadata "annotations" .value }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "conversion-guard.deployment" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $spec := .object.spec -}}
{{- $pod := $spec.template.spec -}}
{{- $container := index $pod.containers 0 -}}
{{- $_ := set $spec "replicas" $values.replicas -}}
{{- $checksum := include "conversion-guard.settings" $root | sha256sum -}}
{{- $_ := set $spec.template "metadata" (dict
  "labels" (include "conversion-guard.labels" $root | fromYaml)
  "annotations" (dict "conversion-guard.io/settings" $checksum)) -}}
{{- with $values.image -}}
{{- $tag := printf ":%s" (.tag | default $root.Chart.AppVersion) -}}
{{- $_ := set $container "image" (printf "%s%s" .repository (ternary (printf "@%s" .digest) $tag (ne .digest ""))) -}}
{{- if .pullPolicy }}{{ $_ := set $container "imagePullPolicy" .pullPolicy }}{{ end -}}
{{- if .pullSecrets }}{{ $_ := set $pod "imagePullSecrets" .pullSecrets }}{{ end -}}
{{- end -}}
{{- with $values.resources }}{{ $_ := set $container "resources" . }}{{ end -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" -}}
{{- with get $values $field }}{{ $_ := set $pod $field . }}{{ end -}}
{{- end -}}
{{- $patches := list -}}
{{- if $values.api }}{{ $patches = append $patches "api/deployment.yaml" }}{{ end -}}
{{- if ne $values.certificate.source "self-managed" }}{{ $patches = append $patches "serving-secret/deployment.yaml" }}{{ end -}}
{{- range $file := $patches -}}
{{- $patch := (include "conversion-guard.text" (dict "root" $root "file" $file) | fromYaml).spec.template.spec -}}
{{- include "conversion-guard.added" (dict "pod" $pod "container" (index $patch.containers 0) "volumes" ($patch.volumes | default list)) -}}
{{- end -}}
{{- if ne $values.certificate.source "self-managed" -}}
{{- range $pod.volumes }}{{ if .secret }}{{ $_ := set .secret "secretName" $values.certificate.secretName }}{{ end }}{{ end -}}
{{- end -}}
{{- if $values.trust.clientCA -}}
{{- $mount := dict "name" "client-ca" "mountPath" "/etc/conversion-guard/client-ca" "readOnly" true -}}
{{- $volume := dict "name" "client-ca" "configMap" (dict "name" "conversion-guard-client-ca") -}}
{{- include "conversion-guard.added" (dict "pod" $pod "container" (dict "volumeMounts" (list $mount)) "volumes" (list $volume)) -}}
{{- end -}}
{{- include "conversion-guard.added" (dict "pod" $pod "container" (pick $values "env" "volumeMounts") "volumes" $values.volumes) -}}
{{- end }}

{{/* Further entries of the lists of a pod and its container. */}}
{{- define "conversion-guard.added" -}}
{{- $there := index .pod.containers 0 -}}
{{- range $field := list "env" "ports" "volumeMounts" -}}
{{- with get $.container $field }}{{ $_ := set $there $field (concat (get $there $field) .) }}{{ end -}}
{{- end -}}
{{- with .volumes }}{{ $_ := set $.pod "volumes" (concat $.pod.volumes .) }}{{ end -}}
{{- end }}
