#!/usr/bin/env bash
# Runs as root in the booted Debian, where the older package is installed and
# configured. It prints "passed" last, or what failed.
set -euo pipefail
trap 'echo "line $LINENO failed"; journalctl -o cat --no-pager -u questdb-ilp-proxy.service | tail -n 30' ERR

send() {
  local i
  for i in {1..100}; do echo "packaged,origin=$1 n=${i}i"; done
}
tcp() { cat >"/dev/tcp/127.0.0.1/$WRITE"; }
state() { systemctl show -p "$1" --value questdb-ilp-proxy.service; }

# As it is when installed: neither runs nor starts with the machine.
[[ $(systemctl is-active questdb-ilp-proxy.service) == inactive ]]
[[ $(systemctl is-enabled questdb-ilp-proxy.service) == disabled ]]

systemctl enable --now questdb-ilp-proxy.service
questdb-ilp-proxy wait --timeout 30s
send service | tcp
systemd-analyze security questdb-ilp-proxy.service --no-pager --threshold=15 >/dev/null # 1.5 of 10
echo "say: $(systemd-analyze security questdb-ilp-proxy.service --no-pager | tail -n 1 | sed 's/[^ -~]*//g')"
# No user was made for it.
uid=$(stat -c %u "/proc/$(state MainPID)")
echo "say: runs as uid $uid"
((uid >= 61184 && uid <= 65519)) # the range of dynamic users
[[ -d /var/lib/private/questdb-ilp-proxy ]]

# An upgrade keeps the configuration, and what runs is the new version.
before=$(state MainPID)
dpkg -i /e2e/new.deb
[[ $(state MainPID) != "$before" && $(state ActiveState) == active ]]
[[ $(questdb-ilp-proxy version) == 'questdb-ilp-proxy v0.0.2 '* ]]
questdb-ilp-proxy wait --timeout 30s
systemctl reload questdb-ilp-proxy.service
[[ $(state ActiveState) == active ]]
send upgraded | tcp

# systemd opens the sockets. The port is the test's: another may have 9009.
systemctl stop questdb-ilp-proxy.service
[[ $(state Result) == success && $(state ExecMainStatus) == 0 ]]
sed -i 's|^ILP_LISTEN=.*|ILP_LISTEN=systemd://|' /etc/questdb-ilp-proxy/env
mkdir /etc/systemd/system/questdb-ilp-proxy.socket.d
printf '[Socket]\nListenStream=\nListenStream=127.0.0.1:%s\nListenStream=/run/questdb-ilp-proxy.sock\n' "$WRITE" \
  >/etc/systemd/system/questdb-ilp-proxy.socket.d/test.conf
systemctl daemon-reload
systemctl enable --now questdb-ilp-proxy.socket
send socket | tcp # starts the service
questdb-ilp-proxy wait --timeout 30s
unix() {
  # shellcheck disable=SC2016 # it is Perl's
  setpriv --reuid nobody --regid "$1" --clear-groups perl -MIO::Socket::UNIX -e \
    '$s = IO::Socket::UNIX->new("/run/questdb-ilp-proxy.sock") or exit 3; print $s <STDIN>; close $s or exit 4'
}
send unix | unix questdb-ilp-writers
code=0
send unix | unix nogroup || code=$?
[[ $code == 3 ]]

# Removal ends it, with everything delivered; purge leaves nothing.
dpkg --remove questdb-ilp-proxy
[[ ! -e /usr/bin/questdb-ilp-proxy && -e /etc/questdb-ilp-proxy/key.jwk ]]
journalctl -o cat --no-pager -u questdb-ilp-proxy.service | grep -q 'Deactivated successfully'
rm -r /etc/systemd/system/questdb-ilp-proxy.socket.d
dpkg --purge questdb-ilp-proxy
systemctl list-unit-files --no-pager | grep questdb && exit 1
echo passed
