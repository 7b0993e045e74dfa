# shellcheck shell=bash
# What the tests with Docker share; sourced by them, from the module's root.
#
# They run with whatever Docker is there. A daemon is started where none answers, and
# ended again. Docker's plugins are built from their Go modules where they are not
# installed, and images that no registry gives are made of Debian's packages.

# shellcheck source=e2e/shell/common.sh
source e2e/shell/common.sh

BUILDX=v0.38.2
COMPOSE=v5.6.0

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
