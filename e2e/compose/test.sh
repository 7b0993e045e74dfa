#!/usr/bin/env bash
# Runs examples/compose.yaml as its README says, sees rows of its writer arrive in its
# QuestDB and its Prometheus watch, and ends it. Images that no registry gives are
# replaced by one that is made of Debian's packages and QuestDB's jar.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=e2e/shell/docker.sh
source e2e/shell/docker.sh

need curl curl
need python3 python3
need_docker
need_compose
dir=$(mktemp -d)
later rm -rf "$dir"
export SECRETS=$dir PROXY_IMAGE=questdb-ilp-proxy-test:compose
# The kernel chooses the ports on this machine.
export QUESTDB_PORT=0 ILP_PORT=0 STATUS_PORT=0 PROMETHEUS_PORT=0 GRAFANA_PORT=0
project=ilp-e2e-$$
files=(-f examples/compose.yaml)
compose() { "${compose[@]}" -p "$project" "${files[@]}" "$@"; }

say 'config'
equal 'what compose says of it' "$(compose --profile setup config -q 2>&1)" ''

say 'building the image'
need_buildx
need_go_image
build_image "$PROXY_IMAGE" "$dir/build.log"
later docker image rm "$PROXY_IMAGE"

# What cannot be had, and how the stand-in plays it.
declare -A plays=(
  [questdb]='["java", "-Xmx256m", "-p", "/questdb.jar", "-m", "io.questdb/io.questdb.ServerMain", "-d", "/var/lib/questdb"]'
  [telegraf]='["bash", "/play", "telegraf"]'
  [prometheus]='["prometheus"]'
  [grafana]='["bash", "/play", "grafana"]'
)
need_questdb
jar=$(echo build/questdb/questdb-9.*.jar)
standin=questdb-ilp-proxy-test:standin-$(basename "$jar" .jar)
echo 'services:' >"$dir/override.yaml"
for service in "${!plays[@]}"; do
  image=$(compose config --format json | python3 -c "import json, sys; print(json.load(sys.stdin)['services']['$service']['image'])")
  if have_image "$image" || timeout 120 docker pull -q "$image" >/dev/null 2>&1; then continue; fi
  say "no registry gives $image: another plays it"
  printf '  %s: {image: "%s", pull_policy: never, entrypoint: %s, volumes: ["%s:/play:ro"]}\n' \
    "$service" "$standin" "${plays[$service]}" "$PWD/e2e/compose/play.sh" >>"$dir/override.yaml"
done
if grep -q "$standin" "$dir/override.yaml"; then
  files+=(-f "$dir/override.yaml")
  if ! have_image "$standin"; then
    root=$dir/root
    later rm -rf "$root.new"
    debian "$root" openjdk-17-jre-headless prometheus wget
    cp "$jar" "$root/questdb.jar"
    tar -C "$root" -c . | docker import -c 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' - "$standin" >/dev/null
  fi
fi

say 'making the key and the passwords, as the README says'
later compose down -v --timeout 10
compose run --rm keygen 2>"$dir/run.log" || die "keygen: $(cat "$dir/run.log")"
compose run --rm -T authline >"$dir/auth.txt" 2>>"$dir/run.log" || die "authline: $(cat "$dir/run.log")"
grep -q '^writer ' "$dir/auth.txt" || die "auth.txt has: $(cat "$dir/auth.txt")"
head -c 18 /dev/urandom | base64 >"$dir/grafana-password"

say 'up'
explain compose ps -a
explain compose logs --tail 30
compose up -d --no-build --wait --wait-timeout 240 >"$dir/up.log" 2>&1 ||
  die "up failed: $(tail -n 20 "$dir/up.log")"
order=$(for service in proxy telegraf prometheus grafana; do
  docker inspect -f '{{.State.StartedAt}} {{index .Config.Labels "com.docker.compose.service"}}' "$(compose ps -q $service)"
done | sort | cut -d ' ' -f 2 | tr '\n' ' ')
[[ $order == proxy\ *prometheus\ *grafana* ]] || die "they started in the order $order"

url() { printf 'http://%s' "$(compose port "$1" "$2")"; }
sql() { curl -sS -G --data-urlencode "query=$1" "$(url questdb 9000)/exec"; }
rows() { sql "select count() from $1" | sed -n 's/.*"dataset":\[\[\([0-9]*\)\]\].*/\1/p'; }
has_rows() { (($(rows "$1") >= $2)); }

say 'rows of Telegraf, and of a writer on this machine'
await 60 'rows of Telegraf' has_rows cpu 3
ilp=$(compose port proxy 9009)
for i in {1..100}; do echo "here n=${i}i"; done >"/dev/tcp/${ilp%:*}/${ilp##*:}"
await 60 '100 rows' has_rows here 100
if compose exec -T telegraf bash -c 'timeout 5 bash -c "</dev/tcp/questdb/9009"' 2>/dev/null; then
  die 'a writer reaches QuestDB past the proxy'
fi

say 'Prometheus watches it, with the rules'
scraped() { curl -sS -G --data-urlencode 'query=questdb_ilp_proxy_records_received_total > 0' "$(url prometheus 9090)/api/v1/query" | grep -q '"value"'; }
await 60 'a sample of the proxy in Prometheus' scraped
rules=$(curl -sS "$(url prometheus 9090)/api/v1/rules")
alerts=$(grep -c 'alert:' alerts/questdb-ilp-proxy.rules.yaml)
equal 'alerts in Prometheus' "$(grep -o '"type":"alerting"' <<<"$rules" | wc -l)" "$alerts"
! grep -q '"health":"err"' <<<"$rules" || die "a rule fails: $rules"
curl -sS -o /dev/null -f "$(url grafana 3000)/api/health"

say 'down'
container=$(compose ps -q proxy)
compose stop telegraf proxy >"$dir/down.log" 2>&1
equal "the proxy's exit code" "$(docker inspect -f '{{.State.ExitCode}}' "$container")" 0
equal 'rows in the end' "$(rows here)" 100
compose down -v >>"$dir/down.log" 2>&1 || die "down failed: $(cat "$dir/down.log")"
equal 'containers left' "$(docker ps -aq --filter "label=com.docker.compose.project=$project")" ''
equal 'volumes left' "$(docker volume ls -q --filter "label=com.docker.compose.project=$project")" ''
say passed
