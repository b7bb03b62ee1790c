#!/bin/sh
# Flux's job-manager prolog (perilog plugin), run on each node of a job as root.
#
# UNTESTED: no Flux was at hand. In /etc/flux/system/prolog.d (mode 0755), with flux_epilog.sh in
# epilog.d. A job asks for an image by: flux run --setattr=system.registryd.image=NAME ...
# (resolve it first: registryctl digest --full-ref NAME). It always ends with 0.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=/root
export PATH HOME
registryctl=registryctl

image=$(flux job info "${FLUX_JOB_ID:-0}" jobspec 2>/dev/null |
    sed -n 's/.*"registryd": *{[^}]*"image": *"\([^"]*\)".*/\1/p')
[ -n "$image" ] || exit 0
# A number for the pin: the last ten digits of the job's id in decimal.
job=$(flux job id --to=dec "$FLUX_JOB_ID" | sed 's/.*\(.\{10\}\)$/\1/')
SLURM_JOB_ID=$job SLURM_JOB_UID=${FLUX_JOB_USERID:-0} SPANK_REGISTRYD_IMAGE=$image \
    timeout -k 5 330 "$registryctl" slurm prolog --timeout 5m || :
exit 0
