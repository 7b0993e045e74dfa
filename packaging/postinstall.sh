#!/bin/sh
# dpkg: "configure" and the version before, if any. rpm: how many there are now.
set -e

if command -v systemd-sysusers >/dev/null; then
  systemd-sysusers questdb-ilp-proxy.conf
fi
# Not enabled and not started: it cannot run before it has an upstream and a key.
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # What runs goes on as the new version, when it has delivered what it holds.
  # Where it does not start, the package is there all the same.
  systemctl try-restart questdb-ilp-proxy.service ||
    echo 'questdb-ilp-proxy.service did not start again: see journalctl -u questdb-ilp-proxy' >&2
fi
