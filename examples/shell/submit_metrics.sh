#!/bin/sh
# Measures a network interface once, and submits the sample and those queued by earlier runs.
# For cron, once a minute, in Alpine: requires curl 7.84 or newer, flock, od and gzip.
#
#   MANAGER_URL CLIENT_ID API_KEY_FILE QUEUE_DIR   required; the id not with the next
#   ENROLMENT_TOKEN_FILE () token to enrol with if API_KEY_FILE does not exist
#   AGENT_NAME (the host's) name to enrol with
#   ROTATE_KEY_DAYS (0)     age at which the script replaces its key; 0: never
#   INTERFACE (wg0)         HEADLESS (true)        the measured interface; the label
#   QUEUE_MAX (1440)        maximum of queued samples; the oldest are dropped and counted
#   RUN_SECONDS (45)        after this time a run starts no further request
#   SPREAD_SECONDS (20)     maximum delay of the first request, from the id, to spread the fleet
#   MAX_PAUSE_SECONDS (60)  maximum pause after a failure, in addition to Retry-After
#   SYSTEM_ROOT ()          prefix of /sys and /proc
#
# QUEUE_DIR contains waiting/<number>.json (one sample each), rejected/<number>.json (samples that
# the manager rejected, with the reason), and the counters sent, dropped and rejected_total. Only
# one run is active at a time; another one exits at once. Exit status: 0 all samples were sent,
# 1 samples remain queued, 2 settings are not valid. Next to API_KEY_FILE are .id
# (from the enrolment), .nonce (of an enrolment in progress) and .next (a key and its successor
# while it is replaced): a run that is killed leaves files with which the next one continues.
set -eu
export LC_ALL=C

say() { echo "submit_metrics: $*" >&2; }
for name in MANAGER_URL CLIENT_ID API_KEY_FILE QUEUE_DIR; do
    eval "value=\${$name:-}"
    [ "$name" != CLIENT_ID ] || value=$value${ENROLMENT_TOKEN_FILE:-}
    [ -n "$value" ] || { say "$name is not set"; exit 2; }
done
HEADLESS=${HEADLESS:-true}
case $HEADLESS in true | false) ;; *) say "HEADLESS must be true or false"; exit 2 ;; esac
case ${ROTATE_KEY_DAYS:=0} in
'' | .* | *. | *[!0-9.]* | *.*.*) say "ROTATE_KEY_DAYS is not a number of at least 0"; exit 2 ;;
esac
period=$(awk -v days="$ROTATE_KEY_DAYS" 'BEGIN { printf "%d", days * 86400 + 0.999 }') # seconds
umask 077
case $API_KEY_FILE in /*) ;; *) API_KEY_FILE=$PWD/$API_KEY_FILE ;; esac
case ${ENROLMENT_TOKEN_FILE:=} in '' | /*) ;; *) ENROLMENT_TOKEN_FILE=$PWD/$ENROLMENT_TOKEN_FILE ;; esac
mkdir -p "$QUEUE_DIR/waiting" "$QUEUE_DIR/rejected"
cd "$QUEUE_DIR"
exec 9>lock
flock -n 9 || { say "another run is in progress"; exit 0; }
rm -f ./*.new waiting/*.new rejected/*.new # left by a run that was killed

# now: seconds since the epoch. number FILE: the counter in a file. replace FILE: writes atomically.
now() { date +%s; }
number() { if [ -s "$1" ]; then cat "$1"; else echo 0; fi; }
replace() { cat >"$1.new" && sync "$1.new" && mv "$1.new" "$1"; }
count() { echo $(($(number "$1") + $2)) | replace "$1"; }
# random N: a whole number from 0 to N.
random() { echo $(($(od -An -N4 -tu4 /dev/urandom) % ($1 + 1))); }
# place N: the same for the agent's own id; random as long as it has none.
place() {
    own=${CLIENT_ID:-$(cat "$API_KEY_FILE.id" 2>/dev/null || :)}
    [ -n "$own" ] || { random "$1"; return; }
    echo $((0x$(printf %s "$own" | sha256sum | head -c 7) % ($1 + 1)))
}

# measure: prints a sample; fails if a counter cannot be read or is not a number.
measure() {
    interface=${SYSTEM_ROOT:-}/sys/class/net/${INTERFACE:-wg0}/statistics
    read -r uptime _ <"${SYSTEM_ROOT:-}/proc/uptime" || return 1
    case $uptime in '' | .* | *. | *[!0-9.]* | *.*.*) return 1 ;; esac
    printf '{"timestamp":%s,"metrics":{' "$(now)"
    for pair in bytes_sent:tx_bytes bytes_received:rx_bytes \
        packets_sent:tx_packets packets_received:rx_packets; do
        read -r value <"$interface/${pair#*:}" || return 1
        case $value in '' | *[!0-9]* | 0?*) return 1 ;; esac
        printf '"%s":%s,' "${pair%:*}" "$value"
    done
    printf '"connection_uptime":%s}}\n' "$uptime"
}

# take: queues a sample under a number greater than those of all queued samples.
take() {
    sample=$(measure) || { say "nothing to report: no counters of INTERFACE ${INTERFACE:-wg0}"; return 1; }
    next=1$(printf '%010d000' "$(now)")
    for last in waiting/*.json; do :; done
    last=${last##*/}
    last=${last%.json}
    case $last in *[!0-9]*) ;; *) [ "$next" -gt "$last" ] || next=$((last + 1)) ;; esac
    printf '%s\n' "$sample" | replace "waiting/$next.json"
}

