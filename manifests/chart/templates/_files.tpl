{{/* Which files of manifests/ this release is made of, as a JSON list. */}}
{{- define "conversion-guard.files" -}}
{{- $names := list "service-account" "cluster-role" "lease-role" "priority-class" "service" "deployment" "pod-disruption-budget" "mutating-webhook" "validating-webhook" -}}
{{- if .Values.networkPolicy.enabled }}{{ $names = append $names "network-policy" }}{{ end -}}
{{- $files := list -}}
{{- range $names }}{{ $files = append $files (printf "base/%s.yaml" .) }}{{ end -}}
{{- if eq .Values.certificate.source "self-managed" -}}
{{- $files = concat $files (list "self-managed/role.yaml" "self-managed/ca-bundle-role.yaml" "self-managed/ca-bundle-policy.yaml") -}}
{{- end -}}
{{- if eq .Values.certificate.source "cert-manager" -}}
{{- $files = concat $files (list "cert-manager/certificate/issuer.yaml" "cert-manager/certificate/certificate.yaml") -}}
{{- end -}}
{{- if .Values.api }}{{ $files = append $files "api/cluster-role.yaml" }}{{ end -}}
{{- if .Values.surroundings }}{{ $files = append $files "surroundings/cluster-role.yaml" }}{{ end -}}
{{- if .Values.monitoring }}{{ $files = concat $files (list "monitoring/pod-monitor.yaml" "monitoring/prometheus-rule.yaml") }}{{ end -}}
{{- toJson $files -}}
{{- end }}

{{/* A file of manifests/ as text, with this release's namespaces: what manifests/namespaces does. */}}
{{- define "conversion-guard.text" -}}
{{- $own := .root.Release.Namespace -}}
{{- $forklift := .root.Values.forklift.namespace -}}
{{- .root.Files.Get (printf "files/%s" .file)
  | replace "namespace: conversion-guard" (printf "namespace: %s" $own)
  | replace "system:serviceaccount:conversion-guard:" (printf "system:serviceaccount:%s:" $own)
  | replace "[conversion-guard, kube-system]" (printf "[%s, kube-system]" $own)
  | replace "conversion-guard.conversion-guard.svc" (printf "conversion-guard.%s.svc" $own)
  | replace "inject-ca-from: conversion-guard/" (printf "inject-ca-from: %s/" $own)
  | replace "secret-name: conversion-guard-tls" (printf "secret-name: %s" .root.Values.certificate.secretName)
  | replace "system:serviceaccount:openshift-mtv:" (printf "system:serviceaccount:%s:" $forklift)
  | replace "value: openshift-mtv" (printf "value: %s" $forklift) -}}
{{- end }}

{{- define "conversion-guard.labels" -}}
app.kubernetes.io/name: conversion-guard
app.kubernetes.io/part-of: conversion-guard
{{- end }}

{{/* Labels, and the namespace of what has one. */}}
{{- define "conversion-guard.placed" -}}
{{- $meta := .object.metadata -}}
{{- $_ := set $meta "labels" (include "conversion-guard.labels" .root | fromYaml) -}}
{{- $wide := "^(PriorityClass|ClusterRole|ClusterRoleBinding|(Mutating|Validating)WebhookConfiguration|ValidatingAdmissionPolicy(Binding)?)$" -}}
{{- if not (regexMatch $wide .object.kind) }}{{ $_ := set $meta "namespace" (.namespace | default .root.Release.Namespace) }}{{ end -}}
{{- end }}
