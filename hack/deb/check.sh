#!/usr/bin/env bash
# Checks packages that hack/deb/build.sh made: hack/deb/check.sh OUT. Fields and owners; every unit loads; all install into
# an empty root, their programs run there, and a purge leaves nothing but what the administrator changed or made.
set -euo pipefail
out=$(realpath "$1"); here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=packages.sh
source "$here/packages.sh"
root=$(mktemp -d); trap 'rm -rf "$root"' EXIT
failed=0
say() { echo "  $*"; failed=1; }
apt_dpkg() {
  # Scripts must not act on this machine: they look at DPKG_ROOT.
  dpkg --root="$root" --force-depends --force-not-root --force-script-chrootless --log="$root/log" "$@" > "$root/said" 2>&1 ||
    { cat "$root/said"; return 1; }
}
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/etc" "$root/var/lib/kubelet"
touch "$root/var/lib/dpkg/status"
for daemon in "${DAEMONS[@]}"; do
  deb=("$out"/corten-"${daemon}"_*.deb)
  [ ${#deb[@]} = 1 ] || { say "not one package of $daemon: ${deb[*]}"; continue; }
  for field in Package Version Architecture Maintainer Installed-Size Depends Provides Conflicts Section Description; do
    [ -n "$(dpkg-deb -f "${deb[0]}" $field)" ] || say "corten-$daemon has no $field"
  done
  dpkg-deb -f "${deb[0]}" Depends | grep -q 'libc6 (>= 2\.[0-9]' || say "corten-$daemon does not say which libc6 it needs"
  dpkg-deb -c "${deb[0]}" | awk '$2 != "root/root" {print "owner:", $0}' | grep . && failed=1
  dpkg-deb -c "${deb[0]}" | awk '$1 ~ /^.....w|^........w/ && $1 !~ /^l/ {print "writable by others:", $0}' | grep . && failed=1
  dpkg-deb -I "${deb[0]}" conffiles | grep -qx "/etc/default/$daemon" || say "/etc/default/$daemon is no conffile"
  for script in postinst prerm postrm; do
    dpkg-deb -I "${deb[0]}" $script | sh -n || say "$script of corten-$daemon is no script"
    dpkg-deb -I "${deb[0]}" $script | sed '/^#/d' | grep -Eq 'systemctl (start|enable|restart)' && say "$script of corten-$daemon starts something"
  done
  apt_dpkg --install "${deb[0]}" || say "corten-$daemon does not install"
  "$root/usr/bin/$daemon" --version | grep -q '^Kubernetes v1\.' || say "$daemon does not say its version"
  (cd "$root" && md5sum --quiet -c "var/lib/dpkg/info/corten-$daemon.md5sums") || say "corten-$daemon: files differ"
  # shellcheck disable=SC1090
  arguments=$(. "$root/etc/default/$daemon"; compgen -v | grep -E '_ARGS$' | while read -r v; do echo "${!v}"; done)
  # What is missing are the certificates; anything else it says is about the arguments themselves.
  # shellcheck disable=SC2086
  "$root/usr/bin/$daemon" --check-config $arguments > "$root/checked" 2>&1 || true
  grep -Ei 'unknown flag|invalid argument|must be|is required' "$root/checked" && say "/etc/default/$daemon has wrong arguments"
done
apt_dpkg --install "$out"/corten-kubelet_*.deb || say "installing a second time fails"
echo '# changed' >> "$root/etc/default/kube-proxy"
apt_dpkg --install "$out"/corten-kube-proxy_*.deb || say "an upgrade over a changed conffile fails"
tail -1 "$root/etc/default/kube-proxy" | grep -q changed || say "an upgrade overwrote a changed conffile"
if command -v systemd-analyze >/dev/null; then
  mkdir -p "$root/sbin" "$root/usr/lib/systemd"; cp -r /lib/systemd/system "$root/usr/lib/systemd/" 2>/dev/null || true
  for daemon in "${DAEMONS[@]}"; do
    # Units name programs of this root; of other units only the named ones matter.
    systemd-analyze verify --root="$root" --man=no --recursive-errors=no "/lib/systemd/system/$daemon.service" > "$root/verify" 2>&1 || true
    grep "$daemon.service" "$root/verify" && say "the unit of $daemon does not load"
  done
fi
installed=("${DAEMONS[@]/#/corten-}")
apt_dpkg --purge "${installed[@]}" || say "purging fails"
left=$(cd "$root" && find . -type f -regex '\./\(usr/bin\|lib\|etc\|usr/share\)/.*')
[ -z "$left" ] || say "a purge leaves: $left"
[ $failed = 0 ] && echo "${#DAEMONS[@]} packages checked, none failed"
exit $failed
