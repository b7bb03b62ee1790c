#!/bin/sh
# Slurm's TaskProlog: a step whose image could not be brought here fails with one clear line;
# otherwise it finds the image, by its digest, in REGISTRYD_IMAGE.
#
# It runs as the user, once for every task, so it starts no program.
record=/run/registryd/slurm/job-${SLURM_JOB_ID:-}
[ -r "$record" ] || exit 0
state='' asked='' image='' code='' error=''
while read -r key value; do
    case $key in
        state) state=$value ;;
        asked) asked=$value ;;
        image) image=$value ;;
        code) code=$value ;;
        error) error=$value ;;
    esac
done <"$record"

# A step that asks for another image than its job is not our business.
case ${REGISTRYD_IMAGE:-$asked} in
    "$asked" | "$image") ;;
    *) exit 0 ;;
esac
if [ "$state" = ready ]; then
    printf 'export REGISTRYD_IMAGE=%s\n' "$image"
    exit 0
fi
# Not with the node's logins: it is fetched with the user's own when it is started.
[ "$code" != 3 ] || exit 0
[ "$state" = failed ] || error='it was not here in time'
[ "${SLURM_LOCALID:-0}" != 0 ] ||
    printf 'print registryd: %s could not be brought to %s: %s\n' \
        "$asked" "${SLURMD_NODENAME:-this node}" "$error"
exit 1
