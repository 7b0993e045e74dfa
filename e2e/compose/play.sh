# shellcheck shell=bash
# Plays, in a container, a program whose image cannot be had.
set -euo pipefail
case $1 in
telegraf)
  # Writes to where telegraf.conf says, one connection, and ends if nobody listens.
  address=$(sed -n 's|^ *address = "tcp://\(.*\)"|\1|p' /etc/telegraf/telegraf.conf)
  exec 3>"/dev/tcp/${address%:*}/${address##*:}"
  while :; do
    echo "cpu,cpu=cpu-total,host=$HOSTNAME usage_idle=98.5 $(date +%s%N)" >&3
    sleep 0.2
  done
  ;;
grafana)
  # Looks whether all that Grafana would read is there, and answers when asked.
  for file in /etc/grafana/provisioning/{datasources,dashboards}/questdb-ilp-proxy.yaml \
    /etc/grafana/dashboards/questdb-ilp-proxy.json "$GF_SECURITY_ADMIN_PASSWORD__FILE"; do
    [[ -s $file ]] || { echo "$file is not there" >&2; exit 1; }
  done
  exec perl -MIO::Socket::INET -e '
    $s = IO::Socket::INET->new(LocalPort => 3000, Listen => 8, ReuseAddr => 1) or die;
    while ($c = $s->accept) { <$c>; print $c "HTTP/1.0 200 OK\r\n\r\n{}"; close $c }'
  ;;
esac
