#!/usr/bin/env bash
# Builds the image as the Dockerfile says it, looks at what came out, and runs it as it
# should be run, without any right, in front of a real QuestDB on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=e2e/shell/docker.sh
source e2e/shell/docker.sh

need_docker
need_buildx
need_go_image
need_questdb

dir=$(mktemp -d)
later rm -rf "$dir"
image=questdb-ilp-proxy-test:$$
later docker image rm -f "$image" "$image-arm64"

# Without the cache, so that two builds are two.
build() { build_image "$1" "$dir/build.log" --no-cache "${@:2}"; }
# binary TAG FILE: copies the image's binary out of it.
binary() {
  local container
  container=$(docker create --platform "$(inspect "$1" '{{.Os}}/{{.Architecture}}')" "$1")
  docker cp "$container:/questdb-ilp-proxy" "$2"
  docker rm "$container" >/dev/null
}
digest() { sha256sum "$1" | cut -d ' ' -f 1; }
inspect() { docker image inspect -f "$2" "$1"; }

say 'building twice, and once for arm64'
build "$image" && binary "$image" "$dir/first"
build "$image" && binary "$image" "$dir/second"
build "$image-arm64" --platform linux/arm64 && binary "$image-arm64" "$dir/arm64"
equal 'the binary of the second build' "$(digest "$dir/second")" "$(digest "$dir/first")"
# The same compiler in another folder, without Docker: the Dockerfile and the Makefile agree.
if [[ $(go version "$dir/first" | cut -d ' ' -f 2) == "$(go env GOVERSION)" ]]; then
  make --no-print-directory -s build VERSION=$version COMMIT=$commit
  equal 'the binary of make build' "$(digest bin/questdb-ilp-proxy)" "$(digest "$dir/first")"
fi

say 'looking at it'
size=$(inspect "$image" '{{.Size}}')
((size <= 15000000)) || die "the image has $size bytes, more than 15 MB"
equal 'its user' "$(inspect "$image" '{{.Config.User}}')" 65532:65532
equal 'its version' "$(inspect "$image" '{{index .Config.Labels "org.opencontainers.image.version"}}')" $version
equal 'its revision' "$(inspect "$image" '{{index .Config.Labels "org.opencontainers.image.revision"}}')" $commit
equal 'its licence' "$(inspect "$image" '{{index .Config.Labels "org.opencontainers.image.licenses"}}')" Apache-2.0
equal 'its platform' "$(inspect "$image" '{{.Os}}/{{.Architecture}}')" "linux/$(go env GOARCH)"
equal 'the other platform' "$(inspect "$image-arm64" '{{.Os}}/{{.Architecture}}')" linux/arm64
equal "the other binary's architecture" "$(go version -m "$dir/arm64" | sed -n 's/.*GOARCH=//p')" arm64
equal 'its files' "$(docker create "$image" | tee "$dir/id" | xargs docker export | tar -t |
  grep -E '^(LICENSE|questdb-ilp-proxy|var/lib/|bin/|usr/|lib/)' | sort | tr '\n' ' ')" \
  'LICENSE questdb-ilp-proxy var/lib/ var/lib/questdb-ilp-proxy/ '
docker rm "$(cat "$dir/id")" >/dev/null
said=$(docker run --rm --network none "$image" version)
[[ $said == "questdb-ilp-proxy $version (commit $commit, "* ]] || die "it says that it is $said"

say 'making a key in a volume, with the image itself'
volume=$(docker volume create)
later docker volume rm -f "$volume"
locked=(--read-only --cap-drop ALL --security-opt no-new-privileges)
docker run --rm "${locked[@]}" --network none -v "$volume:/var/lib/questdb-ilp-proxy" "$image" \
  keygen --kid writer --out /var/lib/questdb-ilp-proxy/writer.jwk
docker run --rm "${locked[@]}" --network none -v "$volume:/var/lib/questdb-ilp-proxy:ro" "$image" \
  authline /var/lib/questdb-ilp-proxy/writer.jwk >"$dir/auth.txt"

say 'starting QuestDB with its public half, and the proxy'
start_questdb "$dir"
proxy=$(docker run -d "${locked[@]}" --network host --stop-timeout 30 -v "$volume:/var/lib/questdb-ilp-proxy" \
  -e ILP_LISTEN="127.0.0.1:$PORT_1" -e ILP_ADMIN="127.0.0.1:$PORT_2" -e ILP_UPSTREAM="$QUESTDB_ILP" \
  -e ILP_AUTH_JWK_FILE=/var/lib/questdb-ilp-proxy/writer.jwk \
  -e ILP_REJECTED_FILE=/var/lib/questdb-ilp-proxy/rejected.jsonl "$image")
later docker rm -f "$proxy"
explain docker logs --tail 30 "$proxy"
# exec runs where the proxy runs, as its probes do.
await 30 'the proxy' docker exec "$proxy" /questdb-ilp-proxy ready
send() { timeout 10 bash -c "cat >/dev/tcp/127.0.0.1/$PORT_1"; }
rows() { build/questdb-server sql "$QUESTDB_PG" "select count() from image where origin = '$1'" 2>/dev/null | tail -n 1; }
has_rows() { [[ $(rows "$1") == "$2" ]]; }

say 'sending rows'
for i in {1..100}; do echo "image,origin=early n=${i}i"; done | send
await 30 '100 rows' has_rows early 100

say 'waiting for its health check'
healthy() { [[ $(docker inspect -f '{{.State.Health.Status}}' "$proxy") == healthy ]]; }
await 40 'a healthy container' healthy

say 'stopping it behind rows that were just sent'
for i in {1..1000}; do echo "image,origin=late n=${i}i"; done | send
docker stop "$proxy" >/dev/null
equal 'its exit code' "$(docker inspect -f '{{.State.ExitCode}}' "$proxy")" 0
await 30 'the rows sent last' has_rows late 1000
equal 'rows in all' "$(rows early) $(rows late)" '100 1000'
say "passed: $((size / 1000)) kB, binary sha256:$(digest "$dir/first") twice"