# shorten: drops the oldest samples beyond the limit.
shorten() {
    set -- waiting/*.json
    surplus=$(($# - ${QUEUE_MAX:-1440}))
    [ "$surplus" -gt 0 ] || return 0
    for file in "$@"; do
        [ "$surplus" -gt 0 ] || break
        rm -f "$file"
        count dropped 1
        surplus=$((surplus - 1))
    done
    say "queue full: dropped the oldest samples, $(number dropped) in total"
}

# read_key FILE: sets key, without a byte order mark and trailing white space; fails unless the file
# contains exactly one key of visible ASCII characters.
read_key() {
    key=$(tr -s '\000\r\n\t ' '\n' <"$1") || return 1
    key=${key#"$(printf '\357\273\277')"}
    key=${key#"
"}
    case $key in '' | *[!!-~]*) return 1 ;; esac
}

# post PATH KEY WORD...: sends the file body, with these words to curl; sets status, after, answer
# (also a file), and service, which is "manager" in a response of the manager's own.
post() {
    rm -f answer
    path=$1 bearer=$2
    shift 2
    # The key goes through a pipe: everybody on the machine can read command lines. In curl's
    # configuration a quote and a backslash need a backslash.
    said=$(printf 'header = "Authorization: Bearer %s"\n' "$(printf %s "$bearer" | sed 's/["\\]/\\&/g')" |
        curl --config - --silent --show-error --max-time 10 --output answer \
            --write-out '%{http_code}|%header{tobogganing-service}|%header{retry-after}' \
            --header "Content-Type: application/json" --data-binary @body "$@" \
            "${MANAGER_URL%/}$path" 2>trouble 9>&-) || :
    status=${said%%|*} said=${said#*|}
    service=${said%%|*} after=${said#*|}
    [ -f answer ] || cp trouble answer
    answer=$(head -c 200 answer | tr '\n' ' ')
}

# field NAME: prints a text of the answer; nothing if it is not there.
field() { tr -d '\n' <answer | sed -n "s/.*\"$1\" *: *\"\([!#-~]*\)\".*/\1/p"; }

# fails_with ANSWER: what a function leaves that made no request.
fails_with() { status=000 service='' after='' answer=$1; }

# enrol: gets an id and a key, unless they are there; fails if it cannot. The nonce is on the disk
# before the manager sees it, so another attempt gets the same id; the key is written last.
enrol() {
    if [ -n "$ENROLMENT_TOKEN_FILE" ] && [ ! -e "$API_KEY_FILE" ]; then
        [ -s "$API_KEY_FILE.nonce" ] ||
            od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | replace "$API_KEY_FILE.nonce" ||
            { fails_with "$API_KEY_FILE.nonce cannot be written"; return 1; }
        read_key "$ENROLMENT_TOKEN_FILE" ||
            { fails_with "ENROLMENT_TOKEN_FILE does not contain exactly one token"; return 1; }
        name=$(printf %s "${AGENT_NAME:-$(uname -n)}" | tr -d '"\134')
        printf '{"name":"%s","nonce":"%s"%s}' "$name" "$(cat "$API_KEY_FILE.nonce")" \
            "${CLIENT_ID:+,\"client_id\":\"$CLIENT_ID\"}" >body
        post /api/v1/enrol "$key"
        id='' key=''
        [ "$status" != 200 ] || { id=$(field client_id) && key=$(field api_key); }
        rm -f body answer
        # The nonce of a 409 is used up: the next attempt needs another one.
        [ "$service:$status" != manager:409 ] || rm -f "$API_KEY_FILE.nonce"
        case $id in *[!A-Za-z0-9._-]*) id='' ;; esac
        case $status$id in 200) status="not the manager's 200:" ;; esac
        if [ -z "$id" ] || [ -z "$key" ]; then
            answer="not enrolled: $answer"
            return 1
        fi
        if ! { printf '%s\n' "$id" | replace "$API_KEY_FILE.id"; } ||
            ! { printf '%s\n' "$key" | replace "$API_KEY_FILE"; }; then
            fails_with "$API_KEY_FILE cannot be written"
            return 1
        fi
        rm -f "$API_KEY_FILE.nonce"
        say "enrolled as $id"
    fi
    id=${CLIENT_ID:-}
    [ -n "$id" ] || id=$(cat "$API_KEY_FILE.id") || { fails_with "CLIENT_ID is not set"; return 1; }
}

