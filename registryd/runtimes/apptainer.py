"""apptainer and singularity: no file of their own for mirrors; the registry goes into the path.

Apptainer also reads the files of podman (the first releases of 1.4 do not). With some releases a
mirror that does not answer fails the pull, so nothing is written here for it alone.
"""

from __future__ import annotations

from registryd.runtimes import podman
from registryd.runtimes.plan import Decision, Plan, Reading, Seen

PROGRAMS = ("apptainer", "singularity")
LOOKS = podman.LOOKS
REGISTRIES = ("docker.io",)
NO_FILE = (
    "apptainer has no file of its own for mirrors: put the registry into the path, as above. It"
    " also reads podman's (registryctl setup podman), but not in its first releases of 1.4, and"
    " then a daemon that is down may fail its pulls"
)


def decide(plan: Plan, seen: Seen) -> Decision:
    """Nothing to write: what to type instead."""
    names = plan.registries or REGISTRIES
    commands = [
        f"apptainer pull --no-https docker://{plan.address}/{name}/"
        + ("library/alpine" if name == "docker.io" else "NAME")
        for name in names
    ]
    return Decision(notes=(NO_FILE,), commands=tuple(commands))


def read(seen: Seen, known: frozenset[str]) -> Reading | None:
    """What podman's files make it do."""
    return podman.read(seen, known)
