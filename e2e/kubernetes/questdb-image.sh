#!/usr/bin/env bash
# questdb-image.sh JAR NAME: a Docker image of QuestDB made of this machine's Java,
# what it is linked with, and the jar, where no registry can be reached.
set -euo pipefail
jar=$1 name=$2
java=$(readlink -f "$(command -v java)")
home=$(dirname "$(dirname "$java")")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"/{opt,tmp,var/lib/questdb,etc}
# With what links point to: Debian keeps configuration and security files in /etc.
cp -rL --parents "$home" "$dir" 2>/dev/null || true
[[ -x $dir$java ]]
mapfile -t libraries < <(
  {
    find "$home" \( -name '*.so' -o -path "$java" \) -exec ldd {} + 2>/dev/null | awk '/=> \// { print $3 }'
    # QuestDB's own library is in the jar.
    ldconfig -p | awk '/lib(stdc\+\+|gcc_s|m|dl|rt|pthread|z|c)\.so\.[0-9]+ / && /x86-64|AArch64/ { print $NF }'
    ldd "$java" | awk '/ld-linux/ { print $1 }'
  } | sort -u | grep -v "^$home"
)
cp -L --parents "${libraries[@]}" "$dir"
cp "$jar" "$dir/opt/questdb.jar"
echo 'questdb:x:10001:10001::/var/lib/questdb:/bin/false' >"$dir/etc/passwd"
chmod 1777 "$dir/tmp"
cat >"$dir/Dockerfile" <<END
FROM scratch
COPY . /
USER 10001:10001
ENV LD_LIBRARY_PATH=$home/lib:$home/lib/server
ENTRYPOINT ["$java", "-XX:+UseSerialGC", "-Xmx256m", "-Djava.io.tmpdir=/tmp", "-p", "/opt/questdb.jar", "-m", "io.questdb/io.questdb.ServerMain", "-d", "/var/lib/questdb"]
END
DOCKER_BUILDKIT=0 docker build -q -t "$name" "$dir" >/dev/null
