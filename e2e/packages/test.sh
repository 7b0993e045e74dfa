#!/usr/bin/env bash
# Installs the packages in a clean Debian, boots it with its own systemd in front of a
# real QuestDB on this machine, writes, upgrades, and purges. Then the same package
# for rpm, as far as it goes without a distribution that has it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=e2e/shell/common.sh
source e2e/shell/common.sh

((EUID == 0)) || die 'only root can make a root folder and boot it'
need debootstrap debootstrap
need systemd-nspawn systemd-container
need rpm rpm
need_questdb

dir=$(mktemp -d)
later rm -rf "$dir"
arch=$(go env GOARCH)

say 'making the packages, of two versions'
# The newest last: it stays in build/package, and the other's packages are taken away.
for version in v0.0.1 v0.0.2; do
  make --no-print-directory -s packages VERSION=$version PACKAGE_ARCHS="$arch" DIST="$dir/$version" >"$dir/make.log" 2>&1 ||
    die "make packages failed: $(tail -n 20 "$dir/make.log")"
done
old=$(echo "$dir"/v0.0.1/*.deb) new=$(echo "$dir"/v0.0.2/*.deb) rpm=$(echo "$dir"/v0.0.2/*.rpm)

# in ROOT COMMAND...: without a single variable of this environment.
in_root() {
  local root=$1
  shift
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" "$@"
}
# look ROOT: what both packages must have brought.
look() {
  local root=$1 page
  [[ $(in_root "$root" questdb-ilp-proxy version) == "questdb-ilp-proxy v0.0."* ]] || die 'the binary does not run'
  in_root "$root" systemd-analyze verify --man=no /usr/lib/systemd/system/questdb-ilp-proxy.{service,socket} >"$dir/verify" 2>&1 ||
    die "systemd-analyze verify: $(cat "$dir/verify")"
  equal 'what systemd-analyze verify says' "$(grep questdb "$dir/verify" || true)" ''
  for page in docs/man/*.1; do
    gzip -dc "$root/usr/share/man/man1/${page##*/}.gz" | cmp - "$page" || die "the page $page is not there"
  done
  bash -n "$root/usr/share/bash-completion/completions/questdb-ilp-proxy"
  equal 'the mode of the configuration' "$(stat -c '%a %U' "$root/etc/questdb-ilp-proxy/env")" '600 root'
  in_root "$root" getent group questdb-ilp-writers >/dev/null || die 'the group of the writers is not there'
}
# left ROOT: files that remind of the package.
left() {
  find "$1" -xdev -not -path "$1/e2e*" -not -path "$1/proc/*" -not -path "$1/var/log/*" -iname '*questdb*' -printf '/%P ' | sed 's/ $//'
}

say 'the .deb in a clean Debian'
root=$dir/debian
later rm -rf "$root.new"
debian "$root" systemd systemd-sysv
mkdir "$root/e2e"
cp "$old" "$root/e2e/old.deb"
cp "$new" "$root/e2e/new.deb"
in_root "$root" dpkg -i /e2e/old.deb >"$dir/dpkg.log" 2>&1 || die "dpkg -i failed: $(cat "$dir/dpkg.log")"
look "$root"
equal 'what differs from the package' "$(in_root "$root" dpkg -V questdb-ilp-proxy)" ''
in_root "$root" questdb-ilp-proxy keygen --kid packaged --out /etc/questdb-ilp-proxy/key.jwk
in_root "$root" questdb-ilp-proxy authline /etc/questdb-ilp-proxy/key.jwk >"$dir/auth.txt"

say 'booting it in front of QuestDB'
start_questdb "$dir"
cp e2e/packages/inside.sh "$root/e2e/inside.sh"
cat >>"$root/etc/questdb-ilp-proxy/env" <<END
ILP_UPSTREAM=$QUESTDB_ILP
ILP_LISTEN=127.0.0.1:$PORT_1
ILP_ADMIN=127.0.0.1:$PORT_2
END
cat >"$root/etc/systemd/system/e2e.service" <<END
[Unit]
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=oneshot
Environment=WRITE=$PORT_1 ILP_ADMIN=127.0.0.1:$PORT_2
ExecStart=/bin/bash /e2e/inside.sh
StandardOutput=file:/e2e/out
StandardError=inherit
[Install]
WantedBy=multi-user.target
END
in_root "$root" systemctl enable e2e.service 2>/dev/null
# It shares this machine's network, and so reaches QuestDB on its loopback.
SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout 180 systemd-nspawn -q -M "ilp-e2e-$$" -D "$root" --boot \
  --register=no --keep-unit --console=pipe </dev/null >"$dir/boot.log" 2>&1 ||
  die "it did not boot, or did not end: $(tail -n 20 "$dir/boot.log"; cat "$root/e2e/out")"
[[ $(tail -n 1 "$root/e2e/out") == passed ]] || die "inside: $(cat "$root/e2e/out")"
sed -n 's/^say: /   /p' "$root/e2e/out"
rows() { build/questdb-server sql "$QUESTDB_PG" "select count() from packaged where origin = '$1'" | tail -n 1; }
for origin in service upgraded socket unix; do
  has_rows() { [[ $(rows "$origin") == 100 ]]; }
  await 30 "100 rows of $origin" has_rows
done
equal 'what is left after purge' "$(left "$root")" ''
! in_root "$root" getent group questdb-ilp-writers >/dev/null || die 'the group of the writers is left after purge'

say 'the .rpm in a clean Debian'
root=$dir/rpm
debian "$root" systemd systemd-sysv
mkdir "$root/e2e"
cp "$rpm" "$root/e2e/"
rpm=(rpm --root "$root" --dbpath /var/lib/rpm)
"${rpm[@]}" --initdb 2>/dev/null
# Nothing there is known to rpm, such as the shell that its scripts need.
"${rpm[@]}" -i --nodeps "$root"/e2e/*.rpm >"$dir/rpm.log" 2>&1 || die "rpm -i failed: $(cat "$dir/rpm.log")"
look "$root"
equal 'what differs from the package' "$("${rpm[@]}" -V --nodeps questdb-ilp-proxy 2>/dev/null)" ''
cmp LICENSE "$root/usr/share/licenses/questdb-ilp-proxy/LICENSE"
equal 'the licence' "$("${rpm[@]}" -q --qf '%{LICENSE}' questdb-ilp-proxy 2>/dev/null)" Apache-2.0
echo '# changed' >>"$root/etc/questdb-ilp-proxy/env"
"${rpm[@]}" -e questdb-ilp-proxy 2>"$dir/erase.log" || die "rpm -e failed: $(cat "$dir/erase.log")"
equal 'what is left of it' "$(left "$root")" '/etc/questdb-ilp-proxy'
equal 'what is left of the configuration' "$(ls "$root/etc/questdb-ilp-proxy")" env.rpmsave
say passed
