#!/usr/bin/env bash
# Shows the proxy at work in front of a real QuestDB that demands authentication.
#
# Everything it makes is in a temporary folder of its own, every port is the
# kernel's choice: it can run twice at once, and be interrupted. Set PROXY to a
# binary to show that one instead of building.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

bold='' dim='' off=''
if [[ -t 1 ]]; then bold=$'\e[1m' dim=$'\e[2m' off=$'\e[0m'; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
say() { printf '   %s\n' "$*"; }
indent() { sed 's/^/   /'; }
die() {
  printf '\ndemo: %s\n' "$*" >&2
  exit 1
}

# needs names everything that is missing, with the command that installs it.
needs() {
  local missing=0
  lack() {
    printf 'demo: needs %s, which is not here: %s\n' "$1" "$2" >&2
    missing=1
  }
  # An older Go since 1.21 fetches the one that go.mod asks for by itself.
  if ! { command -v go && go list -m; } >/dev/null 2>&1; then
    lack 'Go 1.26 or newer' 'snap install go --classic (or see go.dev/doc/install)'
  fi
  local java="${JAVA_HOME:+$JAVA_HOME/bin/}java" major=0
  if command -v "$java" >/dev/null; then
    major=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
  fi
  if ((${major:-0} < 17)); then
    lack 'Java 17 or newer' 'apt-get install openjdk-17-jre-headless (or openjdk-21-jre-headless)'
  fi
  if ! compgen -G 'build/questdb/questdb-9.*.jar' >/dev/null && ! command -v mvn >/dev/null; then
    lack 'Maven' 'apt-get install maven'
  fi
  ((missing == 0)) || exit 1
}

