#!/bin/sh
# rules.sh >rules.yaml: the rules of deploy/prometheus/rules as the Prometheus operator takes them, one object a file.
set -eu
cd "$(dirname "$0")/../../../prometheus/rules"
echo "# Made by rules.sh of deploy/prometheus/rules: change those, then make this again."
for file in *.yml; do
    name=$(basename "$file" .yml)
    printf -- '---\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: tobogganing-%s\nspec:\n' "$name"
    sed -n '/^groups:/,$s/^\(.\)/  \1/p; /^groups:/,$s/^$//p' "$file"
done
