#!/bin/sh
# dpkg: "remove", "purge" and others. rpm: how many there are left; it has no purge.
set -e

if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
if [ "$1" = purge ]; then
  # The key and the rejected records, too.
  rm -rf /etc/questdb-ilp-proxy /var/lib/private/questdb-ilp-proxy
  rm -f /var/lib/questdb-ilp-proxy
  if getent group questdb-ilp-writers >/dev/null; then
    groupdel questdb-ilp-writers
  fi
fi