# send writes standard input to HOST:PORT in plain text and shows what comes
# back, as any shell script would do it.
send() {
  local host=${1%:*} port=${1##*:}
  if [[ $netcat == nc ]]; then
    timeout 10 nc -w 1 "$host" "$port" 9>&-
  else
    exec 3<>"/dev/tcp/$host/$port" || return 1
    cat >&3
    timeout 1 cat <&3 9>&- || true # until the other side closes, or has been quiet
    exec 3>&-
  fi
}

# http_get prints the answer to GET http://HOST:PORT/PATH, headers and all.
http_get() (
  exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || return 1
  printf 'GET %s HTTP/1.0\r\nHost: %s\r\n\r\n' "$2" "$1" >&3
  timeout 2 cat <&3
) 2>/dev/null

# await runs a command every 0.1 s until it succeeds, at most so many seconds
# and as long as the process lives.
await() {
  local seconds=$1 pid=$2
  shift 2
  local end=$((SECONDS + seconds))
  until "$@"; do
    kill -0 "$pid" 2>/dev/null || return 1
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}

sql() { "$dir/questdb" sql "$QUESTDB_PG" "$1"; }
count() { sql "select count() from tables() where table_name = 'trades'" | tail -n 1; }
rows() { sql 'select count() from trades' 2>/dev/null | tail -n 1; }
ready() { [[ $(http_get "$1" /readyz) == *' 200 '* ]]; }
has_rows() { [[ $(rows) == "$1" ]]; }

dir='' proxy_pid='' questdb_pid=''
# stop ends one process politely and waits for it; its exit code is ours.
stop() {
  local pid=$1
  [[ -n $pid ]] || return 0
  kill -TERM "$pid" 2>/dev/null || true
  wait "$pid"
}
cleanup() {
  local code=$?
  trap - EXIT
  trap '' INT TERM HUP # a second Ctrl-C must not leave half of it
  stop "$proxy_pid" 2>/dev/null || true
  stop "$questdb_pid" 2>/dev/null || true
  [[ -z $dir ]] || rm -rf -- "$dir"
  exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

needs
netcat=/dev/tcp
if command -v nc >/dev/null; then netcat=nc; fi
# What the surroundings configure is not this proxy's.
unset "${!ILP_@}" QDB_CLIENT_CONF
dir=$(mktemp -d "${TMPDIR:-/tmp}/ilp-demo.XXXXXXXX")

step '1. Build the proxy, fetch QuestDB'
proxy=${PROXY:-}
if [[ -z $proxy ]]; then
  make --no-print-directory -s build
  proxy=bin/questdb-ilp-proxy
fi
# A copy, so that building it anew meanwhile cannot disturb this run.
cp -- "$proxy" "$dir/questdb-ilp-proxy"
proxy=$dir/questdb-ilp-proxy
go build -o "$dir/questdb" ./e2e/demo/questdb
"$dir/questdb" fetch
"$proxy" version | indent

step '2. Make a key pair; QuestDB gets the public half'
say "$dim\$ questdb-ilp-proxy keygen --kid demo --out key.json$off"
"$proxy" keygen --kid demo --out "$dir/key.json" | indent
say "$dim\$ questdb-ilp-proxy authline key.json > auth.txt$off"
"$proxy" authline "$dir/key.json" >"$dir/auth.txt"
indent <"$dir/auth.txt"

step '3. Start QuestDB with that auth.txt'
# Should this script be killed, the pipe closes and QuestDB is stopped.
mkfifo "$dir/life"
"$dir/questdb" serve --auth "$dir/auth.txt" --env "$dir/env" <"$dir/life" 2>"$dir/questdb.err" &
questdb_pid=$!
exec 9>"$dir/life"
await 90 "$questdb_pid" test -e "$dir/env" || die "QuestDB did not start: $(cat "$dir/questdb.err")"
# shellcheck disable=SC1091 # written by the line above
source "$dir/env"
say "ILP with authentication on $QUESTDB_ILP"

cat >"$dir/rows" <<'ROWS'
trades,symbol=BTC-USD,side=buy price=98412.5,amount=0.011 1767225600000000000
trades,symbol=BTC-USD,side=sell price=98409.0,amount=0.25 1767225601000000000
trades,symbol=ETH-USD,side=buy price=3391.75,amount=1.5 1767225602000000000
trades,symbol=ETH-USD,side=sell price=3391.5,amount=0.04 1767225603000000000
trades,symbol=SOL-USD,side=buy price=188.22,amount=12 1767225604000000000
ROWS

step '4. Send five rows straight to QuestDB, as a writer without a key would'
say "$dim\$ $netcat $QUESTDB_ILP < rows$off"
answer=$(send "$QUESTDB_ILP" <"$dir/rows" 2>/dev/null || true)
say "QuestDB answers with a challenge, and takes no row:"
say "   ${answer:0:60}..."
sleep 1.5 # it commits within a second or so
[[ $(count) == 0 ]] || die 'QuestDB took rows from a writer without a key'
say 'Refused: there is no table "trades".'

step '5. Start the proxy with the key'
ilp=127.0.0.1:$PORT_1 admin=127.0.0.1:$PORT_2
for line in "ILP_LISTEN=tcp://$ilp" "ILP_UPSTREAM=tcp://$QUESTDB_ILP" 'ILP_AUTH_JWK_FILE=key.json' "ILP_ADMIN=$admin"; do
  say "$dim$line$off"
done
ILP_LISTEN=tcp://$ilp ILP_UPSTREAM=tcp://$QUESTDB_ILP ILP_AUTH_JWK_FILE=$dir/key.json ILP_ADMIN=$admin \
  "$proxy" serve 2>"$dir/proxy.log" 9>&- &
proxy_pid=$!
await 20 "$proxy_pid" ready "$admin" ||
  die "the proxy is not ready: $(http_get "$admin" /readyz | tail -n 1); its log: $(cat "$dir/proxy.log")"
say "/readyz says 200: it holds a connection that QuestDB has authenticated."

step '6. Send the same five rows to the proxy'
say "$dim\$ $netcat $ilp < rows$off"
send "$ilp" <"$dir/rows"
await 30 "$proxy_pid" has_rows 5 || die "the table has $(rows) rows, not 5; the proxy's log: $(cat "$dir/proxy.log")"

step '7. Look at them by SQL'
say "$dim> select * from trades$off"
sql 'select * from trades' | indent

step '8. Stop both'
pid=$proxy_pid proxy_pid=''
stop "$pid" || die "the proxy exited with code $?, its log: $(cat "$dir/proxy.log")"
say 'The proxy stopped: exit code 0.'
pid=$questdb_pid questdb_pid=''
stop "$pid" || die "stopping QuestDB: $(cat "$dir/questdb.err")"
say "QuestDB stopped, its folder is gone. That took $SECONDS s in all."
