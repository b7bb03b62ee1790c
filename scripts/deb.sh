#!/bin/sh
# Builds dist/registryd_VERSION_ARCH.deb from the source archive and the wheel that scripts/dist.sh
# makes, and from the wheels that packaging/requirements.lock names.
#
#   scripts/deb.sh [FOLDER]
#
# On Debian, as any user, with debhelper and python3-pip-whl (scripts/parts.sh installs them), whose
# scripts of maintenance are right where our own would only look so. Wheels are kept in .parts/wheels;
# with them there, nothing is fetched. The same source and Python give the
# same bytes. REGISTRYD_DEB_VERSION names another version than the code's.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
parts=${REGISTRYD_PARTS:-$root/.parts}
out=${1:-$root/dist}
python=/usr/bin/python3 # the one that the package will run on
. "$root/scripts/apt-private.sh"

# The wheels of the lock, for Debian's Python; pip looks at each hash, here and where it installs.
fetch_wheels() {
    lock=$root/packaging/requirements.lock
    wheels=$parts/wheels/$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-$(
        cksum <"$lock" | cut -d ' ' -f 1
    )
    [ ! -d "$wheels" ] || return 0
    say "fetching the wheels of requirements.lock"
    mkdir -p "$parts/wheels"
    partial=$(mktemp -d "$parts/wheels/.partial.XXXXXX")
    "$python" "$(find /usr/share/python-wheels -name 'pip-*.whl' | head -n 1)/pip" download --quiet \
        --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -d "$partial" \
        -r "$lock" >"$parts/wheels/log" 2>&1 || {
        tail -n 5 "$parts/wheels/log" >&2
        return 1
    }
    mv "$partial" "$wheels" 2>/dev/null || rm -rf "$partial" # another was as quick
}

if ! have dpkg-buildpackage || ! have dh; then
    say "dpkg-buildpackage and dh are missing (Debian: apt install debhelper)"
    exit 1
fi
fetch_wheels
SOURCE_DATE_EPOCH=$(source_time)
export SOURCE_DATE_EPOCH
work=$(mktemp -d "${TMPDIR:-/tmp}/registryd-deb.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
mkdir -p "$out"
"$root/scripts/dist.sh" "$work" >/dev/null
tar -xzf "$work"/registryd-*.tar.gz -C "$work"
tree=$(find "$work" -mindepth 1 -maxdepth 1 -type d)
version=${REGISTRYD_DEB_VERSION:-$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$tree/registryd/__init__.py")}
cp -a "$tree/packaging/debian" "$tree/debian"
mkdir "$tree/debian/wheels"
cp "$wheels"/*.whl "$work"/registryd-*.whl "$tree/debian/wheels"
cat >"$tree/debian/changelog" <<END
registryd ($version) stable; urgency=medium

  * What is different is in changelog.gz.

 -- $(sed -n 's/^Maintainer: //p' "$tree/debian/control")  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
(cd "$tree" && dpkg-buildpackage -b -us -uc) >"$work/log" 2>&1 || {
    tail -n 30 "$work/log" >&2
    exit 1
}
deb=$(find "$work" -maxdepth 1 -name 'registryd_*.deb')
mv "$deb" "$out/"
echo "$out/${deb##*/}"
