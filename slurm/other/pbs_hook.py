"""PBS's hook for execjob_begin and execjob_end: a job's image is on its nodes before it starts.

UNTESTED: no PBS was at hand. As PBS's administrator:

    qmgr -c "create hook registryd event='execjob_begin,execjob_end'"
    qmgr -c "import hook registryd application/x-python default pbs_hook.py"

A job asks for an image by ``qsub -v REGISTRYD_IMAGE=NAME``; resolve it first, so that all nodes start
the same: ``qsub -v REGISTRYD_IMAGE=$(registryctl digest --full-ref NAME)``. A job whose image cannot
be had is let start: it then says so itself.
"""

import os
import subprocess

import pbs

REGISTRYCTL = "/usr/local/bin/registryctl"
#: Seconds; less than the hook's alarm (30 unless it is set: ``set hook registryd alarm=330``).
TIMEOUT = 300
#: What slurm prolog is told of a job; PBS's own names are others.
PATHS = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


def number_of(job_id):
    """The number of a job ("4711.server", "4711[3].server"), by which its pin is called."""
    return "".join(letter for letter in job_id.split(".")[0] if letter.isdigit())[:10]


def run(command, environ):
    """Run registryctl; whatever it ends with, the job goes on."""
    try:
        subprocess.call(
            [REGISTRYCTL, "slurm", *command], env=dict(PATHS, **environ), timeout=TIMEOUT
        )
    except (OSError, subprocess.SubprocessError) as error:
        pbs.logmsg(pbs.LOG_WARNING, "registryd: %s" % error)


def main():
    """Bring or let go of the image of the event's job."""
    event = pbs.event()
    job = event.job
    environ = {"SLURM_JOB_ID": number_of(str(job.id))}
    if event.type == pbs.EXECJOB_END:
        run(["epilog"], environ)
        return
    variables = job.Variable_List or {}
    image = variables.get("REGISTRYD_IMAGE")
    if image:
        import pwd

        uid = pwd.getpwnam(str(job.euser)).pw_uid
        environ.update(SLURM_JOB_UID=str(uid), SPANK_REGISTRYD_IMAGE=str(image))
        run(["prolog"], environ)


if os.path.exists(REGISTRYCTL):
    main()
pbs.event().accept()
