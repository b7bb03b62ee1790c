# Sourced by setup.sh and parts.sh: Debian packages, with root's rights or without.
# What apt-get says goes to $parts/apt.log, and its end is shown when it fails.
# shellcheck shell=sh

say() { printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2; }

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" = 0 ]; }

# The package lists are there, and at most a week old.
lists_fresh() {
    [ -n "$(find "$1" -maxdepth 1 -name '*Packages*' -mtime -7 2>/dev/null | head -n 1)" ]
}

# apt_install PACKAGE...: as root, into the system; starts no service.
apt_install() {
    mkdir -p "$parts"
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 0755 /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        trap 'exit 130' INT TERM HUP
    fi
    _alone _fetch _apt /var/lib/apt/lists "$@"
}

# apt_unpack PACKAGE...: as anyone, with all that is missing on this system, into $parts/root.
apt_unpack() {
    mkdir -p "$parts/apt/state/lists/partial" "$parts/apt/cache/archives/partial" "$parts/root"
    _alone _unpack "$@"
}

_unpack() {
    _fetch _apt_own "$parts/apt/state/lists" "$@" || return
    for deb in "$parts"/apt/cache/archives/*.deb; do
        [ -f "$deb" ] || continue
        dpkg -x "$deb" "$parts/root" || return
        rm -f "$deb"
    done
}

# _alone COMMAND...: setup.sh and parts.sh may run side by side; the second one waits.
_alone() (
    ! have flock || flock 9
    "$@"
) 9>"$parts/apt.lock"

# _fetch APT LISTS PACKAGE...: lists that are not old can still name packages that are gone.
_fetch() {
    apt=$1 lists=$2
    shift 2
    : >"$parts/apt.log"
    if lists_fresh "$lists" && "$apt" install "$@"; then return; fi
    "$apt" update && "$apt" install "$@" && return
    tail -n 15 "$parts/apt.log" >&2
    return 1
}

_apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends \
        -o Acquire::Languages=none -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        "$@" </dev/null >>"$parts/apt.log" 2>&1
}

_apt_own() {
    _apt -o Debug::NoLocking=1 -o Dir::State="$parts/apt/state" -o Dir::Cache="$parts/apt/cache" \
        -o Dir::State::status=/var/lib/dpkg/status -o Dir::Log="$parts/apt" \
        -o APT::Sandbox::User=root --download-only "$@"
}

# The time that what is built bears: SOURCE_DATE_EPOCH, that of the commit, or of the source archive.
source_time() {
    if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
        echo "$SOURCE_DATE_EPOCH"
    elif [ -e "$root/.git" ] && have git; then
        git -C "$root" log -1 --format=%ct
    else
        stat -c %Y "$root/pyproject.toml"
    fi
}
