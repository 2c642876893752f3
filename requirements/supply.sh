#!/bin/sh
# supply.sh: look up known vulnerabilities of what the services install, and write its software bill of materials.
set -eu
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
.venv/bin/python -m venv "$tools"
PIP_DISABLE_PIP_VERSION_CHECK=1 "$tools/bin/pip" install --quiet --require-hashes -r requirements/supply.txt
mkdir -p dist
"$tools/bin/cyclonedx-py" requirements --pyproject pyproject.toml --output-reproducible --of JSON -o dist/sbom.json \
    requirements/runtime.txt
echo "dist/sbom.json has $(grep -c '"purl"' dist/sbom.json) packages"
"$tools/bin/pip-audit" --require-hashes --disable-pip --requirement requirements/runtime.txt
