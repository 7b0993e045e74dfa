#!/bin/sh
# dpkg: "remove", or "upgrade" and more. rpm: how many there will be.
set -e

case "$1" in
remove | 0)
  if [ -d /run/systemd/system ]; then
    # The service ends when it has delivered what it holds.
    systemctl disable --now questdb-ilp-proxy.socket questdb-ilp-proxy.service ||
      echo 'questdb-ilp-proxy: its units were not disabled, or did not stop: see systemctl status' >&2
  elif command -v systemctl >/dev/null; then
    systemctl disable questdb-ilp-proxy.socket questdb-ilp-proxy.service || true
  fi
  ;;
esac
