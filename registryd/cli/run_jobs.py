"""Which job of a batch system a command is part of."""

from __future__ import annotations

from collections.abc import Mapping

#: Variables by which a batch system names a job, and its step: whose are the same are of one
#: company. It ends a step's processes together, so nobody else may depend on them.
JOBS = (("SLURM_JOB_ID", "SLURM_STEP_ID"), ("PBS_JOBID",), ("FLUX_JOB_ID",), ("LSB_JOBID",))


def job_of(environ: Mapping[str, str]) -> str:
    """What those of one step, or else of one job, have in common; nothing outside of any."""
    for names in JOBS:
        if environ.get(names[0]):
            return " ".join(f"{name}={environ.get(name, '')}" for name in names)
    return ""
