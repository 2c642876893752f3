#!/bin/sh
# env.sh [laptop]: write .env for docker compose, with new secrets, readable only by its owner. Existing values are kept.
# Also make deploy/ readable for the containers' users, whatever umask the checkout had.
set -eu
cd "$(dirname "$0")/.."
umask 077
new=''
mark=$(printf '\357\273\277') # byte order mark, which some editors write

random() {
    od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'
}

# has NAME: whether .env sets the variable, in any syntax that docker compose accepts.
has() {
    [ -e .env ] || return 1
    tr -d '\r' <.env | sed "1s/^$mark//" | grep -Eq \
        "^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*[=:]([[:space:]]*(\"[^\"]|'[^'])|[^\"'[:space:]]|[[:space:]]+[^\"'#[:space:]])"
}

# provide NAME VALUE: add the variable unless it is set.
provide() {
    if has "$1"; then return; fi
    # If the last line has no line end, add one.
    if [ -s .env ] && [ -n "$(tail -c 1 .env)" ]; then echo >>.env; fi
    printf '%s=%s\n' "$1" "$2" >>.env
    new="$new $1"
}

[ ! -e .env ] || chmod 600 .env
if [ -d deploy ] && ! chmod -R go+rX deploy; then
    echo "deploy/ has files of another owner: let containers read them (chmod go+r)" >&2
fi
provide METRICS_TOKEN "$(random)"
provide ADMIN_TOKEN "$(random)"
[ "${1:-}" != laptop ] || provide COMPOSE_FILE docker-compose.yml:docker-compose.laptop.yml
if [ -n "$new" ]; then
    echo ".env has now:$new"
else
    echo ".env has everything already; nothing was changed"
fi
