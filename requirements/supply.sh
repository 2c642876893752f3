#!/bin/sh
# supply.sh: write the software bill of materials of what the services install, and look up its known vulnerabilities.
# Fails if a package has one, and also if a package could not be looked up.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
.venv/bin/python -m venv "$scratch/tools"
"$scratch/tools/bin/pip" install --quiet --require-hashes -r requirements/supply.txt
# Of installed packages it also has the licences, and which package needs which.
.venv/bin/python -m venv --without-pip "$scratch/runtime"
"$scratch/tools/bin/pip" --python "$scratch/runtime/bin/python" install --quiet --require-hashes -r requirements/runtime.txt
mkdir -p dist
"$scratch/tools/bin/cyclonedx-py" environment --pyproject pyproject.toml --output-reproducible --of JSON \
    -o dist/sbom.json "$scratch/runtime/bin/python"
echo "dist/sbom.json has $(grep -c '"purl"' dist/sbom.json) packages"
"$scratch/tools/bin/pip-audit" --strict --require-hashes --disable-pip --requirement requirements/runtime.txt
