#!/bin/sh
# Makes a small Debian of this machine's release in .parts/roots, and prints its folder: a system that
# has nothing but what our package depends on. It is the base of our image too.
#
#   scripts/clean_root.sh [--if-there]     with --if-there none is made: 1 when there is none
#
# As root, with mmdebstrap, from the package sources of this machine. It is made once: whoever writes
# to it lays a folder of their own over it.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
parts=${REGISTRYD_PARTS:-$root/.parts}
. "$root/scripts/apt-private.sh"

# What the package's Depends name (standalone: without systemd itself), and what every Debian has.
PACKAGES='base-files,base-passwd,bash,ca-certificates,coreutils,dash,debianutils,diffutils,dpkg,findutils
    grep,gzip,hostname,init-system-helpers,libc-bin,libstdc++6,login,ncurses-base,perl-base,python3,sed
    systemd-standalone-sysusers,systemd-standalone-tmpfiles,tar,util-linux'
. /etc/os-release
base=$parts/roots/${VERSION_CODENAME:-debian}-$(dpkg --print-architecture)-$(cksum <"$0" | cut -d ' ' -f 1)

make_root() {
    [ ! -d "$base" ] || return 0 # another was as quick
    say "making a clean Debian in $base"
    # shellcheck disable=SC2086 # a list of names
    sources=$(ls /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
        /etc/apt/sources.list.d/*.sources 2>/dev/null || :)
    # The lists of this machine are used where they are fresh; the root keeps none.
    lists=
    if lists_fresh /var/lib/apt/lists; then lists=yes; fi
    rm -rf "$parts"/roots/.partial.*
    partial=$parts/roots/.partial.$$
    # shellcheck disable=SC2086 # words
    mmdebstrap --quiet --mode=root --variant=custom --format=directory \
        --include="$(echo $PACKAGES | tr ' ' ,)" \
        --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        ${lists:+--skip=update} \
        ${lists:+"--setup-hook=cp -a /var/lib/apt/lists/. \"\$1\"/var/lib/apt/lists/"} \
        "$VERSION_CODENAME" "$partial" $sources >"$parts/roots/log" 2>&1 || {
        tail -n 15 "$parts/roots/log" >&2
        return 1
    }
    mv "$partial" "$base"
}

if [ ! -d "$base" ]; then
    [ "${1:-}" != --if-there ] || exit 1
    if ! is_root || ! have mmdebstrap; then
        say "a clean Debian is made by root, with mmdebstrap"
        exit 1
    fi
    mkdir -p "$parts/roots"
    (flock 9 && make_root) 9>"$parts/roots/lock" >&2
fi
echo "$base"
