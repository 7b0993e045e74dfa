# shellcheck shell=bash
# What the tests with Docker share; sourced by them, from the module's root.
#
# They run with whatever Docker is there. A daemon is started where none answers, and
# ended again. Docker's plugins are built from their Go modules where they are not
# installed, and images that no registry gives are made of Debian's packages.

BUILDX=v0.38.2
COMPOSE=v5.6.0

me=e2e-$(basename "$(dirname "$0")")
say() { printf '%s: %s\n' "$me" "$*"; }
die() {
  printf '%s: %s\n' "$me" "$*" >&2
  exit 1
}

# await SECONDS WHAT COMMAND...: runs the command every 0.2 s until it succeeds.
await() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "waited in vain for $what"
    sleep 0.2
  done
}

# equal WHAT GOT WANT
equal() {
  [[ $2 == "$3" ]] || die "$1 is '$2', want '$3'"
}

# later COMMAND...: to be run when the test ends, however it does; the last one first.
undo=()
later() { undo=("$(printf '%q ' "$@")" "${undo[@]}"); }
# explain COMMAND...: to be run when the test has failed, before anything is undone.
explanations=()
explain() { explanations+=("$(printf '%q ' "$@")"); }
finish() {
  local code=$? command
  trap - EXIT
  trap '' INT TERM HUP
  if ((code != 0)); then
    for command in "${explanations[@]}"; do eval "$command" >&2 || true; done
  fi
  for command in "${undo[@]}"; do eval "$command" >/dev/null 2>&1 || true; done
  ((code == 0)) || say "failed"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# need COMMAND PACKAGE
need() {
  command -v "$1" >/dev/null || die "needs $1, which is not here; on Debian: apt-get install $2"
}

# need_docker: a daemon answers, and buildx and compose are commands.
need_docker() {
  need docker docker.io
  mkdir -p build/tools
  if ! docker info >/dev/null 2>&1; then
    need dockerd docker.io
    ((EUID == 0)) || die 'no Docker daemon answers, and only root can start one'
    say 'starting dockerd'
    setsid dockerd >build/dockerd.log 2>&1 </dev/null &
    later stop "$!"
    await 60 'dockerd; see build/dockerd.log' docker info
  fi
}

# stop PID: ends a process and waits until it has.
stop() {
  kill -TERM "$1" && wait "$1"
}

# The commands that run Docker's plugins, once one of the functions below was called.
# shellcheck disable=SC2034 # the tests run them
buildx=(docker buildx) compose=(docker compose)
# plugin NAME MODULE VERSION PACKAGE: where Docker lacks this plugin it is built, in its
# own module, so that its replace directives count, and the array NAME is to be run.
plugin() {
  local -n command=$1
  if docker "$1" version >/dev/null 2>&1; then return; fi
  local built=$PWD/build/tools/docker-$1-$3 dir
  if [[ ! -x $built ]]; then
    say "building $1 $3"
    dir=$(go mod download -json "$2@$3" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    (cd "$dir" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$built.new" "$4")
    mv "$built.new" "$built"
  fi
  # shellcheck disable=SC2034 # by reference
  command=("$built")
}
need_buildx() { plugin buildx github.com/docker/buildx "$BUILDX" ./cmd/buildx; }
need_compose() { plugin compose github.com/docker/compose/v5 "$COMPOSE" ./cmd; }

go_image=
have_image() { docker image inspect "$1" >/dev/null 2>&1; }

# debian ROOT PACKAGE...: a Debian with these packages in the folder ROOT, which is
# made once on a machine and then unpacked.
debian() {
  local root=$1 packages archive
  shift
  need debootstrap debootstrap
  ((EUID == 0)) || die 'only root can make a Debian root (debootstrap)'
  printf -v packages '%s,' "$@"
  archive=$PWD/build/debian/bookworm,${packages%,}.tar
  if [[ ! -e $archive ]]; then
    mkdir -p "${archive%/*}"
    say "making a Debian with $*"
    debootstrap --variant=minbase --include="$packages" bookworm "$root.new" >"$archive.log" 2>&1 ||
      die "debootstrap failed: $(tail -n 3 "$archive.log")"
    rm -rf "$root.new"/var/cache/apt/archives "$root.new"/var/lib/apt/lists
    tar -C "$root.new" -c . >"$archive.new"
    rm -rf "$root.new"
    mv "$archive.new" "$archive"
  fi
  mkdir -p "$root"
  tar -C "$root" -x -f "$archive"
}

# need_go_image: sets go_image to the image that compiles: the Dockerfile's own where
# it can be had, else one made of this machine's Go and a Debian.
need_go_image() {
  go_image=$(sed -n 's/^ARG GO_IMAGE=//p' Dockerfile)
  if have_image "$go_image" || timeout 60 docker pull -q "$go_image" >/dev/null 2>&1; then return; fi
  local wanted=$go_image root
  go_image=go-of-this-machine:$(go env GOVERSION)
  if have_image "$go_image"; then return; fi
  say "no registry gives $wanted: making $go_image of this machine's Go"
  root=$(mktemp -d)
  later rm -rf "$root" "$root.new"
  debian "$root" ca-certificates
  cp -a "$(go env GOROOT)" "$root/usr/local/go"
  # What this machine trusts, its builds have to trust as well.
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  tar -C "$root" -c . | docker import \
    -c "ENV PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin GOPATH=/go GOTOOLCHAIN=local GOPROXY=$(go env GOPROXY)" \
    - "$go_image" >/dev/null
  rm -rf "$root"
}

# build_image TAG LOG OPTION...: the same version everywhere, so that the second test
# finds in Docker's cache what the first has built.
version=v0.0.0-test commit=0123456789ab
build_image() {
  local tag=$1 log=$2
  shift 2
  "${buildx[@]}" build --load --progress plain -t "$tag" --build-arg "GO_IMAGE=$go_image" \
    --build-arg "VERSION=$version" --build-arg "COMMIT=$commit" "$@" . >"$log" 2>&1 ||
    die "the build failed: $(tail -n 20 "$log")"
}

# need_questdb: builds what runs a QuestDB on this machine, to build/questdb-server.
need_questdb() {
  go build -o build/questdb-server ./e2e/demo/questdb
  build/questdb-server fetch
}
