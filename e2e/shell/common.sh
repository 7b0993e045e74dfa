# shellcheck shell=bash
# What the end-to-end tests in shell share; sourced by them, from the module's root.

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

# stop PID: ends a process and waits until it has.
stop() {
  kill -TERM "$1" && wait "$1"
}

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

# need_questdb: builds what runs a QuestDB on this machine, to build/questdb-server.
need_questdb() {
  go build -o build/questdb-server ./e2e/demo/questdb
  build/questdb-server fetch
}

# start_questdb DIR: with the keys of DIR/auth.txt, until the test ends. Sets QUESTDB_ILP
# and QUESTDB_PG, and PORT_1 and PORT_2, which are free.
start_questdb() {
  mkfifo "$1/life"
  build/questdb-server serve --auth "$1/auth.txt" --env "$1/env" <"$1/life" 2>"$1/questdb.log" &
  later stop "$!"
  exec 9>"$1/life"
  await 90 'QuestDB' test -e "$1/env"
  # shellcheck disable=SC1091 # written by the line above
  source "$1/env"
}
