#!/bin/sh
# env.sh [laptop]: write .env for docker compose, with new secrets, readable by its owner only. What is there stays.
set -eu
cd "$(dirname "$0")/.."
umask 077
new=''

random() {
    od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'
}

# provide NAME VALUE: add the variable unless it is there.
provide() {
    grep -q "^$1=." .env 2>/dev/null && return
    printf '%s=%s\n' "$1" "$2" >>.env
    new="$new $1"
}

[ ! -e .env ] || chmod 600 .env
provide METRICS_TOKEN "$(random)"
provide ADMIN_TOKEN "$(random)"
[ "${1:-}" != laptop ] || provide COMPOSE_FILE docker-compose.yml:docker-compose.laptop.yml
if [ -n "$new" ]; then
    echo ".env has now:$new"
else
    echo ".env has everything already; nothing was changed"
fi
