#!/bin/sh
# Builds dist/registryd_VERSION_ARCH.oci.tar, the image of registryd itself: the Debian package (made
# first where it is not in the folder) in a clean Debian; registryctl proves it and writes the archive.
#
#   scripts/image.sh [FOLDER]
#
# As root, on Debian. The same package and the same clean Debian give the same digest.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=${REGISTRYD_VENV:-$root/.venv}
out=${1:-$root/dist}
. "$root/scripts/apt-private.sh"

"$root/scripts/setup.sh" --dev
deb=$(find "$out" -maxdepth 1 -name 'registryd_*.deb' 2>/dev/null | head -n 1)
[ -n "$deb" ] || deb=$("$root/scripts/deb.sh" "$out")
work=$(mktemp -d "${TMPDIR:-/tmp}/registryd-image.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
cd "$root"
version=$("$venv/bin/python" -m scripts.own_image "$deb" "$work/layout")
archive=${deb%.deb}.oci.tar
rm -f "$archive"
"$venv/bin/registryctl" validate --quiet "oci:$work/layout:$version" >&2
"$venv/bin/registryctl" copy --quiet "oci:$work/layout:$version" "oci-archive:$archive:$version" >&2
echo "$archive"