# next_key: sets next to the key that was generated to replace the current one; fails if there is
# none. A key that was generated for another one is discarded: that one has been replaced since.
next_key() {
    [ -s "$API_KEY_FILE.next" ] || return 1
    read_key "$API_KEY_FILE" || return 1
    old='' next=''
    { read -r old && read -r next; } <"$API_KEY_FILE.next" || :
    [ "$old" != "$key" ] || [ -z "$next" ] || return 0
    rm -f "$API_KEY_FILE.next"
    return 1
}

# rotate: replaces the key. The next one is on the disk before the manager sees it: whatever
# becomes of a request, one of the two is valid.
rotate() {
    read_key "$API_KEY_FILE" || return 1
    if ! next_key; then
        next=$(head -c 32 /dev/urandom | base64 | tr -d '=\n' | tr '+/' '-_')
        printf '%s\n%s\n' "$key" "$next" | replace "$API_KEY_FILE.next" || return 1
    fi
    overlap=$(((period + 1) / 2))
    if [ "$overlap" -gt 86400 ] || [ "$period" -eq 0 ]; then overlap=86400; fi
    printf '{"overlap_seconds":%s,"new_api_key":"%s"}' "$overlap" "$next" >body
    post "/api/v1/clients/$id/rotate-key" "$key"
    # It may be in effect already, and the old one at its end.
    [ "$service:$status" != manager:401 ] || post "/api/v1/clients/$id/rotate-key" "$next"
    key=''
    [ "$status" != 200 ] || key=$(field new_api_key)
    rm -f body answer
    [ -n "$key" ] || { say "the key is not replaced yet: $status $answer"; return 1; }
    printf '%s\n' "$key" | replace "$API_KEY_FILE" || return 1
    rm -f "$API_KEY_FILE.next"
    say "replaced the key"
}

# rotate_if_due: replaces the key when it is due; after a failure it is tried again later.
rotate_if_due() {
    [ "$period" -gt 0 ] || return 0
    if [ $(($(now) - $(date -r "$API_KEY_FILE" +%s))) -ge "$period" ] || next_key; then
        rotate || :
    fi
}

