#!/usr/bin/env bash
# Builds one Debian package per daemon from its binary: hack/deb/build.sh BIN OUT. Needs dpkg-deb and strip, nothing else.
# A package holds the binary, a systemd unit, and /etc/default/DAEMON with the arguments (a conffile). Installing starts
# nothing and enables nothing; an upgrade restarts a daemon that runs. DEB_COMPRESS="-Zzstd -z1" is faster
# than the default xz, DEB_STRIP=: leaves line numbers in.
set -euo pipefail
bin=$(realpath "$1"); out=$2; here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=packages.sh
source "$here/packages.sh"
upstream=$("$bin/kubelet" --version | sed 's/.* v//')
own=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../../Cargo.toml" | head -1)
version=$upstream+corten$own
architecture=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=$(git -C "$here" log -1 --format=%ct 2>/dev/null || date +%s); export SOURCE_DATE_EPOCH
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
umask 022
mkdir -p "$out"

# The newest version of the C library that the programs ask for.
libc() { objdump -T "$@" 2>/dev/null | grep -o 'GLIBC_2\.[0-9]*' | sort -V | tail -1 | sed 's/GLIBC_//'; }

# Text of a maintainer script; $1 daemon.
postinst() {
  cat <<SCRIPT
#!/bin/sh
set -e
# Nothing is started or enabled here: \`systemctl enable --now $1\` does it, once certificates and arguments are in place.
if [ "\$1" = configure ] && [ -z "\$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  if [ -n "\$2" ]; then systemctl try-restart $1.service; fi
fi
SCRIPT
}
prerm() {
  cat <<SCRIPT
#!/bin/sh
set -e
if [ "\$1" = remove ] && [ -z "\$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
  systemctl disable --now $1.service
fi
SCRIPT
}
postrm() {
  cat <<SCRIPT
#!/bin/sh
set -e
# Data, certificates and kubeconfigs stay, even on purge: they are the cluster, not the package.
if [ -z "\$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
SCRIPT
}

control() {
  local daemon=$1 root=$2 needs=$3
  cat <<CONTROL
Package: corten-$daemon
Version: $version
Architecture: $architecture
Maintainer: Corten maintainers <corten@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: $needs${DEPENDS[$daemon]:+, ${DEPENDS[$daemon]}}
${RECOMMENDS[$daemon]:+Recommends: ${RECOMMENDS[$daemon]}
}Provides: $daemon (= $upstream)
Conflicts: $daemon
Replaces: $daemon
Section: admin
Priority: optional
Description: ${SUMMARY[$daemon]}, v$upstream, in Rust
 Takes the place of the upstream program of the same name: same flags, files,
 ports, metrics and bytes on the wire.
 .
 Installing it starts nothing.
CONTROL
}

for daemon in "${DAEMONS[@]}"; do
  root=$work/$daemon doc=$work/$daemon/usr/share/doc/corten-$daemon
  install -d "$root/DEBIAN" "$root/usr/bin" "$root/lib/systemd/system" "$root/etc/default" "$root/etc/kubernetes" "$doc"
  # shellcheck disable=SC2086
  for program in $daemon ${EXTRA[$daemon]:-}; do
    install -m 755 "$bin/$program" "$root/usr/bin/$program"
    # Names of functions stay: they are what a panic's backtrace says.
    ${DEB_STRIP:-strip --strip-debug} "$root/usr/bin/$program"
  done
  [ "$daemon" != kubelet ] || install -d "$root/etc/kubernetes/manifests" "$root/var/lib/kubelet"
  install -m 644 "$here/units/$daemon.service" "$root/lib/systemd/system/"
  install -m 644 "$here/default/$daemon" "$root/etc/default/"
  { echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"; echo
    echo "Files: *"; echo "Copyright: the Corten authors"; echo "License: Apache-2.0"; echo
    echo "License: Apache-2.0"; echo " The full text is in /usr/share/common-licenses/Apache-2.0."; } > "$doc/copyright"
  printf 'corten-%s (%s) unstable; urgency=medium\n\n  * Built from the sources.\n\n -- Corten maintainers <corten@localhost>  %s\n' \
    "$daemon" "$version" "$(date -uRd "@$SOURCE_DATE_EPOCH")" | gzip -9n > "$doc/changelog.gz"
  echo "/etc/default/$daemon" > "$root/DEBIAN/conffiles"
  for script in postinst prerm postrm; do
    "$script" "$daemon" > "$root/DEBIAN/$script"; chmod 755 "$root/DEBIAN/$script"
  done
  (cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
  control "$daemon" "$root" "libc6 (>= $(libc "$root"/usr/bin/*)), libgcc-s1" > "$root/DEBIAN/control"
  find "$root" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
  # shellcheck disable=SC2086
  dpkg-deb --root-owner-group ${DEB_COMPRESS:--Zxz} --build "$root" "$out/corten-${daemon}_${version}_$architecture.deb" >/dev/null
  echo "$out/corten-${daemon}_${version}_$architecture.deb"
done
