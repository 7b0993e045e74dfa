#!/usr/bin/env bash
# Unpacks Debian packages, and what they need that is not installed, into
# build/writers/PACKAGE: rsyslog and syslog-ng cannot both be installed, and
# installing them would make them this machine's own log services.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v apt-get >/dev/null || { echo "unpack.sh: no apt-get here; install $* as this system does" >&2; exit 1; }
for package; do
  dir=build/writers/$package
  [[ -e $dir ]] && continue
  mkdir -p build/writers
  new=$(mktemp -d "$PWD/build/writers/.unpack.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  mkdir -p "$new/debs/partial" "$new/root"
  # It downloads only, into a folder of ours, and so needs neither root nor a lock.
  apt-get install -qq -y --no-install-recommends --download-only --reinstall \
    -o Debug::NoLocking=true -o Dir::Cache::archives="$new/debs" -o APT::Sandbox::User= "$package" >/dev/null ||
    { echo "unpack.sh: $package cannot be had; first: apt-get update" >&2; exit 1; }
  for deb in "$new"/debs/*.deb; do dpkg-deb -x "$deb" "$new/root"; done
  mv "$new/root" "$dir"
  rm -rf "$new"
done