# request FILE...: makes one request for these samples.
request() {
    if [ $# -eq 1 ]; then
        sed "s/^{/{\"headless\":$HEADLESS,/" "$1" >body
        set --
    else
        {
            printf '{"headless":%s,"samples":[' "$HEADLESS"
            cat "$@" | paste -sd , -
            printf ']}'
        } | gzip -c >body
        set -- --header "Content-Encoding: gzip"
    fi
    read_key "$API_KEY_FILE" || { fails_with "API_KEY_FILE does not contain exactly one API key"; return 0; }
    post "/api/v1/clients/$id/metrics" "$key" "$@"
    case $status$answer in
    200*'"status":"metrics_received"'*) ;;
    200*) status="200 not from the manager:" ;; # e.g. the page of a captive portal
    esac
}

reject() {
    { printf '%s: %s\n' "$status" "$answer" && cat "$1"; } | replace "rejected/${1##*/}"
    rm -f "$1"
    count rejected_total 1
    say "rejected a sample: $status $answer"
    set -- rejected/*.json
    [ $# -le "${QUEUE_MAX:-1440}" ] || rm -f "$1"
}

# rejected: succeeds if the manager itself, and not a proxy, will never accept these samples.
rejected() {
    case $service:$status in manager:400 | manager:413) ;; *) return 1 ;; esac
}

# deliver: sends the oldest samples in one request. The batch is halved to find a rejected sample,
# which is moved to the rejected ones.
most=250 # about 200 bytes each: a body has at most 64 KiB before compression
deliver() {
    # shellcheck disable=SC2046 # a list of names without blanks
    set -- $(printf '%s\n' waiting/*.json | head -n "$most")
    if ! enrol; then
        complain
        return 0
    fi
    request "$@"
    if [ "$service:$status" = manager:401 ] && next_key && rotate; then request "$@"; fi
    if [ "$status" = 200 ]; then
        rm -f "$@"
        count sent $#
        rm -f pause
        failures=0
        [ "$most" -ge 250 ] || most=$((most * 2))
        rotate_if_due
    elif rejected && [ $# -eq 1 ]; then
        reject "$1"
    else
        # The limit of a proxy may be lower than the manager's.
        if [ $# -gt 1 ] && { rejected || [ "$status" = 413 ]; }; then most=$(($# / 2)); fi
        rejected || complain
    fi
}

# complain: says why samples wait, and waits.
complain() {
    case $service:$status in
    :000) say "samples wait: $answer" ;;
    manager:*) say "samples wait: the manager responds $status $answer" ;;
    *) say "samples wait: an intermediary responds $status $answer" ;;
    esac
    back_off
}

# back_off: stores, for later runs too, how long to wait: Retry-After plus a random part of a pause
# that doubles with each failure.
back_off() {
    pause=1
    n=0
    while [ $n -lt "$failures" ] && [ "$pause" -lt "${MAX_PAUSE_SECONDS:-60}" ]; do
        pause=$((pause * 2)) n=$((n + 1))
    done
    [ "$pause" -le "${MAX_PAUSE_SECONDS:-60}" ] || pause=${MAX_PAUSE_SECONDS:-60}
    case $after in '' | *[!0-9]* | ?????*) after=0 ;; esac
    [ "$after" -le 3600 ] || after=3600
    [ "$after" -eq 0 ] || after=$((after + 1)) # now is rounded down
    failures=$((failures + 1))
    until=$(($(now) + after + $(random "$pause")))
    echo "$until $failures" | replace pause
}

start=$(now)
end=$((start + ${RUN_SECONDS:-45}))
failures=0 until=0 tried=no
[ ! -s pause ] || read -r until failures <pause
[ "$until" -le $((start + 7200)) ] || until=0 # the clock was set back
spread=$((start + $(place "${SPREAD_SECONDS:-20}")))
[ "$until" -ge "$spread" ] || until=$spread
take || exit 1
shorten
while [ -e "$(printf '%s\n' waiting/*.json | head -n 1)" ]; do
    left=$((until - $(now)))
    if [ "$until" -gt "$end" ] || { [ $tried = yes ] && [ "$(now)" -gt "$end" ]; }; then
        say "samples remain queued for a later run"
        exit 1
    fi
    [ "$left" -le 0 ] || sleep "$left" 9>&-
    deliver
    tried=yes
done
