{{/* The content of settings.yaml: what is shipped, and over it the values. */}}
{{- define "conversion-guard.settings" -}}
{{- $chosen := dict -}}
{{- with .Values.providerNamespaces }}{{ $_ := set $chosen "providerNamespaces" . }}{{ end -}}
{{- with .Values.trust -}}
{{- if .clientCA }}{{ $_ := set $chosen "clientCAFile" "/etc/conversion-guard/client-ca/ca.crt" }}{{ end -}}
{{- if .allowedClientNames }}{{ $_ := set $chosen "allowedClientNames" .allowedClientNames }}{{ end -}}
{{- if .network }}{{ $_ := set $chosen "trustNetwork" true }}{{ end -}}
{{- if not .path }}{{ $_ := set $chosen "trustPath" false }}{{ end -}}
{{- end -}}
{{- $shipped := .Files.Get "files/base/settings.yaml" | fromYaml -}}
{{- mergeOverwrite $shipped (deepCopy .Values.settings) $chosen | toYaml -}}
{{- end }}
