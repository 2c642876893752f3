#!/bin/sh
# venv.sh runtime|dev|fuzz: install what requirements/<name>.txt pins, and the project itself, into .venv.
# Returns at once if nothing has changed. Starts over after an interruption, a changed lock file or a moved checkout.
set -eu
cd "$(dirname "$0")/.."
flavour=$1
identity="$(cat requirements/runtime.txt requirements/dev.txt requirements/fuzz.txt pyproject.toml | cksum) $PWD"

fail() {
    echo "$1" >&2
    exit 1
}

# Find the first Python that is new enough and can create virtual environments.
find_python() {
    old='' bare=''
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
        found=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2], sys.version_info >= (3, 11))' 2>/dev/null) || continue
        case $found in
            *False) old="${old:-Python ${found% *} ($candidate)}" ;;
            *) if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
                    echo "$candidate"
                    return
                fi
                bare="${bare:-${found% *}}" ;;
        esac
    done
    [ -z "$bare" ] || fail "Python $bare lacks its venv module: install it (Debian, Ubuntu: apt install python$bare-venv) and try again."
    fail "Python 3.11 or newer is needed, found ${old:-none}: install one, or name it: make run PYTHON=/path/to/python3.11"
}

usable() {
    [ ! -e .venv/installing ] && [ "$(cat .venv/identity 2>/dev/null)" = "$identity" ] &&
        .venv/bin/python -c '' 2>/dev/null
}

if usable && [ -e ".venv/installed-$flavour" ]; then
    exit 0
fi
if ! usable; then
    python=$(find_python)
    rm -rf .venv
    "$python" -m tobogganing.devstack.progress_line "Making .venv with $("$python" --version 2>&1)" "$python" -m venv .venv
    printf '%s\n' "$identity" >.venv/identity
fi
touch .venv/installing
pip_install() {
    label=$1
    shift
    .venv/bin/python -m tobogganing.devstack.pip_install "$label" - "$@"
}
pip_install "Installing libraries into .venv" --require-hashes -r "requirements/$flavour.txt"
pip_install "Installing the project into .venv" --no-deps --no-build-isolation --editable .
touch ".venv/installed-$flavour"
rm .venv/installing
