#!/bin/sh
# Makes the Debian programs available that the tests run registryd against.
#
# Only what is missing is fetched: as root it is installed (and no service is started or left
# enabled), else it is unpacked into .parts/root (or REGISTRYD_PARTS). Afterwards .parts/env, which
# a shell sources, has the PATH and LD_LIBRARY_PATH under which the programs run.
# Ends with 1 and names what is missing when something cannot be had.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
parts=${REGISTRYD_PARTS:-$root/.parts}
. "$root/scripts/apt-private.sh"

# program:package
PROGRAMS='skopeo:skopeo podman:podman buildah:buildah umoci:umoci docker-registry:docker-registry
    containerd:containerd ctr:containerd dockerd:docker.io nginx:nginx-light crun:crun
    busybox:busybox-static htpasswd:apache2-utils curl:curl openssl:openssl
    systemd-analyze:systemd systemd-socket-activate:systemd wrk:wrk
    scontrol:slurm-client nats-server:nats-server ip:iproute2 tc:iproute2
    faketime:faketime zsh:zsh fish:fish promtool:prometheus
    tar2sqfs:squashfs-tools-ng unsquashfs:squashfs-tools mksquashfs:squashfs-tools
    squashfuse:squashfuse squashfuse_ll:squashfuse fusermount3:fuse3 bwrap:bubblewrap runc:runc
    mke2fs:e2fsprogs debugfs:e2fsprogs mkfs.erofs:erofs-utils fsck.erofs:erofs-utils
    mkfs.btrfs:btrfs-progs
    siftool:siftool ch-run:charliecloud
    munged:munge slurmctld:slurmctld slurmd:slurmd srun:slurm-client
    gcc:gcc make:make mpicc:libmpich-dev shellcheck:shellcheck setpriv:util-linux
    chromium-headless-shell:chromium-headless-shell
    dh:debhelper dpkg-buildpackage:dpkg-dev mmdebstrap:mmdebstrap'

write_env() {
    mkdir -p "$parts"
    own=$parts/root
    {
        # What the system has comes first.
        printf "PATH=\"\$PATH\":/usr/sbin:/sbin:'%s'\n" \
            "$own/usr/bin:$own/usr/sbin:$own/bin:$own/sbin"
        libraries=
        # conmon, netavark, systemd's and Slurm's own libraries are found by their folder only.
        for folder in "$own"/usr/lib/*-linux-gnu* "$own"/lib/*-linux-gnu* \
            "$own"/usr/lib/*-linux-gnu*/systemd "$own"/usr/lib/*-linux-gnu*/slurm-wlm; do
            [ ! -d "$folder" ] || libraries=$libraries${libraries:+:}$folder
        done
        [ -z "$libraries" ] || printf \
            "LD_LIBRARY_PATH='%s'\"\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}\"\n" "$libraries"
        echo 'export PATH'
        [ -z "$libraries" ] || echo 'export LD_LIBRARY_PATH'
    } >"$parts/env.$$"
    mv "$parts/env.$$" "$parts/env"
}

# The packages whose programs are not there, each once.
missing() (
    . "$parts/env"
    for pair in $PROGRAMS; do
        have "${pair%%:*}" || echo "${pair##*:}"
    done | sort -u
    [ -s /etc/ssl/certs/ca-certificates.crt ] || [ ! -x /usr/bin/apt-get ] || ! is_root ||
        echo ca-certificates
    # Neither are pip's wheel and headers programs; only root can be the nodes that load what is
    # built with these.
    [ -d /usr/share/python-wheels ] || [ ! -x /usr/bin/apt-get ] || ! is_root || echo python3-pip-whl
    [ -e /usr/include/slurm/spank.h ] || [ ! -x /usr/bin/apt-get ] || ! is_root ||
        echo libslurm-dev
)

# Debian enables what it installs; a machine that only runs tests wants none of these at boot.
disable_services() {
    [ -d /run/systemd/system ] || return 0
    for package in "$@"; do
        case $package in
            docker-registry | containerd | nats-server) systemctl disable --quiet "$package" || true ;;
            prometheus) systemctl disable --quiet prometheus || true ;;
            nginx-light) systemctl disable --quiet nginx || true ;;
            docker.io) systemctl disable --quiet docker.socket docker.service || true ;;
            slurm-client) systemctl disable --quiet munge || true ;; # which it depends on
            munge | slurmctld | slurmd) systemctl disable --quiet "$package" || true ;;
            podman) systemctl disable --quiet podman.socket podman-auto-update.timer \
                podman-restart.service podman.service || true ;;
        esac
    done
}

# The clean Debian that packages are tested in takes half a minute, once; without it those tests skip.
make_clean_root() {
    ! is_root || ! have mmdebstrap || "$root/scripts/clean_root.sh" >/dev/null ||
        say "no clean Debian for the tests of packages"
}

write_env
wanted=$(missing)
[ -n "$wanted" ] || {
    make_clean_root
    exit 0
}
# shellcheck disable=SC2086 # a list of names
set -- $wanted
if ! have apt-get; then
    say "these are missing, and apt-get is not here to fetch them: $*"
    exit 1
fi
if is_root; then
    say "installing $*"
    { apt_install "$@" && disable_services "$@"; } || say "could not install; unpacking instead"
fi
wanted=$(missing)
if [ -n "$wanted" ]; then
    # shellcheck disable=SC2086
    set -- $wanted
    say "unpacking $* into $parts/root"
    apt_unpack "$@" || say "some packages could not be fetched"
    write_env
fi
wanted=$(missing)
if [ -n "$wanted" ]; then
    # shellcheck disable=SC2086
    say "still missing:" $wanted
    exit 1
fi
make_clean_root
