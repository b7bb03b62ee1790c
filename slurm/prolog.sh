#!/bin/sh
# Slurm's Prolog: brings the image that a job asks for to this node, before its first step.
#
# slurmd runs it as root with no PATH and no HOME, on all nodes of a job at once. It always ends
# with 0: a prolog that fails drains its node. What went wrong is told to the job's steps by
# task_prolog.sh.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=/root
export PATH HOME
registryctl=registryctl

# Jobs that ask for no image cost nothing.
case "${SPANK_REGISTRYD_IMAGE:-}${SPANK__SLURM_SPANK_OPTION_registryd_image:-} ${SLURM_JOB_COMMENT:-}" in
    ' ') exit 0 ;;
    ' '*image=*) ;;
    ' '*) exit 0 ;;
esac

# The second limit is for a registryctl that does not end by itself.
timeout -k 5 330 "$registryctl" slurm prolog --timeout 5m --keep 8d || :
exit 0
