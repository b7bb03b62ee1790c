#!/bin/sh
# Makes the Python environment that registryd runs in.
#
#   scripts/setup.sh         what the program needs
#   scripts/setup.sh --dev   and what its tests and checks need
#
# The environment is .venv beside this project, or where REGISTRYD_VENV says. REGISTRYD_PYTHON names
# the interpreter to use. Pip's own variables and proxies work as ever. A second call does nothing
# unless pyproject.toml, the interpreter or the place has changed.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=${REGISTRYD_VENV:-$root/.venv}
parts=${REGISTRYD_PARTS:-$root/.parts}
extra=
case ${1:-} in
    --dev) extra='[dev]' ;;
    '') ;;
    *) echo "usage: setup.sh [--dev]" >&2; exit 64 ;;
esac
. "$root/scripts/apt-private.sh"

find_python() {
    for python in ${REGISTRYD_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$python" -c 'import os, sys; print(os.path.realpath(sys.executable))'
            return
        fi
    done
    say "no Python of 3.11 or later was found (set REGISTRYD_PYTHON to one)"
    return 1
}

# A Python without ensurepip is Debian's without python3-venv.
make_venv() {
    if [ -n "$(ls -A "$venv" 2>/dev/null)" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
        say "$venv is not empty, and no Python environment: it is left alone"
        return 1
    fi
    if ! "$python" -c 'import ensurepip' 2>/dev/null && is_root && have apt-get; then
        say "installing python3-venv"
        apt_install python3-venv || say "python3-venv could not be installed"
    fi
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv --clear "$venv"
        return
    fi
    wheel=$(pip_wheel)
    if [ -z "$wheel" ] && have apt-get; then
        say "fetching pip"
        apt_unpack python3-pip-whl || :
        wheel=$(pip_wheel)
    fi
    if [ -z "$wheel" ]; then
        say "$python has neither ensurepip nor pip (install the package python3-venv)"
        return 1
    fi
    "$python" -m venv --clear --without-pip "$venv" || return
    "$venv/bin/python" "$wheel/pip" install --quiet --no-index --no-deps "$wheel"
}

# Debian's wheel of pip, from the system or unpacked; nothing when there is none.
pip_wheel() {
    find /usr/share/python-wheels "$parts/root/usr/share/python-wheels" -name 'pip-*.whl' \
        2>/dev/null | head -n 1
}

# The stamp says what was made: its first line of what, its second line with which packages.
python=$(find_python)
made="$python for $root"
packages="registryd, pyproject.toml $(cksum <"$root/pyproject.toml")"
stamp=
[ ! -x "$venv/bin/python" ] || stamp=$(cat "$venv/stamp" 2>/dev/null) || :
case $stamp in
    "$made
$packages$extra" | "$made
$packages[dev]") exit 0 ;; # an environment for development has all that a plain one has
    "$made
"*) ;;
    *)
        say "making $venv with $python"
        make_venv
        ;;
esac
echo "$made" >"$venv/stamp"
say "installing registryd$extra into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root$extra"
printf '%s\n%s\n' "$made" "$packages$extra" >"$venv/stamp"
