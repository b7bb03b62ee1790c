#!/bin/sh
# Builds the wheel and the source archive into dist/ (or the folder named); .venv is made for it.
#
#   scripts/dist.sh [FOLDER]
#
# The same source gives the same bytes: times are those of the commit, or of SOURCE_DATE_EPOCH.
# The wheel is built from the source archive, so nothing is missing there.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
out=${1:-$root/dist}
. "$root/scripts/apt-private.sh"

"$root/scripts/setup.sh" --dev
mkdir -p "$out"
rm -f "$out"/registryd-*.whl "$out"/registryd-*.tar.gz
SOURCE_DATE_EPOCH=$(source_time) "${REGISTRYD_VENV:-$root/.venv}/bin/python" -m build \
    --no-isolation --outdir "$out" "$root" >"$out/build.log" 2>&1 || {
    tail -n 20 "$out/build.log" >&2
    exit 1
}
rm "$out/build.log"
ls "$out"/registryd-*.whl "$out"/registryd-*.tar.gz
