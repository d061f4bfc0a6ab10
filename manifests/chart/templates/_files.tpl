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

{{/* A file of manifests/ as text, with this release's namespaces: what manifests/namespaces does. No value has a `<`,
so what one of them says is never taken for what was shipped. */}}
{{- define "conversion-guard.text" -}}
{{- .root.Files.Get (printf "files/%s" .file)
  | replace "namespace: conversion-guard" "namespace: <own>"
  | replace "system:serviceaccount:conversion-guard:" "system:serviceaccount:<own>:"
  | replace "[conversion-guard, kube-system]" "[<own>, kube-system]"
  | replace "conversion-guard.conversion-guard.svc" "conversion-guard.<own>.svc"
  | replace "inject-ca-from: conversion-guard/" "inject-ca-from: <own>/"
  | replace "https://conversion-guard.example.com/docs/" "<docs>/"
  | replace "secret-name: conversion-guard-tls" "secret-name: <secret>"
  | replace "system:serviceaccount:openshift-mtv:" "system:serviceaccount:<forklift>:"
  | replace "value: openshift-mtv" "value: <forklift>"
  | replace "<own>" .root.Release.Namespace
  | replace "<forklift>" .root.Values.forklift.namespace
  | replace "<docs>" .root.Values.docs
  | replace "<secret>" .root.Values.certificate.secretName -}}
{{- end }}

{{/* The namespaces where Providers are found, and those where anything is read at all, as JSON lists. */}}
{{- define "conversion-guard.providers" -}}
{{- .Values.providerNamespaces | default (list .Values.forklift.namespace) | toJson -}}
{{- end }}
{{- define "conversion-guard.read" -}}
{{- append (include "conversion-guard.providers" . | fromJsonArray) .Values.forklift.namespace | uniq | toJson -}}
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
