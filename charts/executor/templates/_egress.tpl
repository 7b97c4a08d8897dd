{{/*
Where sandboxes may connect to. A cloud's metadata service is never among it: whoever reaches it can take the node's
identity. What contains such an address gets it cut out; what is little more than it is refused.
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
{{- $except = concat $except (include "executor.block" (list $where $cidr) | fromYaml).except | uniq -}}
{{- range $own -}}
{{- if hasSuffix "/0" . -}}
{{- fail (printf "networkPolicy.internetExcept: %s is all of the internet; leave internet: true out of %s instead" . $where) -}}
{{- end -}}
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

{{/* The internet: all but private, shared, link-local and reserved addresses; metadata addresses go on top. */}}
{{- define "executor.internet" -}}
0.0.0.0/0:
  - 10.0.0.0/8
  - 100.64.0.0/10
  - 127.0.0.0/8
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

{{/* Each address by which a cloud tells its metadata or gives out credentials, and the range that is cut out for it. */}}
{{- define "executor.metadataAddresses" -}}
169.254.169.254: 169.254.0.0/16 # AWS, Azure, Google and most others
169.254.170.2: 169.254.0.0/16 # AWS ECS
169.254.170.23: 169.254.0.0/16 # AWS EKS
100.100.100.200: 100.100.100.200/32 # Alibaba
168.63.129.16: 168.63.129.16/32 # Azure
"fd00:ec2::254": fd00:ec2::/32 # AWS
"fd00:ec2::23": fd00:ec2::/32 # AWS EKS
"fd20:ce::254": fd20:ce::/32 # Google
{{- end -}}

{{/* The first 32 bits of an address as a number. */}}
{{- define "executor.bits" -}}
{{- $six := contains ":" . -}}
{{- $bits := 0 -}}
{{- range $six | ternary (slice (splitList ":" (printf "%s::" .)) 0 2) (splitList "." .) -}}
{{- $bits = $six | ternary (add (mul $bits 65536) (printf "0x%s" (default "0" .) | int64)) (add (mul $bits 256) (int64 .)) -}}
{{- end -}}
{{- $bits -}}
{{- end -}}

{{/* One CIDR as an ipBlock without metadata addresses, as YAML: (list WHERE CIDR). Compares the first 32 bits. */}}
{{- define "executor.block" -}}
{{- $where := index . 0 -}}
{{- $cidr := index . 1 -}}
{{- $base := first (splitList "/" $cidr) -}}
{{- $length := last (splitList "/" $cidr) | int -}}
{{- $size := 1 -}}
{{- range until (sub 32 (min $length 32) | int) }}{{ $size = mul $size 2 }}{{ end -}}
{{- $except := list -}}
{{- range $address, $around := include "executor.metadataAddresses" . | fromYaml -}}
{{- $same := eq (contains ":" $address) (contains ":" $base) -}}
{{- if and $same (eq (div (include "executor.bits" $base) $size) (div (include "executor.bits" $address) $size)) -}}
{{- if ge $length (last (splitList "/" $around) | int) -}}
{{- fail (printf "%s: %s holds the address of a cloud's metadata service (%s); leave it out" $where $cidr $address) -}}
{{- end -}}
{{- $except = append $except $around -}}
{{- end -}}
{{- end -}}
{{- $block := dict "cidr" $cidr -}}
{{- if $except }}{{ $_ := set $block "except" (uniq $except) }}{{ end -}}
{{- toYaml $block -}}
{{- end -}}
