{{/*
Where sandboxes may connect to. A cloud's metadata service is never among it: whoever reaches it can take the node's
identity. What contains its address gets it cut out; what is little more than that address is refused.
*/}}

{{/* The peers of one entry of networkPolicy.egress, as YAML: (list $ ENTRY). */}}
{{- define "executor.peers" -}}
{{- $ := index . 0 -}}
{{- $entry := index . 1 -}}
{{- $where := printf "networkPolicy.egress (%s)" $entry.name -}}
{{- $peers := list -}}
{{- range $entry.cidrs -}}
{{- $peers = append $peers (dict "ipBlock" (include "executor.block" (list $where .) | fromYaml)) -}}
{{- end -}}
{{- if $entry.internet -}}
{{- $own := $.Values.networkPolicy.internetExcept -}}
{{- range $cidr, $except := include "executor.internet" . | fromYaml -}}
{{- range $own -}}
{{- if eq (contains ":" .) (contains ":" $cidr) }}{{ $except = append $except . }}{{ end -}}
{{- end -}}
{{- $peers = append $peers (dict "ipBlock" (dict "cidr" $cidr "except" $except)) -}}
{{- end -}}
{{- end -}}
{{- $peers = concat $peers ($entry.to | default list) -}}
{{- if not (or $peers $entry.dns) -}}
{{- fail (printf "%s: it allows nothing; set one of internet, cidrs, to or dns" $where) -}}
{{- end -}}
{{- toYaml $peers -}}
{{- end -}}

{{/* The internet: all but private, shared, link-local and reserved addresses, and Azure's wire server. */}}
{{- define "executor.internet" -}}
0.0.0.0/0:
  - 10.0.0.0/8
  - 100.64.0.0/10
  - 127.0.0.0/8
  - 168.63.129.16/32
  - 169.254.0.0/16
  - 172.16.0.0/12
  - 192.168.0.0/16
  - 198.18.0.0/15
  - 224.0.0.0/3
"::/0":
  - 64:ff9b::/96
  - fc00::/7
  - fe80::/10
  - ff00::/8
{{- end -}}

{{/*
One CIDR as an ipBlock without metadata addresses, as YAML: (list WHERE CIDR). Compares the first 32 bits: those of
169.254.169.254, and those of fd00:ec2::254.
*/}}
{{- define "executor.block" -}}
{{- $where := index . 0 -}}
{{- $cidr := index . 1 -}}
{{- $base := first (splitList "/" $cidr) -}}
{{- $length := last (splitList "/" $cidr) | int -}}
{{- $six := contains ":" $base -}}
{{- $bits := 0 -}}
{{- range $six | ternary (slice (splitList ":" (printf "%s::" $base)) 0 2) (splitList "." $base) -}}
{{- $bits = $six | ternary (add (mul $bits 65536) (printf "0x%s" (default "0" .) | int64)) (add (mul $bits 256) (int64 .)) -}}
{{- end -}}
{{- $metadata := ternary 4244639426 2852039166 $six -}}
{{- $around := ternary (dict "cidr" "fd00:ec2::/32" "length" 32) (dict "cidr" "169.254.0.0/16" "length" 16) $six -}}
{{- $size := 1 -}}
{{- range until (sub 32 (min $length 32) | int) }}{{ $size = mul $size 2 }}{{ end -}}
{{- $block := dict "cidr" $cidr -}}
{{- if eq (div $bits $size) (div $metadata $size) -}}
{{- if ge $length (int $around.length) -}}
{{- fail (printf "%s: %s holds the address of a cloud's metadata service; leave it out" $where $cidr) -}}
{{- end -}}
{{- $_ := set $block "except" (list $around.cidr) -}}
{{- end -}}
{{- toYaml $block -}}
{{- end -}}
